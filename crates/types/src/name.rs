//! Names that people and configuration use: tenants and users.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// A tenant is 1 to 63 characters of `a-z`, `0-9` and `-`.
    Tenant,
    /// A user is 1 to 255 bytes of UTF-8 without control characters or leading or trailing space.
    User,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tenant => "a tenant's name is 1 to 63 characters of a-z, 0-9 and '-'",
            Self::User => "a user's name is 1 to 255 bytes of UTF-8 without control characters or outer spaces",
        })
    }
}

impl core::error::Error for NameError {}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $error:expr, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks and takes a name.
            pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
                let name = name.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&name) { Ok(Self(name)) } else { Err($error) }
            }

            /// The name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A tenant: the firm whose root, pack and journaling key apply.
    TenantId, NameError::Tenant,
    |name| (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
);
name!(
    /// A user: the directory's name of a person, such as a mail address or a nick.
    UserId, NameError::User,
    |name| (1..=255).contains(&name.len()) && !name.contains(char::is_control) && name.trim() == name
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(TenantId::new("acme-bank").is_ok());
        assert_eq!(TenantId::new("Acme"), Err(NameError::Tenant));
        assert_eq!(TenantId::new(""), Err(NameError::Tenant));
        assert!(UserId::new("|QuaD-").is_ok());
        assert_eq!(UserId::new("a\nb"), Err(NameError::User));
        assert_eq!(UserId::new(" a"), Err(NameError::User));
    }
}
