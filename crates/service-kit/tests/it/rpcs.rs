//! Every RPC of the contracts has a rule, and the golden file shows who may call it: a new RPC is a visible change there.

use std::fmt::Write as _;

use greffe_policy::AccessRules;

/// Written anew with `GREFFE_GOLDEN=write`.
const GOLDEN: &str = "tests/golden/rpcs.txt";

#[test]
fn every_rpc_has_a_rule_and_no_rule_is_for_nothing() {
    let rules = AccessRules::embedded();
    let methods = greffe_api::methods();
    let mut found = String::new();
    for method in &methods {
        let callers = rules
            .callers(method)
            .unwrap_or_else(|| panic!("{method} has no rule in policies/access/callers.toml"));
        let callers: Vec<String> = callers.iter().map(ToString::to_string).collect();
        writeln!(found, "{method}: {}", callers.join(", ")).unwrap();
    }
    for method in rules.methods() {
        assert!(
            methods.contains(&format!("/{method}")),
            "the rule of {method} is for no RPC"
        );
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    if std::env::var_os("GREFFE_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::write(&path, &found).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        found, golden,
        "who may call what has changed: review, then write the golden file with GREFFE_GOLDEN=write"
    );
}
