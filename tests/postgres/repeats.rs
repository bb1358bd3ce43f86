//! A request word for word again, while something of the first is still under way in the server.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use tower_lock::{
    LockStore,
    store::{Acquire, Acquired, LockQuery, NewLock, PostgresStore, StoreFuture},
};

use crate::kit::*;

fn ask(store: &PostgresStore, locks: &[NewLock]) -> StoreFuture<Acquired> {
    store.acquire(&Acquire::new(locks, None).draining(Duration::from_secs(3_600)))
}

async fn has_mark(store: &PostgresStore, lock: &NewLock) -> bool {
    !store.find(&LockQuery::id(lock.parts.id)).await.expect("an answer").locks.is_empty()
}

/// Polls `coming` until `done`. It is not to be answered.
async fn poll_until(coming: &mut StoreFuture<Acquired>, mut done: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !done().await {
        let answered = poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut *coming).poll(cx) {
                Poll::Ready(answered) => Some(answered),
                Poll::Pending => None,
            })
        });
        let answered = answered.await;
        assert!(answered.is_none(), "it has to wait: {answered:?}");
        assert!(start.elapsed() < PATIENT, "what is waited for does not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until `done`.
async fn until(mut done: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < PATIENT, "what is waited for does not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

const GRANTS: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%grant\\_1%' AND pid <> pg_backend_pid()";

/// The last look of an acquire that was dropped comes late to the server: after its mark is gone, and after another node was
/// asked the same, word for word. It neither grants nor takes away what is not its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_look_leaves_the_mark_of_a_repeat_alone() {
    let server = PostgresServer::start();
    let one = named(&server.url(), "n").build().expect("a URL");
    let two = named(&server.url(), "n").build().expect("a URL");
    one.migrate().await.expect("the schema is made");
    let (sql, held) = (Sql::at(&server.url()).await, Sql::at(&server.url()).await);
    let aside = put(&one, "/aside").await.expect("an answer").admitted().expect("nothing is locked");
    let running = put(&two, "/a/x").await.expect("an answer").admitted().expect("nothing is locked");
    let locks = [exclusive("/a")];
    let mut first = ask(&one, &locks);
    poll_until(&mut first, async || has_mark(&two, &locks[0]).await).await;
    // The look that tells the end of this write waits for its row.
    held.run("BEGIN; SELECT 1 FROM tower_lock.writes WHERE convert_from(path, 'UTF8') = '/aside' FOR UPDATE").await;
    drop(aside);
    let stuck = format!("{GRANTS} AND wait_event_type = 'Lock'");
    poll_until(&mut first, async || sql.number(&stuck).await == 1).await;
    drop(first);
    until(async || !has_mark(&two, &locks[0]).await).await;
    let mut again = ask(&two, &locks);
    poll_until(&mut again, async || has_mark(&two, &locks[0]).await).await;
    // Nothing is in the way any more when the late one goes on.
    drop(running);
    until(async || sql.number("SELECT count(*) FROM tower_lock.writes").await == 1).await;
    until(async || sql.number(GRANTS).await == 1).await;
    held.run("COMMIT").await;
    until(async || sql.number(GRANTS).await == 0).await;
    let answered = again.await.expect("an answer");
    assert!(matches!(answered, Acquired::Granted(_)), "it is granted to whoever waits for it, not {answered:?}");
    assert!(has_mark(&two, &locks[0]).await, "and stands");
}
