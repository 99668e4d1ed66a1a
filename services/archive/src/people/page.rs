//! Page tokens: the last number given, bound to the query that it continues.

use greffe_envelope::label::{hash, lp};
use greffe_service_kit::errors::ServiceError;
use greffe_types::{TenantId, from_hex, to_hex};

use super::refusal::{PAGE_TOKEN_INVALID, field};

/// Entries of a page when none are asked for.
const DEFAULT: u32 = 100;
/// Most entries of a page.
const MAX: u32 = 1000;

/// A list and the query that selects it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listing<'a> {
    /// The tenant.
    pub(crate) tenant: &'a TenantId,
    /// Which list.
    pub(crate) list: &'static str,
    /// Bytes of the query.
    pub(crate) query: &'a [u8],
}

impl Listing<'_> {
    /// The token that continues after a number.
    pub(crate) fn token(&self, after: u64) -> String {
        let mut bytes = [0_u8; 24];
        bytes[..8].copy_from_slice(&after.to_be_bytes());
        bytes[8..].copy_from_slice(&self.binding(after));
        to_hex(&bytes)
    }

    /// Where a token continues; an empty one starts.
    pub(crate) fn after(&self, token: &str) -> Result<u64, ServiceError> {
        if token.is_empty() {
            return Ok(0);
        }
        let bytes: [u8; 24] = from_hex(token).map_err(|_| PAGE_TOKEN_INVALID.refuse())?;
        let (number, binding) = bytes.split_at(8);
        let number = number.try_into().map_or(0, u64::from_be_bytes);
        if binding == self.binding(number) {
            Ok(number)
        } else {
            Err(PAGE_TOKEN_INVALID.refuse())
        }
    }

    fn binding(&self, after: u64) -> [u8; 16] {
        let parts = [
            lp(self.tenant.as_str().as_bytes()),
            lp(self.list.as_bytes()),
            lp(self.query),
        ];
        let digest = hash(
            "page-token",
            &[&parts[0], &parts[1], &parts[2], &after.to_be_bytes()],
        );
        let mut binding = [0; 16];
        binding.copy_from_slice(&digest.as_bytes()[..16]);
        binding
    }
}

/// How many entries a page has.
pub(crate) fn size(asked: u32) -> Result<u32, ServiceError> {
    match asked {
        0 => Ok(DEFAULT),
        1..=MAX => Ok(asked),
        _ => Err(field("page_size")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_continues_its_own_query_only() {
        let tenant = TenantId::new("acme").unwrap();
        let other = TenantId::new("other").unwrap();
        let listing = |tenant, list, query| Listing {
            tenant,
            list,
            query,
        };
        let own = listing(&tenant, "records", b"alice");
        let token = own.token(7);
        assert_eq!(own.after(&token).unwrap(), 7);
        assert_eq!(own.after("").unwrap(), 0);
        let mut moved = token.clone();
        moved.replace_range(15..16, "8");
        let refused = |listing: &Listing<'_>, token: &str| {
            listing.after(token).unwrap_err().reason().as_str() == "PAGE_TOKEN_INVALID"
        };
        assert!(refused(&own, &moved));
        assert!(refused(&own, "7"));
        assert!(refused(&own, &token[..46]));
        assert!(refused(&listing(&tenant, "records", b"bob"), &token));
        assert!(refused(&listing(&tenant, "orders", b"alice"), &token));
        assert!(refused(&listing(&other, "records", b"alice"), &token));
        assert!(size(1000).is_ok() && size(1001).is_err());
    }
}
