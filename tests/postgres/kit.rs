//! Short ways to ask a store, and the server behind its back.

use std::{sync::Arc, time::Duration};

use tokio_postgres::NoTls;
use tower_lock::{
    LockStore,
    lock::{
        Claim, Depth, HolderProof, Lock, LockId, LockKind, LockParts, LockScope, LockToken, Owner, Principal, ResourceKey,
        Target,
    },
    request::Conditions,
    store::{
        Acquire, Acquired, Authority, NewLock, PostgresStore, PostgresStoreBuilder, Release, StoreError, Verdict, Which,
        Write,
    },
};
use uuid::Uuid;

pub(crate) use crate::support::engines::PostgresServer;

/// Long enough for a busy machine; what is about the limit itself sets one.
pub(crate) const PATIENT: Duration = Duration::from_secs(20);

/// A store with a name of its own on the shared server, its schema made.
pub(crate) async fn fresh() -> PostgresStore {
    let store = named(&PostgresServer::shared().url(), &Uuid::new_v4().to_string()).build().expect("a URL");
    store.migrate().await.expect("the schema is made");
    store
}

pub(crate) fn named(url: &str, namespace: &str) -> PostgresStoreBuilder {
    PostgresStore::builder(url).namespace(namespace).time_limit(PATIENT)
}

pub(crate) fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}

pub(crate) fn exclusive(path: &str) -> NewLock {
    on(key(path))
}

pub(crate) fn on(root: ResourceKey<'static>) -> NewLock {
    let parts = LockParts {
        id: LockId::random(),
        root,
        scope: LockScope::Exclusive,
        depth: Depth::Infinity,
        kind: LockKind::User,
        principal: None,
        owner: Owner::default(),
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    };
    NewLock { parts: Arc::new(parts), token: LockToken::random() }
}

pub(crate) async fn acquire(store: &impl LockStore, locks: &[NewLock]) -> Result<Acquired, StoreError> {
    store.acquire(&Acquire::new(locks, None)).await
}

pub(crate) async fn granted(store: &impl LockStore, lock: &NewLock) -> Lock {
    match acquire(store, std::slice::from_ref(lock)).await.expect("the store answers") {
        Acquired::Granted(mut locks) => locks.remove(0),
        other => panic!("nothing is in the way, not {other:?}"),
    }
}

pub(crate) async fn write(
    store: &impl LockStore,
    targets: &[Target<'_>],
    token: Option<LockToken>,
) -> Result<Verdict, StoreError> {
    let mut conditions = Conditions::default();
    token.into_iter().for_each(|token| conditions.submit(token).expect("one token"));
    store.admit(&Write::new(targets, &conditions)).await
}

pub(crate) async fn put(store: &impl LockStore, path: &str) -> Result<Verdict, StoreError> {
    write(store, &[Target::write(key(path))], None).await
}

pub(crate) async fn release(store: &impl LockStore, token: &LockToken) -> Result<(), StoreError> {
    let authority = Authority::Holder { principal: None::<&Principal>, proof: &HolderProof::TokenAndPrincipal };
    store.release(&Release::new(Which::Token(token), authority)).await.map(drop)
}

/// Asks the server itself.
pub(crate) struct Sql(tokio_postgres::Client);

impl Sql {
    pub(crate) async fn at(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server is there");
        tokio::spawn(connection);
        Self(client)
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.0.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The first column of every row, as text.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.0.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let text = |message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        rows.into_iter().filter_map(text).collect()
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.texts(sql).await.first().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{sql}: no number"))
    }
}
