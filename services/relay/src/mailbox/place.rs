//! Where an open mailbox stands in one conversation. No IO: what comes next, and what an acknowledgement means.

use std::collections::{HashSet, VecDeque};

use greffe_types::Digest;

use crate::store::members::MemberRow;

/// A device's time in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stay {
    /// Number of the commit that added it; 0 for the creator, who needs no Welcome.
    from: u64,
    /// Last number it gets.
    until: u64,
}

/// What to send next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The Welcome of the commit with this number.
    Welcome(u64),
    /// Items after a number and up to another.
    Items(u64, u64),
    /// The last stay is over.
    Nothing,
}

/// A place in a conversation.
#[derive(Debug, Default)]
pub(super) struct Place {
    stays: Vec<Stay>,
    /// Disclosures whose notice the device has acknowledged.
    acknowledged: HashSet<Digest>,
    /// Highest number sent or taken in.
    sent: u64,
    /// Sent and not acknowledged, in order.
    open: VecDeque<u64>,
}

impl Place {
    /// Takes stays and acknowledgements in, at the start or after a change; what was sent stays sent.
    pub(super) fn update(&mut self, stays: &[MemberRow], acknowledged: HashSet<Digest>) {
        let first = self.stays.is_empty();
        self.stays = stays
            .iter()
            .map(|stay| Stay {
                from: stay.from_seq,
                until: stay.until_seq.unwrap_or(u64::MAX),
            })
            .collect();
        self.acknowledged = acknowledged;
        if first {
            // The cursor of the first stay that is not taken in whole.
            let begun = stays.iter().find(|stay| stay.has_more());
            self.sent = begun.or_else(|| stays.last()).map_or(0, |stay| stay.cursor);
        }
    }

    /// What comes next.
    pub(super) fn next(&self) -> Next {
        let Some(stay) = self.stays.iter().find(|stay| stay.until > self.sent) else {
            return Next::Nothing;
        };
        if self.sent < stay.from {
            Next::Welcome(stay.from)
        } else {
            Next::Items(self.sent, stay.until)
        }
    }

    /// Whether the device may have an item made under a disclosure.
    pub(super) fn may_have(&self, disclosure: &Digest) -> bool {
        self.acknowledged.contains(disclosure)
    }

    /// An item, or a Welcome, was sent.
    pub(super) fn sent(&mut self, sequence: u64) {
        self.sent = sequence;
        self.open.push_back(sequence);
    }

    /// How many deliveries are not acknowledged.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// The device has taken everything in up to a number: how many deliveries that closes, and the number that its cursor
    /// moves to. What was never sent cannot be acknowledged.
    pub(super) fn acknowledge(&mut self, sequence: u64) -> Option<(usize, u64)> {
        let (mut closed, mut cursor) = (0, None);
        while let Some(open) = self.open.front().copied().filter(|open| *open <= sequence) {
            self.open.pop_front();
            closed += 1;
            cursor = Some(open);
        }
        cursor.map(|cursor| (closed, cursor))
    }
}

#[cfg(test)]
mod tests {
    use greffe_types::{ConversationId, DeviceId};

    use super::*;

    fn stay(from_seq: u64, until_seq: Option<u64>, cursor: u64) -> MemberRow {
        MemberRow {
            conversation: ConversationId::new([1; 16]),
            device: DeviceId::new([2; 16]),
            user: "user".to_owned(),
            certificate: Digest::ZERO,
            from_seq,
            until_seq,
            counter: 0,
            previous: Digest::ZERO,
            cursor,
        }
    }

    fn place(stays: &[MemberRow]) -> Place {
        let mut place = Place::default();
        place.update(stays, HashSet::new());
        place
    }

    #[test]
    fn the_creator_gets_everything_and_an_added_device_its_welcome_first() {
        assert_eq!(place(&[stay(0, None, 0)]).next(), Next::Items(0, u64::MAX));
        let mut added = place(&[stay(7, None, 6)]);
        assert_eq!(added.next(), Next::Welcome(7));
        added.sent(7);
        assert_eq!(added.next(), Next::Items(7, u64::MAX));
        assert_eq!(place(&[stay(7, None, 7)]).next(), Next::Items(7, u64::MAX));
    }

    #[test]
    fn a_removed_device_gets_up_to_its_removal_and_a_second_stay_after_it() {
        let mut place = place(&[stay(0, Some(9), 8)]);
        assert_eq!(place.next(), Next::Items(8, 9));
        place.sent(9);
        assert_eq!(place.next(), Next::Nothing);
        place.update(&[stay(0, Some(9), 8), stay(20, None, 19)], HashSet::new());
        assert_eq!(place.next(), Next::Welcome(20));
        place.sent(20);
        assert_eq!(place.acknowledge(20), Some((2, 20)));
        assert_eq!(place.next(), Next::Items(20, u64::MAX));
    }

    #[test]
    fn a_new_call_begins_at_the_cursor_and_only_what_was_sent_is_acknowledged() {
        let mut place = place(&[stay(0, Some(9), 9), stay(20, None, 23)]);
        assert_eq!(place.next(), Next::Items(23, u64::MAX));
        assert_eq!(place.acknowledge(99), None);
        place.sent(24);
        place.sent(25);
        assert_eq!(place.acknowledge(24), Some((1, 24)));
        assert_eq!(place.acknowledge(99), Some((1, 25)));
        assert_eq!(place.acknowledge(99), None);
    }

    #[test]
    fn what_is_not_acknowledged_is_not_given() {
        let mut place = Place::default();
        let disclosure = Digest::new([1; 32]);
        place.update(&[stay(0, None, 0)], HashSet::from([disclosure]));
        assert!(place.may_have(&disclosure));
        assert!(!place.may_have(&Digest::new([2; 32])));
    }
}
