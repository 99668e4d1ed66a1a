//! What SQLite makes of statements of many rows.

use greffe_service_kit::db::sql;

use super::*;
use conversations::Advance;
use members::Sent;

/// As many as a statement takes: how many there are is what SQLite plans by.
const ROWS: usize = 128;

/// Each row is found by its key, however many are asked for: nothing goes through all that a tenant has.
#[tokio::test]
async fn statements_of_many_rows_find_each_row_by_its_key() {
    let tenant = TenantId::new("acme").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = Source::File(folder.path().join("relay.db"));
    let db = Database::open(&source, &crate::app::MIGRATIONS, DbOptions::default())
        .await
        .unwrap();
    db.take_lease(&tenant, "test").await.unwrap();
    let scope = &Scope { tenant };
    let answer = Answer {
        receipt: vec![1],
        void: None,
        head: Digest::ZERO,
        release: 1,
    };
    let sent = Sent {
        conversation: C,
        device: A,
        counter: 1,
        previous: Digest::ZERO,
    };
    let moved = Advance {
        conversation: C,
        sequence: 2,
        released: 1,
        head: Digest::ZERO,
    };
    for count in [1, 40, ROWS] {
        let statements = [
            standing::taken_of(scope, &vec![(C, MessageId::new([1; 16])); count]),
            answers::unanswered_of(scope, &vec![(C, 1); count]),
            answers::store_all(scope, 1, &vec![((C, 1), answer.clone()); count]),
            members::present_among(scope, &vec![(C, A); count]),
            members::set_all_counters(scope, 1, &vec![sent; count]),
            acknowledgements::given_by(scope, &vec![(C, A); count]),
            conversations::advance_all(scope, 1, &vec![moved; count]),
        ];
        for statement in statements {
            // PostgreSQL would take the index of what waits, and go through all of it for each row.
            let text = statement.to_string();
            assert!(!text.contains("receipt IS NULL"), "{text}");
            let text: &'static str = format!("EXPLAIN QUERY PLAN {statement}").leak();
            let plan = sql::query(text).fetch_all(db.read()).await.unwrap();
            let steps: Vec<String> = plan.iter().map(|row| row.at(3).unwrap()).collect();
            let through_all =
                |step: &&String| step.contains("AUTOMATIC") || step.contains("(tenant=?)");
            let found = steps.iter().find(through_all);
            assert_eq!(found, None, "{count} rows: {statement}\n{steps:#?}");
            let by_key = |step: &String| step.contains("(tenant=? AND conversation=?");
            assert!(steps.iter().any(by_key), "{steps:#?}");
        }
    }
    db.close().await.unwrap();
}
