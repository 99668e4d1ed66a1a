//! What the log's leaf says about a released order: the order itself, or a salted commitment while it is sealed.

use greffe_types::Digest;
use prost::Message as _;

use crate::label::hash;
use crate::pb;

/// Bytes of a sealed leaf's salt.
pub const SALT_SIZE: usize = 32;

/// The event that a released order is logged as: in full without its salt, or sealed when it has one.
pub fn order_event(released: &pb::ReleasedOrder) -> pb::log_entry::Event {
    if released.salt.is_empty() {
        pb::log_entry::Event::ReleasedOrder(released.clone())
    } else {
        pb::log_entry::Event::SealedOrder(sealed_order(released).to_vec())
    }
}

/// `H("sealed-order" || salt || ReleasedOrder bytes)`, the bytes being those without the salt: what is published once the
/// seal has run out.
pub fn sealed_order(released: &pb::ReleasedOrder) -> Digest {
    let plain = pb::ReleasedOrder {
        salt: Vec::new(),
        ..released.clone()
    };
    hash("sealed-order", &[&released.salt, &plain.encode_to_vec()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_leaf_commits_to_order_and_salt_and_shows_neither() {
        let order = |salt: u8, kind: &str| pb::ReleasedOrder {
            order: Some(pb::SignedStatement {
                r#type: kind.into(),
                ..Default::default()
            }),
            approvals: vec![],
            salt: vec![salt; 32],
        };
        let sealed = sealed_order(&order(1, "order"));
        assert_eq!(
            order_event(&order(1, "order")),
            pb::log_entry::Event::SealedOrder(sealed.to_vec())
        );
        assert_ne!(sealed, sealed_order(&order(2, "order")));
        assert_ne!(sealed, sealed_order(&order(1, "other")));
        let mut plain = order(1, "order");
        plain.salt.clear();
        assert_eq!(
            order_event(&plain),
            pb::log_entry::Event::ReleasedOrder(plain.clone())
        );
    }
}
