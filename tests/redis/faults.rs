//! An engine that is away, refuses us, is full, read-only, stopped, or was started anew.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use tokio::net::{TcpListener, TcpStream};
use tower_lock::{
    LockStore,
    lock::Target,
    store::{Acquire, Acquired, LockEvent, LockQuery, RedisStore, Released, StoreErrorKind, Verdict},
};

use crate::{
    kit::{
        acquire, all, ann, back, builder, end, failed, key, lock, new, put, release, run, store, tell, until, with_token,
    },
    support::{
        cable::{Cable, an_end_during_an_outage_is_found, no_wake_up_is_lost_over_outages},
        engines::RedisServer,
    },
};

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn building_a_store_asks_nobody() {
    assert_eq!(RedisStore::new("no url").unwrap_err().kind(), StoreErrorKind::Other);
    // The discard port: nothing listens there.
    let store = RedisStore::new("redis://127.0.0.1:9").unwrap();
    run(async move {
        failed(put(&store, "/a").await, StoreErrorKind::Unavailable);
        failed(acquire(&store, &[new(key("/a"))]).await, StoreErrorKind::Unavailable);
        failed(store.find(&LockQuery::at_or_below(key("/"))).await, StoreErrorKind::Unavailable);
    });
}

#[test]
fn wrong_credentials_are_told_at_first_use() {
    let server = RedisServer::options().password("right").start();
    run(async move {
        for url in [server.url().replace("right", "wrong"), server.url().replace(":right@", "")] {
            for store in [RedisStore::builder(&url), RedisStore::builder(&url).check_only()] {
                let store = store.time_limit(Duration::from_secs(10)).build().unwrap();
                failed(put(&store, "/a").await, StoreErrorKind::Denied);
                failed(acquire(&store, &[new(key("/a"))]).await, StoreErrorKind::Denied);
            }
        }
        lock(&store(&server), "/a").await;
    });
}

#[test]
fn a_user_needs_the_rights_that_are_documented_and_no_more() {
    let server = RedisServer::start();
    tell(&server, &["ACL", "SETUSER", "guest", "on", ">pw", "~*", "&*", "+@connection", "+hmget"]);
    run(async move {
        let url = server.url().replace("redis://", "redis://guest:pw@");
        let store = RedisStore::builder(&url).time_limit(Duration::from_secs(10)).build().unwrap();
        failed(put(&store, "/a").await, StoreErrorKind::Denied);

        // What the documentation says is enough.
        let rights = "~tower-lock:* &tower-lock:* +@connection +@scripting +@hash +@sortedset +publish +subscribe +time";
        let words: Vec<&str> = ["ACL", "SETUSER", "locks", "on", ">pw"].into_iter().chain(rights.split(' ')).collect();
        tell(&server, &words);
        let url = server.url().replace("redis://", "redis://locks:pw@");
        for store in [RedisStore::builder(&url), RedisStore::builder(&url).check_only().namespace("checking")] {
            let store = store.time_limit(Duration::from_secs(10)).build().unwrap();
            let mut watch = store.watch(&LockQuery::at_or_below(key("/")));
            assert_eq!(watch.next().await.unwrap().unwrap(), LockEvent::Synced);
            let (_, token) = lock(&store, "/a").await;
            assert!(put(&store, "/a").await.unwrap().refused().is_some());
            drop(put(&store, "/b").await.unwrap());
            end(&store, &token).await;
            assert!(matches!(watch.next().await, Some(Ok(LockEvent::Granted(_)))));
        }
    });
}

