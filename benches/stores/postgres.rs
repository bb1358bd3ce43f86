//! PostgreSQL: beside a prepared `SELECT 1` over as many connections as the store checks with, and beside a plain
//! `INSERT` and `DELETE`, each a transaction of its own, over as many as it acquires with.

use std::{sync::Arc, time::Duration};

use tokio_postgres::{Client, NoTls, Statement};
use tower_lock::store::PostgresStore;

use crate::{
    calls::{self, Store},
    engines::PostgresServer,
    rounds::{Case, Plan, measure},
};

const SELECT: &str = "SELECT 1, prepared";
const PAIR: &str = "INSERT and DELETE";
/// Connections that writes go over.
const POOL: usize = 16;

pub(crate) async fn measured(plan: Plan, held: u64) -> String {
    let server = PostgresServer::options().durable().start();
    // Long enough for whatever else the machine does: limits are measured apart.
    let store = || PostgresStore::builder(&server.url()).time_limit(Duration::from_secs(30));
    store().build().expect("a valid URL").migrate().await.expect("a new schema");
    let guarded: Store = Arc::new(store().build().expect("a valid URL"));
    let checking: Store = Arc::new(store().check_only().build().expect("a valid URL"));
    calls::hold(&guarded, held).await;

    let mut selects = Vec::new();
    for _ in 0..2 {
        let client = client(&server.url()).await;
        let statement = client.prepare("SELECT 1").await.expect("SELECT");
        selects.push((client, statement));
    }
    let selects = Arc::new(selects);
    let mut pairs = Vec::new();
    for at in 0..POOL {
        let client = client(&server.url()).await;
        if at == 0 {
            let columns = "id bigint PRIMARY KEY, root text, owner text, ends timestamptz";
            client.batch_execute(&format!("CREATE TABLE plain ({columns})")).await.expect("CREATE");
            client.batch_execute("VACUUM ANALYZE").await.expect("VACUUM");
        }
        let insert = client.prepare("INSERT INTO plain VALUES ($1, '/tenants/1', 'bench', now())").await.expect("INSERT");
        let delete = client.prepare("DELETE FROM plain WHERE id = $1").await.expect("DELETE");
        pairs.push(tokio::sync::Mutex::new((client, insert, delete)));
    }
    let pairs: Arc<Vec<Pair>> = Arc::new(pairs);
    let cases = vec![
        Case::floor(SELECT, move |at| {
            let selects = selects.clone();
            async move {
                let (client, statement) = &selects[at as usize % selects.len()];
                client.query(statement, &[]).await.expect("SELECT");
            }
        }),
        Case::of_store("check", SELECT, &checking, calls::write),
        Case::of_store("check of a DELETE", SELECT, &checking, calls::delete),
        Case::of_store("check, refused", SELECT, &checking, calls::refused),
        Case::floor(PAIR, move |at| {
            let pairs = pairs.clone();
            async move {
                let pair = pairs[at as usize % pairs.len()].lock().await;
                let (client, insert, delete) = &*pair;
                client.execute(insert, &[&at.cast_signed()]).await.expect("INSERT");
                client.execute(delete, &[&at.cast_signed()]).await.expect("DELETE");
            }
        }),
        Case::of_store("guarded write, begin", PAIR, &guarded, calls::write),
        Case::of_store("guarded DELETE, begin", PAIR, &guarded, calls::delete),
        Case::of_store("acquire and release", PAIR, &guarded, calls::lock),
    ];
    measure(&format!("PostgreSQL, {held} locks held"), cases, plan).await
}

type Pair = tokio::sync::Mutex<(Client, Statement, Statement)>;

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server answers");
    tokio::spawn(connection);
    client
}
