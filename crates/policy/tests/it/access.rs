//! The table of callers: strict when read, closed by default when asked.

use greffe_policy::{AccessRules, CallRefused, Caller, CallerKind, Role};
use greffe_types::DeviceId;

const ACTS: &str = r#"
[act]
"matter.create" = ["person:legal"]
"matter.close" = ["person:legal"]
"hold.place" = ["person:legal"]
"hold.release" = ["person:legal"]
"retention.extend" = ["person:legal"]
"record.dispose" = ["person:legal"]
"#;

fn parse(rpc: &str) -> Result<AccessRules, String> {
    AccessRules::parse(&format!("{rpc}\n{ACTS}")).map_err(|error| error.to_string())
}

fn person(roles: &[Role]) -> Caller {
    Caller::Person {
        name: "ann".into(),
        roles: roles.to_vec(),
    }
}

#[test]
fn a_call_is_refused_unless_its_rule_names_the_caller() {
    let rules = parse(
        r#"[rpc."greffe.archive.v1.ArchiveService"]
        GetRecord = ["person:auditor", "escrow", "device-session"]"#,
    )
    .expect("valid");
    let method = "/greffe.archive.v1.ArchiveService/GetRecord";
    let allowed = |caller: &Caller| rules.check(method, caller).is_ok();
    assert!(allowed(&person(&[Role::Reader, Role::Auditor])));
    assert!(!allowed(&person(&[Role::Administrator])));
    assert!(!allowed(&person(&[])));
    assert!(allowed(&Caller::DeviceSession(DeviceId::new([1; 16]))));
    assert!(!allowed(&Caller::App("escrow-1".into())));
    assert!(allowed(&Caller::Service("escrow-1".into())));
    assert!(allowed(&Caller::Service("escrow-12".into())));
    for name in [
        "escrow",
        "escrow-",
        "escrow-0",
        "escrow-01",
        "escrow-1x",
        "relay",
        "Escrow-1",
    ] {
        assert!(!allowed(&Caller::Service(name.into())), "{name}");
    }
    let permit = rules
        .check(method, &Caller::Service("escrow-2".into()))
        .expect("allowed");
    assert_eq!(
        permit.what().method,
        "greffe.archive.v1.ArchiveService/GetRecord"
    );
    assert_eq!(permit.what().caller, "service:escrow-2");
}

#[test]
fn a_method_without_a_rule_is_refused_whoever_calls() {
    let rules = AccessRules::embedded();
    for method in [
        "/greffe.relay.v1.RelayService/Debug",
        "",
        "/",
        "greffe.relay.v1.RelayService",
    ] {
        assert!(matches!(
            rules.check(method, &person(&Role::ALL)),
            Err(CallRefused::NoRule(_))
        ));
        assert!(rules.callers(method).is_none());
    }
}

#[test]
fn the_embedded_table_keeps_services_apart() {
    let rules = AccessRules::embedded();
    let allowed = |method: &str, caller: &Caller| rules.check(method, caller).is_ok();
    let relay = Caller::Service("relay".into());
    assert!(allowed("greffe.archive.v1.IngestService/Ingest", &relay));
    assert!(!allowed("greffe.escrow.v1.EscrowService/Open", &relay));
    assert!(!allowed(
        "greffe.archive.v1.OrderService/FetchRecords",
        &relay
    ));
    assert!(!allowed(
        "greffe.escrow.v1.WitnessService/AddCheckpoint",
        &relay
    ));
    let ingests = rules
        .methods()
        .filter(|name| name.contains("IngestService"));
    assert!(ingests.count() > 0, "the table is empty");
    for method in rules.methods() {
        let callers = rules.callers(method).expect("listed");
        let administrator = CallerKind::Person(Role::Administrator);
        assert!(!callers.contains(&administrator), "{method}");
        // Only the relay writes records, only services write the log.
        if method.contains("IngestService") || method.contains("AuditService") {
            assert!(callers.iter().all(|c| matches!(c, CallerKind::Service(_))));
        }
    }
}

#[test]
fn kinds_of_callers_are_written_as_the_table_has_them() {
    let names = "app device-session relay archive audit escrow supervision person:legal";
    for name in names.split(' ') {
        let kind: CallerKind = name.parse().expect("a kind");
        assert_eq!(kind.to_string(), name);
    }
}

#[test]
fn acts_are_asked_for_by_their_roles() {
    let rules = AccessRules::embedded();
    assert!(rules.check_act("hold.place", "lea", &[Role::Legal]).is_ok());
    let refused = rules
        .check_act(
            "hold.release",
            "adam",
            &[Role::Administrator, Role::Auditor],
        )
        .expect_err("must refuse");
    assert_eq!(refused.reason(), "CALLER_NOT_ALLOWED");
    let unknown = rules
        .check_act("record.shred", "lea", &Role::ALL)
        .expect_err("must refuse");
    assert_eq!(unknown.reason(), "NO_ACCESS_RULE");
}

#[test]
fn mistakes_in_the_table_are_refused() {
    let rule = |callers: &str| parse(&format!("[rpc.\"greffe.a.v1.B\"]\nC = {callers}"));
    assert!(rule(r#"["app"]"#).is_ok());
    for callers in [
        "[]",
        r#"["app", "app"]"#,
        r#"["anyone"]"#,
        r#"["person:root"]"#,
        r#"["escrow-1"]"#,
        r#""app""#,
    ] {
        assert!(rule(callers).is_err(), "{callers}");
    }
    assert!(parse("[rpc.\"other.B\"]\nC = [\"app\"]").is_err());
    assert!(parse("[rpc.\"greffe..B\"]\nC = [\"app\"]").is_err());
    assert!(parse("[rpc.\"greffe.B\"]\n\"C/D\" = [\"app\"]").is_err());
    assert!(parse("[rpc.\"greffe.B\"]\nC = [\"app\"]\nC = [\"relay\"]").is_err());
    assert!(parse("extra = 1\n[rpc]").is_err());
    assert!(AccessRules::parse("[rpc]\n[act]").is_err());
    let app_act = format!(
        "[rpc]\n{}",
        ACTS.replace(
            "\"hold.place\" = [\"person:legal\"]",
            "\"hold.place\" = [\"app\"]"
        )
    );
    assert!(AccessRules::parse(&app_act).is_err());
    let extra_act = format!("[rpc]\n{ACTS}\"record.shred\" = [\"person:legal\"]");
    assert!(AccessRules::parse(&extra_act).is_err());
}