#[test]
fn a_full_engine_takes_no_locks_and_gives_them_back() {
    let server = RedisServer::start();
    run(async move {
        let (store, checking) = (store(&server), builder(&server).check_only().build().unwrap());
        let (_, token) = lock(&store, "/a").await;
        let running = put(&store, "/b").await.unwrap().admitted().expect("nothing is locked there");
        tell(&server, &["CONFIG", "SET", "maxmemory", "1"]);
        failed(acquire(&store, &[new(key("/c"))]).await, StoreErrorKind::ReadOnly);
        failed(put(&store, "/c").await, StoreErrorKind::ReadOnly);
        failed(put(&store, "/a").await, StoreErrorKind::ReadOnly);
        assert!(put(&checking, "/a").await.is_ok(), "a look needs no memory");
        store.renew_now().await.expect("leases are renewed in a full engine");
        assert_eq!(all(&store).await.len(), 1, "locks are found in a full engine");
        // Its end goes along with a write that is refused, and is not lost by that.
        drop(running);
        failed(put(&store, "/c").await, StoreErrorKind::ReadOnly);
        assert!(matches!(release(&store, &token).await, Ok(Released::Released(_))), "what gives memory back is let through");
        tell(&server, &["CONFIG", "SET", "maxmemory", "0"]);
        lock(&store, "/").await;
    });
}

#[test]
fn a_read_only_engine_admits_nothing() {
    let server = RedisServer::start();
    run(async move {
        let store = store(&server);
        let (_, token) = lock(&store, "/a").await;
        for (off, on) in [
            (["REPLICAOF", "127.0.0.1", "9"].as_slice(), ["REPLICAOF", "NO", "ONE"].as_slice()),
            (&["CONFIG", "SET", "min-replicas-to-write", "1"], &["CONFIG", "SET", "min-replicas-to-write", "0"]),
        ] {
            tell(&server, off);
            failed(put(&store, "/b").await, StoreErrorKind::ReadOnly);
            failed(acquire(&store, &[new(key("/b"))]).await, StoreErrorKind::ReadOnly);
            failed(release(&store, &token).await, StoreErrorKind::ReadOnly);
            tell(&server, on);
            assert!(matches!(put(&store, "/b").await, Ok(Verdict::Admitted(_))), "it goes on at once");
        }
        assert!(matches!(release(&store, &token).await, Ok(Released::Released(_))), "and nothing was half done");
    });
}

#[test]
fn scripts_that_were_forgotten_are_sent_again() {
    let server = RedisServer::start();
    run(async move {
        let (store, checking) = (store(&server), builder(&server).check_only().build().unwrap());
        let flush = || drop(tell(&server, &["SCRIPT", "FLUSH"]));
        lock(&store, "/other").await;
        for _ in 0..3 {
            flush();
            let running = put(&store, "/a").await.unwrap().admitted().expect("nothing is locked there");
            flush();
            drop(running);
            // The end of that write rides along with this call, and both scripts are unknown.
            let (_, token) = lock(&store, "/a").await;
            // So does the next, as an argument of a script that is unknown as well.
            let running = put(&store, "/b").await.unwrap().admitted().expect("nothing is locked there");
            flush();
            drop(running);
            drop(put(&store, "/c").await.unwrap());
            let (_, beside) = lock(&store, "/b").await;
            end(&store, &beside).await;
            flush();
            let delete = [Target::unlink(key("/a"))];
            assert!(with_token(&store, &delete, token).await.unwrap().admitted().is_some());
            flush();
            assert!(crate::kit::write(&checking, &delete).await.unwrap().admitted().is_some());
            flush();
            assert_eq!(all(&store).await.len(), 2);
            flush();
            assert!(matches!(release(&store, &token).await, Ok(Released::Released(_))));
        }
    });
}

#[test]
fn locks_outlive_a_crash_of_the_engine() {
    let server = RedisServer::options().durable().start();
    run(async move {
        let store = store(&server);
        let (first, token) = lock(&store, "/a").await;
        let (_, released) = lock(&store, "/b").await;
        end(&store, &released).await;
        server.kill();
        failed(put(&store, "/a").await, StoreErrorKind::Unavailable);
        failed(acquire(&store, &[new(key("/c"))]).await, StoreErrorKind::Unavailable);
        server.restart();
        back(&store).await;
        let left = all(&store).await;
        assert_eq!((left.len(), left[0].id()), (1, first.id()), "what was granted is there, what was released is not");
        assert!(put(&store, "/a").await.unwrap().refused().is_some());
        let (later, _) = lock(&store, "/d").await;
        assert!(later.generation() > first.generation(), "generations go on growing (G6)");
        assert!(matches!(release(&store, &token).await, Ok(Released::Released(_))));
    });
}

