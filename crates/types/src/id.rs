//! The 16-byte identifiers, one type each so that they cannot be mistaken for one another.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{HexError, from_hex, to_hex};

/// An identifier or digest of the wrong length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdError {
    /// Which identifier.
    pub what: &'static str,
    /// Bytes it should have.
    pub expected: usize,
    /// Bytes it has.
    pub found: usize,
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a {} has {} bytes, this one has {}",
            self.what, self.expected, self.found
        )
    }
}

impl core::error::Error for IdError {}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// From its bytes.
            pub const fn new(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// Its bytes, owned, as protobuf wants them.
            pub fn to_vec(&self) -> Vec<u8> {
                self.0.to_vec()
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError { what: $what, expected: 16, found: bytes.len() })
            }
        }

        impl FromStr for $name {
            type Err = HexError;

            fn from_str(text: &str) -> Result<Self, HexError> {
                from_hex(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A conversation: its MLS group id.
    ConversationId, "conversation id"
);
id!(
    /// A message: fresh for every attempt to send.
    MessageId, "message id"
);
id!(
    /// A device of a user.
    DeviceId, "device id"
);
id!(
    /// A matter: the case that holds and orders belong to.
    MatterId, "matter id"
);
id!(
    /// An order to open records.
    OrderId, "order id"
);
id!(
    /// A person's act.
    ActId, "act id"
);
id!(
    /// A ceremony's session.
    SessionId, "session id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sixteen_bytes_of_strict_hexadecimal() {
        let id = DeviceId::new([7; 16]);
        assert_eq!(id.to_string().parse::<DeviceId>(), Ok(id));
        assert!("07".parse::<DeviceId>().is_err());
        assert_eq!(
            DeviceId::try_from(&[1_u8, 2][..]).map_err(|e| e.to_string()),
            Err("a device id has 16 bytes, this one has 2".to_owned())
        );
    }
}
