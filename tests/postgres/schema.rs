//! The schema: made by many at once, told apart from others, and who may use it.

use std::error::Error;

use tower_lock::{
    LockStore,
    store::{Acquired, PostgresStore, StoreError, StoreErrorKind},
};

use crate::kit::*;

fn refused<T: std::fmt::Debug>(answer: Result<T, StoreError>, kind: StoreErrorKind, says: &str) {
    let error = answer.expect_err("an error");
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.to_string().contains(says), "{error} says {says}");
}

async fn in_schema(name: &str) -> PostgresStore {
    named(&PostgresServer::shared().url(), "n").schema(name).build().expect("a URL")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_nodes_make_the_schema_at_once() {
    let url = PostgresServer::shared().url();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = named(&url, "n").schema("made by 'many' \"at\" once").build().expect("a URL");
            tokio::spawn(async move { store.migrate().await })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("the schema is made");
    }
    let store = named(&url, "n").schema("made by 'many' \"at\" once").build().expect("a URL");
    granted(&store, &exclusive("/a")).await;
    store.migrate().await.expect("once more does nothing");
    assert!(put(&store, "/a").await.expect("an answer").refused().is_some(), "the lock is still there");
    let checked = named(&url, "n").schema("made by 'many' \"at\" once").check_only().build().expect("a URL");
    assert!(put(&checked, "/a").await.expect("an answer").refused().is_some(), "a check sees it as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_not_there_is_said_to_be_missing() {
    let store = in_schema("never_made").await;
    refused(put(&store, "/a").await, StoreErrorKind::Incompatible, "run migrate()");
    refused(acquire(&store, &[exclusive("/a")]).await, StoreErrorKind::Incompatible, "run migrate()");
    let checked = named(&PostgresServer::shared().url(), "n").schema("never_made").check_only().build().expect("a URL");
    refused(put(&checked, "/a").await, StoreErrorKind::Incompatible, "run migrate()");
    let proxied = named(&PostgresServer::shared().url(), "n").schema("never_made").through_proxy().build().expect("a URL");
    refused(put(&proxied, "/a").await, StoreErrorKind::Incompatible, "run migrate()");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_schema_is_left_alone() {
    let sql = Sql::at(&PostgresServer::shared().url()).await;
    sql.run("CREATE SCHEMA foreign_1; CREATE TABLE foreign_1.locks (mine text); INSERT INTO foreign_1.locks VALUES ('x')")
        .await;
    let store = in_schema("foreign_1").await;
    refused(store.migrate().await, StoreErrorKind::Incompatible, "another schema name");
    refused(put(&store, "/a").await, StoreErrorKind::Incompatible, "migrate()");
    assert_eq!(sql.texts("SELECT mine FROM foreign_1.locks").await, ["x"], "it is as it was");

    sql.run("CREATE SCHEMA foreign_2; CREATE TABLE foreign_2.meta (magic text, version int); INSERT INTO foreign_2.meta VALUES ('y', 1)").await;
    let store = in_schema("foreign_2").await;
    refused(store.migrate().await, StoreErrorKind::Incompatible, "another schema name");
    refused(put(&store, "/a").await, StoreErrorKind::Incompatible, "another schema name");

    sql.run("CREATE SCHEMA foreign_3; CREATE TABLE foreign_3.meta (other text)").await;
    let store = in_schema("foreign_3").await;
    refused(store.migrate().await, StoreErrorKind::Incompatible, "another schema name");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_and_a_newer_schema_are_told_apart() {
    let sql = Sql::at(&PostgresServer::shared().url()).await;
    in_schema("versions").await.migrate().await.expect("the schema is made");
    sql.run("UPDATE versions.meta SET version = 0").await;
    refused(put(&in_schema("versions").await, "/a").await, StoreErrorKind::Incompatible, "run migrate()");
    sql.run("UPDATE versions.meta SET version = 99").await;
    refused(put(&in_schema("versions").await, "/a").await, StoreErrorKind::Incompatible, "later release");
    refused(in_schema("versions").await.migrate().await, StoreErrorKind::Incompatible, "later release");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_changes_under_a_store_is_an_error_and_no_admission() {
    let sql = Sql::at(&PostgresServer::shared().url()).await;
    let store = in_schema("taken_away").await;
    store.migrate().await.expect("the schema is made");
    granted(&store, &exclusive("/a")).await;
    sql.run("DROP SCHEMA taken_away CASCADE").await;
    for _ in 0..3 {
        refused(put(&store, "/a").await, StoreErrorKind::Incompatible, "run migrate()");
        refused(acquire(&store, &[exclusive("/b")]).await, StoreErrorKind::Incompatible, "run migrate()");
    }
    store.migrate().await.expect("the schema is made anew");
    granted(&store, &exclusive("/a")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rights_nothing_is_admitted() {
    let (url, port) = (PostgresServer::shared().url(), PostgresServer::shared().port());
    let sql = Sql::at(&url).await;
    in_schema("guarded").await.migrate().await.expect("the schema is made");
    sql.run("CREATE ROLE nobody_special LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE user_of_locks LOGIN").await;
    sql.run("GRANT USAGE ON SCHEMA guarded TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA guarded TO reader").await;
    sql.run(
        "GRANT USAGE ON SCHEMA guarded TO user_of_locks; GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA guarded TO user_of_locks; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA guarded TO user_of_locks",
    )
    .await;
    let as_role = |role: &str| named(&format!("postgres://{role}@127.0.0.1:{port}/postgres"), "n").schema("guarded");
    refused(put(&as_role("nobody_special").build().expect("a URL"), "/a").await, StoreErrorKind::Denied, "refuses access");
    refused(
        as_role("nobody_special").schema("not_mine").build().expect("a URL").migrate().await,
        StoreErrorKind::Denied,
        "refuses access",
    );
    let reader = as_role("reader").build().expect("a URL");
    refused(put(&reader, "/a").await, StoreErrorKind::Denied, "refuses access");
    refused(acquire(&reader, &[exclusive("/a")]).await, StoreErrorKind::Denied, "refuses access");
    // The rights that the documentation names are enough.
    let user = as_role("user_of_locks").build().expect("a URL");
    let lock = exclusive("/a");
    granted(&user, &lock).await;
    assert!(put(&user, "/a").await.expect("an answer").refused().is_some(), "it is locked");
    let checked = as_role("user_of_locks").check_only().build().expect("a URL");
    assert!(put(&checked, "/a").await.expect("an answer").refused().is_some(), "it is locked");
    release(&user, &lock.token).await.expect("an answer");
    assert!(put(&user, "/a").await.expect("an answer").admitted().is_some(), "it is free");
    refused(put(&as_role("no such role").build().expect("a URL"), "/a").await, StoreErrorKind::Denied, "refuses access");
    let elsewhere = named(&format!("postgres://postgres@127.0.0.1:{port}/no_such_database"), "n").build().expect("a URL");
    refused(put(&elsewhere, "/a").await, StoreErrorKind::Incompatible, "something else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_denied_with_its_source() {
    let server = PostgresServer::options().password("right").start();
    let store = named(&server.url(), "n").build().expect("a URL");
    store.migrate().await.expect("the right password");
    granted(&store, &exclusive("/a")).await;
    let wrong = named(&server.url().replace(":right@", ":wrong@"), "n");
    let error = put(&wrong.build().expect("a URL"), "/b").await.expect_err("the wrong password");
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error:?}");
    assert!(error.source().is_some(), "with its source: {error:?}");
    let none = named(&server.url().replace(":right@", "@"), "n");
    let error = put(&none.build().expect("a URL"), "/b").await.expect_err("no password");
    assert_eq!(error.kind(), StoreErrorKind::Denied, "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_takes_no_writes_and_admits_none() {
    let server = PostgresServer::start();
    let store = named(&server.url(), "n").build().expect("a URL");
    store.migrate().await.expect("the schema is made");
    granted(&store, &exclusive("/a")).await;
    let sql = Sql::at(&server.url()).await;
    sql.run("ALTER DATABASE postgres SET default_transaction_read_only = on").await;
    let store = named(&server.url(), "n").build().expect("a URL");
    refused(put(&store, "/b").await, StoreErrorKind::ReadOnly, "takes no writes");
    refused(acquire(&store, &[exclusive("/b")]).await, StoreErrorKind::ReadOnly, "takes no writes");
    // A look changes nothing, so a check still knows.
    let checked = named(&server.url(), "n").check_only().build().expect("a URL");
    assert!(put(&checked, "/a").await.expect("an answer").refused().is_some(), "it is locked");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_in_one_schema_know_nothing_of_each_other() {
    let (one, other) = (fresh().await, fresh().await);
    let lock = exclusive("/a");
    granted(&one, &lock).await;
    assert!(put(&other, "/a/b").await.expect("an answer").admitted().is_some(), "another store's lock");
    // The very same id and token.
    granted(&other, &lock).await;
    release(&one, &lock.token).await.expect("an answer");
    assert!(put(&other, "/a/b").await.expect("an answer").refused().is_some(), "its own lives on");
    let repeated = acquire(&other, &[lock]).await.expect("an answer");
    assert!(matches!(repeated, Acquired::Repeated(_)), "{repeated:?}");
    let dynamic: std::sync::Arc<dyn LockStore> = std::sync::Arc::new(one);
    assert!(put(&dynamic, "/a").await.expect("an answer").admitted().is_some(), "it was released there");
}