#[test]
fn an_idle_connection_that_broke_costs_no_call() {
    let server = RedisServer::options().durable().start();
    run(async move {
        let store = store(&server);
        let (_, token) = lock(&store, "/a").await;
        server.kill();
        server.restart();
        // Nobody asked meanwhile, so nobody has to hear of it.
        let released = until(|| release(&store, &token), Result::is_ok).await;
        assert!(matches!(released, Ok(Released::Released(_))), "{released:?}");
    });
}

#[test]
fn a_stopped_engine_holds_nobody_up() {
    let server = RedisServer::start();
    run(async move {
        let store = builder(&server).time_limit(SHORT).build().unwrap();
        back(&store).await;
        server.pause();
        for _ in 0..3 {
            failed(put(&store, "/a").await, StoreErrorKind::TimedOut);
            failed(acquire(&store, &[new(key("/a"))]).await, StoreErrorKind::TimedOut);
            failed(store.find(&LockQuery::at_or_below(key("/"))).await, StoreErrorKind::TimedOut);
        }
        server.resume();
        back(&store).await;
        // What was sent and cut off may have been granted or registered meanwhile; it is gone with its lease or its undo.
        assert!(all(&store).await.len() <= 3);
    });
}

#[test]
fn a_dropped_write_is_not_in_anybodys_way() {
    let server = RedisServer::start();
    run(async move {
        let store = store(&server);
        lock(&store, "/warm").await;
        for polls in 0..4 {
            let targets = [Target::write(key("/a"))];
            let conditions = tower_lock::request::Conditions::NONE;
            let mut asked = store.admit(&tower_lock::store::Write::new(&targets, &conditions));
            for _ in 0..polls {
                if poll_fn(|cx| Poll::Ready(Pin::new(&mut asked).poll(cx).is_ready())).await {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(asked);
            let (_, token) = lock(&store, "/a").await;
            end(&store, &token).await;
        }
    });
}

#[test]
fn a_dropped_acquire_leaves_no_mark() {
    let server = RedisServer::start();
    run(async move {
        let store = store(&server);
        let running = put(&store, "/a").await.unwrap().admitted().expect("nothing is locked there");
        for polls in 0..6 {
            let (locks, ann) = ([new(key("/a"))], ann());
            let mut asked = store.acquire(&Acquire::new(&locks, Some(&ann)).draining(Duration::from_secs(1_000)));
            for _ in 0..polls {
                poll_fn(|cx| Poll::Ready(Pin::new(&mut asked).poll(cx).is_ready())).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            drop(asked);
            until(|| all(&store), Vec::is_empty).await;
        }
        drop(running);
    });
}

/// A node that cannot reach the engine gives an acquire up. Its withdrawal comes when it can, after another node was asked the
/// same, word for word, and leaves the mark of that one alone.
#[test]
fn a_late_withdrawal_leaves_the_mark_of_a_repeat_alone() {
    let server = RedisServer::start();
    run(async move {
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let through = format!("redis://{}", door.local_addr().unwrap());
        let (one, two) = (RedisStore::builder(&through).time_limit(Duration::from_secs(30)), builder(&server));
        let (one, two) = (one.namespace("x").build().unwrap(), two.namespace("x").build().unwrap());
        let running = put(&two, "/a").await.unwrap().admitted().expect("nothing is locked there");
        let (locks, ann) = ([new(key("/a"))], ann());
        let ask = Acquire::new(&locks, Some(&ann)).draining(Duration::from_secs(1_000));
        let mut first = one.acquire(&ask);
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut first).poll(cx).is_pending())).await, "nobody is there");
        drop(first);
        let mut again = two.acquire(&ask);
        let mut polled = async || poll_fn(|cx| Poll::Ready(Pin::new(&mut again).poll(cx).is_pending())).await;
        while all(&two).await.is_empty() {
            assert!(polled().await, "it has to wait");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Now the engine can be reached. What was asked of a connection first is sent first.
        let listed = tokio::spawn(async move { all(&one).await.len() });
        let port = server.url().rsplit(':').next().unwrap().trim_end_matches(|c: char| !c.is_ascii_digit()).to_owned();
        tokio::spawn(async move {
            while let Ok((mut inside, _)) = door.accept().await {
                let mut outside = TcpStream::connect(format!("127.0.0.1:{port}")).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inside, &mut outside).await });
            }
        });
        assert_eq!(listed.await.unwrap(), 1, "the mark of the repeat stands");
        drop(running);
        let answered = again.await;
        assert!(matches!(answered, Ok(Acquired::Granted(_))), "it is granted to whoever waits for it, not {answered:?}");
    });
}

