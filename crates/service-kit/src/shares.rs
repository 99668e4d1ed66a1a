//! So much of something for everybody together, and so much of it for each: nobody can take it all.
//!
//! Nothing waits here. Who gets nothing is told so, and by when to come back, and holds no place while it waits. A name is
//! remembered for as long as it holds something, so what is remembered is bounded by what is given out.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::Code;

use crate::errors::{Reason, ServiceError};

/// When one who was refused may try again.
const LATER: Duration = Duration::from_millis(250);

/// Something that is given out in shares.
#[derive(Debug)]
pub struct Shares {
    all: u64,
    each: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: u64,
    each: HashMap<Arc<str>, u64>,
}

/// Why nothing was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Everybody together has all there is.
    All,
    /// This one has its share.
    Each,
}

impl Full {
    /// The refusal: RESOURCE_EXHAUSTED with RetryInfo. `what` is what there is too much of, such as "calls at once".
    pub fn refuse(self, reason: Reason, what: &str) -> ServiceError {
        let (message, whose) = match self {
            Self::All => (
                format!("too many {what}: as many as this process takes on are under way"),
                "process",
            ),
            Self::Each => (
                format!(
                    "too many {what}: this caller has its share of them, and more when one of them has ended"
                ),
                "caller",
            ),
        };
        ServiceError::new(Code::ResourceExhausted, reason, message)
            .with("whose", whose)
            .retry_after(LATER)
    }
}

impl Shares {
    /// `all` together, and of that at most `each`.
    pub fn new(all: u64, each: u64) -> Arc<Self> {
        Arc::new(Self {
            all,
            each,
            held: Mutex::default(),
        })
    }

    /// Gives `who` so much, if there is so much left and it is no more than `who` may have.
    ///
    /// # Errors
    /// [`Full`]; nothing is given then.
    pub fn take(self: &Arc<Self>, who: impl Display, amount: u64) -> Result<Share, Full> {
        self.take_within(who, self.each, amount)
    }

    /// As [`Shares::take`], for one whose share is another.
    ///
    /// # Errors
    /// [`Full`]; nothing is given then.
    pub fn take_within(
        self: &Arc<Self>,
        who: impl Display,
        each: u64,
        amount: u64,
    ) -> Result<Share, Full> {
        let who: Arc<str> = who.to_string().into();
        let mut share = Share {
            of: self.clone(),
            who,
            each,
            amount: 0,
        };
        share.grow(amount)?;
        Ok(share)
    }

    /// How many hold something, and how much is given out.
    pub fn given(&self) -> (usize, u64) {
        let held = self.lock();
        (held.each.len(), held.all)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Each change is made in one step: what a panic left behind is whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What somebody holds; dropping it gives it back.
#[derive(Debug)]
pub struct Share {
    of: Arc<Shares>,
    who: Arc<str>,
    each: u64,
    amount: u64,
}

impl Share {
    /// Takes more.
    ///
    /// # Errors
    /// [`Full`]; what was held is held on.
    pub fn grow(&mut self, more: u64) -> Result<(), Full> {
        if more == 0 {
            return Ok(());
        }
        let mut held = self.of.lock();
        let all = held.all.saturating_add(more);
        if all > self.of.all {
            return Err(Full::All);
        }
        let mine = held.each.get(&self.who).copied().unwrap_or_default();
        let mine = mine.saturating_add(more);
        if mine > self.each {
            return Err(Full::Each);
        }
        held.all = all;
        held.each.insert(self.who.clone(), mine);
        self.amount = self.amount.saturating_add(more);
        Ok(())
    }

    /// Gives back what is held beyond `amount`.
    pub fn keep(&mut self, amount: u64) {
        let amount = self.amount.saturating_sub(amount);
        self.amount -= amount;
        if amount == 0 {
            return;
        }
        let mut held = self.of.lock();
        held.all = held.all.saturating_sub(amount);
        if let Some(mine) = held.each.get_mut(&self.who) {
            *mine = mine.saturating_sub(amount);
            if *mine == 0 {
                held.each.remove(&self.who);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.keep(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_their_share_and_all_together_no_more_than_there_is() {
        let shares = Shares::new(5, 2);
        let mut alice = shares.take("alice", 1).unwrap();
        alice.grow(1).unwrap();
        assert_eq!(alice.grow(1), Err(Full::Each));
        assert_eq!(shares.take("alice", 1).unwrap_err(), Full::Each);
        let bob = shares.take("bob", 2).unwrap();
        assert_eq!(shares.take("carol", 2).unwrap_err(), Full::All);
        let carol = shares.take("carol", 1).unwrap();
        assert_eq!(shares.take("dan", 1).unwrap_err(), Full::All);
        drop(alice);
        let dan = shares.take("dan", 2).unwrap();
        assert_eq!(shares.given(), (3, 5));
        drop((bob, carol, dan));
        assert_eq!(shares.given(), (0, 0), "nobody is remembered");
    }

    #[test]
    fn what_is_refused_changes_nothing_and_some_may_have_more() {
        let shares = Shares::new(8, 2);
        assert_eq!(shares.take("alice", 3).unwrap_err(), Full::Each);
        assert_eq!(shares.take("alice", u64::MAX).unwrap_err(), Full::All);
        assert_eq!(shares.given(), (0, 0));
        let mut relay = shares.take_within("relay", 4, 4).unwrap();
        assert_eq!(relay.grow(1), Err(Full::Each));
        relay.keep(3);
        assert_eq!(shares.given(), (1, 3));
        relay.keep(0);
        assert_eq!(shares.given(), (0, 0));
        relay.grow(4).unwrap();
        assert_eq!(shares.given(), (1, 4));
    }

    #[test]
    fn a_refusal_says_whose_share_it_is_and_when_to_come_back() {
        use crate::errors::CallError;
        let reason = Reason::new("TOO_MANY_CALLS");
        let said = CallError::from(tonic::Status::from(
            Full::Each.refuse(reason, "calls at once"),
        ));
        assert_eq!(said.code, Code::ResourceExhausted);
        assert!(said.is(reason) && said.retry_after == Some(LATER));
        assert_eq!(
            said.metadata.get("whose").map(String::as_str),
            Some("caller")
        );
    }
}
