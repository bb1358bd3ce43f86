//! How long a call takes whose engine has been killed or stopped: never longer than the store's time limit and a tenth.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use tower_lock::{
    lock::{LockToken, ResourceKey, Target},
    request::Conditions,
    store::{Acquire, Authority, LockQuery, LockStore, PostgresStore, RedisStore, Refresh, Release, Span, Which, Write},
};

use crate::{
    calls::{self, Store},
    engines::{PostgresServer, RedisServer},
};

const LIMIT: Duration = Duration::from_millis(250);
const CALLERS: usize = 16;
/// Calls of each kind by each caller.
const TIMES: usize = 8;

pub(crate) async fn measured() -> String {
    let mut text = format!(
        "\nThe longest of {} calls, time limit {LIMIT:?}\n\n| store | engine | call | ms | of the limit |\n|---|---|---|---|---|\n",
        CALLERS * TIMES
    );
    for stopped in [false, true] {
        let server = RedisServer::start();
        let store: Store = Arc::new(RedisStore::builder(&server.url()).time_limit(LIMIT).build().expect("a valid URL"));
        calls::hold(&store, 10).await;
        if stopped {
            server.pause();
        } else {
            server.kill();
        }
        rows(&mut text, "Redis", stopped, &store).await;
    }
    for stopped in [false, true] {
        let server = PostgresServer::start();
        let store = PostgresStore::builder(&server.url()).time_limit(LIMIT).build().expect("a valid URL");
        store.migrate().await.expect("a new schema");
        let store: Store = Arc::new(store);
        calls::hold(&store, 10).await;
        if stopped {
            server.pause();
        } else {
            server.kill();
        }
        rows(&mut text, "PostgreSQL", stopped, &store).await;
    }
    text
}

async fn rows(text: &mut String, name: &str, stopped: bool, store: &Store) {
    for call in [Call::Admit, Call::Acquire, Call::Refresh, Call::Release, Call::Find] {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut longest = Duration::ZERO;
                    for time in 0..TIMES {
                        let before = Instant::now();
                        call.fails(&*store, caller * TIMES + time).await;
                        longest = longest.max(before.elapsed());
                    }
                    longest
                })
            })
            .collect();
        let mut longest = Duration::ZERO;
        for caller in callers {
            longest = longest.max(caller.await.expect("a call that fails"));
        }
        let engine = if stopped { "stopped" } else { "killed" };
        let (took, share) = (longest.as_secs_f64() * 1e3, longest.as_secs_f64() / LIMIT.as_secs_f64());
        let _ = writeln!(text, "| {name} | {engine} | {call:?} | {took:.0} | {share:.2} |");
    }
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Admit,
    Acquire,
    Refresh,
    Release,
    Find,
}

impl Call {
    async fn fails(self, store: &dyn LockStore, at: usize) {
        let key = ResourceKey::from_canonical(format!("/deadlines/{at}"));
        let token = LockToken::random();
        let which = Which::Token(&token);
        let failed = match self {
            Self::Admit => {
                let (targets, conditions) = ([Target::write_member(key)], Conditions::default());
                store.admit(&Write::new(&targets, &conditions)).await.is_err()
            }
            Self::Acquire => {
                let locks = [calls::new(key.path().to_owned())];
                store.acquire(&Acquire::new(&locks, None)).await.is_err()
            }
            Self::Refresh => store.refresh(&Refresh::new(which, Authority::Guard, Span::Same)).await.is_err(),
            Self::Release => store.release(&Release::new(which, Authority::Guard)).await.is_err(),
            Self::Find => store.find(&LockQuery::covering(key)).await.is_err(),
        };
        assert!(failed, "{self:?}: an engine that is away answers nothing");
    }
}
