//! Every statement that the service has is one that the migrated database accepts, and answers the columns that are read of it.

use crate::harness::TestDatabase;

#[tokio::test]
async fn every_statement_can_be_prepared_and_answers_its_columns() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    let mut count = 0;
    for statement in chatledger::statements::all().chain(chatledger_transfer::statements()) {
        let (name, sql) = (statement.sql.name, &statement.sql);
        let prepared = client.prepare_typed(sql.text, sql.params).await;
        let prepared = prepared.unwrap_or_else(|error| panic!("{name}: {error:?} in\n{}", sql.text));
        // Postgres deduces no type that the service doesn't give.
        assert_eq!(prepared.params(), sql.params, "{name}");
        let columns: Vec<_> = prepared
            .columns()
            .iter()
            .map(|column| (column.name(), column.type_().clone()))
            .collect();
        assert_eq!(columns, statement.columns, "{name}");
        count += 1;
    }
    assert!(count > 50, "only {count} statements");
}

#[tokio::test]
async fn the_versions_of_the_sets_can_be_asked_for() {
    let database = TestDatabase::new().await;
    let client = database.client().await;
    for sql in chatledger::migrations::statements() {
        let prepared = client.prepare_typed(sql.text, sql.params).await;
        prepared.unwrap_or_else(|error| panic!("{error:?} in\n{}", sql.text));
    }
}
