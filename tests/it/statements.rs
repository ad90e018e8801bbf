//! Every statement that the service has is one that the migrated database accepts.

use crate::harness::TestDatabase;

#[tokio::test]
async fn every_statement_can_be_prepared() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let statements: Vec<_> = chatledger::store::statements()
        .chain(chatledger::ledger::statements())
        .chain(chatledger::migrations::statements())
        .chain(chatledger_transfer::statements())
        .collect();
    assert!(statements.len() > 40, "only {} statements", statements.len());
    for sql in statements {
        let prepared = client.prepare_typed(sql.text, sql.params).await;
        let prepared = prepared.unwrap_or_else(|error| panic!("{error:?} in\n{}", sql.text));
        // Postgres deduces no type that the service doesn't give.
        assert_eq!(prepared.params(), sql.params, "{}", sql.text);
    }
}