#[test]
fn an_acquire_that_was_cut_off_is_undone_by_its_token() {
    let server = RedisServer::start();
    run(async move {
        let (store, patient) = (builder(&server).time_limit(SHORT).namespace("x"), builder(&server).namespace("x"));
        let (store, patient) = (store.build().unwrap(), patient.build().unwrap());
        back(&store).await;
        let asked = [new(key("/a"))];
        server.pause();
        failed(acquire(&store, &asked).await, StoreErrorKind::TimedOut);
        server.resume();
        // Whichever the engine reads first, the lock is gone: ended, or burnt before it came.
        assert!(release(&patient, &asked[0].token).await.is_ok());
        assert!(matches!(acquire(&patient, &asked).await, Ok(Acquired::Lost(_))));
        lock(&patient, "/a").await;
    });
}

#[test]
fn a_watch_goes_on_after_the_engine_was_away() {
    let server = RedisServer::options().durable().start();
    run(async move {
        let store = store(&server);
        let mut watch = store.watch(&LockQuery::at_or_below(key("/a")));
        assert_eq!(watch.next().await.unwrap().unwrap(), LockEvent::Synced);
        let (first, token) = lock(&store, "/a").await;
        assert!(matches!(watch.next().await, Some(Ok(LockEvent::Granted(lock))) if lock.id() == first.id()));
        server.kill();
        failed(watch.next().await.unwrap(), StoreErrorKind::Unavailable);
        server.restart();
        while watch.next().await.unwrap().ok() != Some(LockEvent::Synced) {}
        back(&store).await;
        end(&store, &token).await;
        assert!(matches!(watch.next().await, Some(Ok(LockEvent::Ended { lock, .. })) if lock.id() == first.id()));
        drop(store);
        assert!(watch.next().await.is_none(), "a watch ends with its store");
    });
}

async fn cut_off(server: &RedisServer) -> (Arc<dyn LockStore>, Arc<dyn LockStore>, Cable) {
    let cable = Cable::to(server.port()).await;
    let name = uuid::Uuid::new_v4().to_string();
    let limit = Duration::from_secs(10);
    let node = |url: &str| RedisStore::builder(url).namespace(&name).time_limit(limit).build().unwrap();
    (Arc::new(node(&cable.through(&server.url(), server.port()))), Arc::new(node(&server.url())), cable)
}

#[test]
fn an_end_while_a_node_is_cut_off_is_found_when_it_is_back() {
    run(async {
        let (far, near, cable) = cut_off(RedisServer::shared()).await;
        an_end_during_an_outage_is_found(far, near, &cable).await;
    });
}

#[test]
fn no_wake_up_is_lost_while_a_node_comes_and_goes() {
    run(async {
        let (far, near, cable) = cut_off(RedisServer::shared()).await;
        no_wake_up_is_lost_over_outages(far, near, &cable).await;
    });
}
