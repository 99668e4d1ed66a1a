//! Every state of every model; and each defence, taken away, is found out.
#![allow(
    clippy::print_stderr,
    reason = "how many states there were is the result"
)]

use core::fmt::Debug;
use core::hash::Hash;
use std::collections::BTreeSet;

use greffe_models::hold::Holds;
use greffe_models::release::Orders;
use greffe_models::reshare::Resharing;
use stateright::{Checker as _, HasDiscoveries, Model};

/// Nothing breaks a property, everything that should be reachable is; says how many states that took.
fn holds<M>(name: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Debug + Clone + PartialEq + Send + Sync,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    let checker = model.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.is_done(), "{name} is not exhausted");
    eprintln!(
        "{name}: {} states, {} steps deep, exhausted",
        checker.unique_state_count(),
        checker.max_depth()
    );
}

/// The checker finds a way to break this property.
fn breaks<M>(model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Debug + Clone + PartialEq + Send + Sync,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    let checker = model
        .checker()
        .finish_when(HasDiscoveries::AllOf(BTreeSet::from([property])))
        .threads(2)
        .spawn_bfs()
        .join();
    checker.assert_any_discovery(property);
}

#[test]
fn attack_48_a_hold_and_a_disposition_are_one_after_the_other() {
    holds("hold against disposition", Holds::new());
    let mut model = Holds::new();
    model.reads_in_transaction = false;
    breaks(model, "no hold stood when a disposition was decided");
    let mut model = Holds::new();
    model.refuses_late_holds = false;
    breaks(model, "a hold that was accepted finds its record alive");
}

#[test]
fn attack_47_a_clock_that_is_ahead_destroys_too_early() {
    let mut model = Holds::new();
    model.has_the_time = false;
    breaks(model, "nothing is destroyed before its time");
}

#[test]
fn attack_21_no_coordinator_opens_what_was_not_approved() {
    holds("release of an order", Orders::new());
    let mut model = Orders::new();
    model.wants_the_log = false;
    breaks(model, "every answer is to an order in the witnessed log");
    let mut model = Orders::new();
    model.verifies_approvals = false;
    breaks(model, "every answer has its approvals");
}

#[test]
fn attack_31_a_node_from_an_old_copy_catches_up_before_it_answers() {
    let mut model = Orders::new();
    model.catches_up = false;
    breaks(
        model,
        "a node that came back answers nothing that it should not",
    );
    let mut model = Orders::new();
    model.wants_recent = false;
    breaks(model, "every answer has its approvals");
    let mut model = Resharing::new();
    model.follows_before_it_answers = false;
    breaks(model, "nobody answers by an epoch that was left");
}

#[test]
fn attack_30_a_crash_leaves_the_old_committee_or_the_new_one() {
    holds("resharing with crashes", Resharing::new());
    for spoil in [
        |model: &mut Resharing| model.stores_before_it_signs = false,
        |model: &mut Resharing| model.keeps_old_until_logged = false,
        |model: &mut Resharing| model.keeps_every_signed_attempt = false,
    ] {
        let mut model = Resharing::new();
        spoil(&mut model);
        breaks(model, "the old committee or the new one can open");
    }
}
