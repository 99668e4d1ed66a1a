//! One at a time for each object: what is done to one name waits for its own kind only, however long another one takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use greffe_types::Digest;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// Names that somebody works on or waits for.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    names: Mutex<HashMap<Digest, Weak<AsyncMutex<()>>>>,
}

/// The turn of one who works on a name, or waits to. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    name: Digest,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the turn.
    pub(crate) async fn wait(&self, name: &Digest) -> Turn<'_> {
        let lock = {
            let mut names = self.names();
            let slot = names.entry(*name).or_default();
            slot.upgrade().unwrap_or_else(|| {
                let lock = Arc::new(AsyncMutex::new(()));
                *slot = Arc::downgrade(&lock);
                lock
            })
        };
        // Before the wait: one that is given up has to forget the name too.
        let mut turn = Turn {
            turns: self,
            name: *name,
            held: None,
        };
        turn.held = Some(lock.lock_owned().await);
        turn
    }

    fn names(&self) -> MutexGuard<'_, HashMap<Digest, Weak<AsyncMutex<()>>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Whoever waits has the lock too; a name that nobody has is forgotten.
        let mut names = self.turns.names();
        drop(self.held.take());
        if names
            .get(&self.name)
            .is_some_and(|lock| lock.strong_count() == 0)
        {
            names.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_waits_for_itself_alone_and_is_forgotten() {
        let turns = Arc::new(Turns::default());
        let (a, b) = (Digest::new([1; 32]), Digest::new([2; 32]));
        let first = turns.wait(&a).await;
        let other = turns.wait(&b).await;
        let waiting = {
            let turns = turns.clone();
            tokio::spawn(async move { drop(turns.wait(&a).await) })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap();
        drop(other);
        assert!(turns.names().is_empty());
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_leaves_no_name_behind() {
        let turns = Arc::new(Turns::default());
        let name = Digest::new([1; 32]);
        let first = turns.wait(&name).await;
        let waiting = {
            let turns = turns.clone();
            tokio::spawn(async move { drop(turns.wait(&name).await) })
        };
        tokio::task::yield_now().await;
        // Whoever waited is the last to let go of the lock.
        let lock = turns.names()[&name].upgrade().unwrap();
        drop(first);
        waiting.abort();
        drop(lock);
        assert!(waiting.await.unwrap_err().is_cancelled());
        assert!(turns.names().is_empty());
    }
}
