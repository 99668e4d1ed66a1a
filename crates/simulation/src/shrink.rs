//! A failing seed with fewer steps: whatever can be left out, while the same promise is still broken, is left out.

use crate::steps::Step;

/// Runs steps again; gives the broken promise.
pub trait Again: FnMut(&[Step]) -> Option<String> {}

impl<F: FnMut(&[Step]) -> Option<String>> Again for F {}

/// The fewest steps found that break the same promise.
pub fn shrink(mut steps: Vec<Step>, broken: &str, mut again: impl Again) -> Vec<Step> {
    let same =
        |found: Option<String>| found.is_some_and(|found| promise(&found) == promise(broken));
    let mut part = steps.len().div_ceil(2);
    while part > 0 {
        let (mut at, mut shorter) = (0, false);
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + part).min(steps.len()));
            if same(again(&fewer)) {
                steps = fewer;
                shorter = true;
            } else {
                at += part;
            }
        }
        if part > 1 || !shorter {
            part /= 2;
        }
    }
    steps
}

/// What a finding begins with: which promise it is, or the finding itself.
fn promise(broken: &str) -> &str {
    broken
        .split_once(':')
        .map_or(broken, |(promise, _)| promise)
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::steps::{Op, draw};

    #[test]
    fn what_is_not_needed_is_left_out() {
        let mut steps = draw(3);
        let needed = [Op::Crash("relay", 77), Op::Hold];
        for (op, at) in needed.into_iter().zip([2, 5]) {
            let then = Duration::ZERO;
            steps.insert(at, Step { op, then });
        }
        let mut runs = 0;
        let left = shrink(steps, "P2: a", |steps: &[Step]| {
            runs += 1;
            let all = needed.iter().all(|op| steps.iter().any(|s| s.op == *op));
            all.then(|| "P2: b".to_owned())
        });
        assert_eq!(left.iter().map(|step| step.op).collect::<Vec<_>>(), needed);
        assert!(runs < 60);
        let other = shrink(left.clone(), "P2: a", |_: &[Step]| Some("P6: c".to_owned()));
        assert_eq!(other, left);
    }
}
