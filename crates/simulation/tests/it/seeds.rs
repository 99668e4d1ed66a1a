//! Seeds as they come: the long form is `cargo xtask simulate`.

use std::sync::LazyLock;

use greffe_simulation::{Done, Op, Origin, draw, run};

pub(crate) static ORIGIN: LazyLock<Origin> = LazyLock::new(|| Origin::make().unwrap());

/// The first seeds; every change of the steps makes others of them.
#[test]
fn the_first_seeds_break_no_promise() {
    let mut done = Done::default();
    for seed in 1..=24 {
        let steps = draw(seed);
        let outcome = run(&ORIGIN, seed, &steps).unwrap();
        let told = || outcome.trace.join("\n");
        assert_eq!(outcome.broken, None, "seed {seed}:\n{}", told());
        done += outcome.done;
    }
    // They do something.
    assert!(done.sent > 24 && done.shown > 24, "{done:?}");
    assert!(done.opened > 4, "{done:?}");
}

#[test]
fn seeds_draw_everything_that_can_happen() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..2000 {
        for step in draw(seed) {
            let name = format!("{:?}", step.op);
            seen.insert(name.split(['(', ' ']).next().unwrap_or_default().to_owned());
        }
    }
    assert_eq!(seen.len(), 19, "{seen:?}");
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    assert!(draw(1).iter().any(|step| step.op != Op::Wait));
}
