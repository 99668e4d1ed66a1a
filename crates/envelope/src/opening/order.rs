//! What the log's leaves say about a released order and each opening under it: these themselves, or commitments.

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

/// The event that an opening under a released order is logged as: in clear, or sealed when the order is. Whether the seal
/// has run out meanwhile makes no difference: a repetition has to be the same entry. `order` is what `released` holds, decoded.
pub fn opened_event(
    released: &pb::ReleasedOrder,
    order: &pb::Order,
    opened: pb::Opened,
) -> pb::log_entry::Event {
    if released.salt.is_empty() {
        pb::log_entry::Event::Opened(opened)
    } else {
        pb::log_entry::Event::SealedOpened(pb::SealedOpened {
            sealed_order: sealed_order(released).to_vec(),
            opened: sealed_opened(&order.nonce, &opened).to_vec(),
        })
    }
}

/// `H("sealed-opened" || nonce || Opened bytes)`, the nonce being the order's own 32 bytes: without it nobody can try records
/// that they know the digests of. The requester has signed it. The salt of a leaf is the archive's word: were it this one, two
/// leaves of one order would hide from whoever is shown one of them what was opened under the other.
pub fn sealed_opened(nonce: &[u8], opened: &pb::Opened) -> Digest {
    hash("sealed-opened", &[nonce, &opened.encode_to_vec()])
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

    #[test]
    fn a_sealed_opening_names_its_orders_leaf_and_is_the_same_under_any_other() {
        let opened = |envelope: u8| pb::Opened {
            order: vec![3; 32],
            envelope: vec![envelope; 32],
            key_id: vec![4; 32],
            share_epoch: vec![5; 32],
            node: "escrow-1".into(),
        };
        let mut released = pb::ReleasedOrder {
            salt: vec![1; 32],
            ..Default::default()
        };
        let order = pb::Order {
            nonce: vec![9; 32],
            ..Default::default()
        };
        let event = |released: &pb::ReleasedOrder, n| opened_event(released, &order, opened(n));
        let pb::log_entry::Event::SealedOpened(sealed) = event(&released, 7) else {
            panic!("it is in clear");
        };
        assert_eq!(sealed.sealed_order, sealed_order(&released).to_vec());
        assert_eq!(sealed.opened, sealed_opened(&[9; 32], &opened(7)).to_vec());
        assert_ne!(sealed.opened, sealed_opened(&[2; 32], &opened(7)).to_vec());
        assert_ne!(event(&released, 7), event(&released, 8));
        // The archive has the same order logged with another salt.
        released.salt = vec![2; 32];
        let pb::log_entry::Event::SealedOpened(again) = event(&released, 7) else {
            panic!("it is in clear");
        };
        assert_ne!(again.sealed_order, sealed.sealed_order);
        assert_eq!(again.opened, sealed.opened);
        released.salt.clear();
        assert_eq!(event(&released, 7), pb::log_entry::Event::Opened(opened(7)));
    }
}
