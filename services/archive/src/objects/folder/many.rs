//! Many files at once: an fsync waits for the disk, and a disk makes what several wait for durable together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use greffe_service_kit::simulation;

use super::FolderError;

/// Files that are worked on at a time: enough for the disk to make several durable together.
const AT_ONCE: usize = 8;

/// Does the same to all, several at a time; nothing more is begun once one has failed.
///
/// # Errors
/// The first failure; what was begun has ended by then.
pub(super) fn side_by_side<T: Sync>(
    all: &[T],
    work: impl Fn(&T) -> Result<(), FolderError> + Sync,
) -> Result<(), FolderError> {
    if let [one] = all {
        return work(one);
    }
    // What happens on other threads, a simulation does not see.
    let at_once = if simulation::is_on() { 1 } else { AT_ONCE };
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let run = || {
        while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(one) {
                next.store(all.len(), Ordering::Relaxed);
                let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert(error);
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..at_once.min(all.len()) {
            scope.spawn(run);
        }
        run();
    });
    failed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use greffe_types::Digest;

    use super::*;

    #[test]
    fn every_one_has_its_turn_and_several_at_a_time() {
        for count in [0, 1, 2, AT_ONCE, 100] {
            let done: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            side_by_side(&done, |one| {
                one.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
            .unwrap();
            assert!(done.iter().all(|one| one.load(Ordering::Relaxed) == 1));
        }
        // Nobody gets past it alone.
        let all = Barrier::new(AT_ONCE);
        side_by_side(&[(); AT_ONCE], |()| {
            all.wait();
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn after_a_failure_nothing_more_is_begun() {
        let begun = AtomicUsize::new(0);
        let result = side_by_side(&[(); 1000], |()| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err(FolderError::Missing(Digest::new([1; 32])))
        });
        assert!(matches!(result, Err(FolderError::Missing(_))));
        assert!(begun.into_inner() <= AT_ONCE);
    }
}
