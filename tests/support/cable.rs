//! A cable between a node and its engine, which can be pulled; and what must not be missed while it is.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tower_lock::{
    LockStore,
    lock::{Claim, Depth, Gone, LockId, LockKind, LockParts, LockScope, LockToken, Owner, Reach, ResourceKey},
    store::{
        Acquire, Acquired, Authority, LockEvent, LockQuery, NewLock, Release, Released, Replaces, StoreError, Watch, Which,
    },
};

/// Passes everything on to a port of this machine, as long as it is plugged in.
pub struct Cable {
    port: u16,
    plugged: watch::Sender<bool>,
}

impl Cable {
    /// A cable to `port`, plugged in.
    pub async fn to(port: u16) -> Self {
        let door = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = door.local_addr().expect("it is bound").port();
        let plugged = watch::Sender::new(true);
        let mut state = plugged.subscribe();
        tokio::spawn(async move {
            while let Ok((mut inside, _)) = door.accept().await {
                let mut state = state.clone();
                // Pulled out, it takes nobody and keeps nobody.
                if !*state.borrow_and_update() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut outside) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut inside, &mut outside) => {}
                        _ = state.wait_for(|plugged| !plugged) => {}
                    }
                });
            }
            let _ = state.changed().await;
        });
        Self { port: own, plugged }
    }

    /// The same address, through the cable.
    pub fn through(&self, url: &str, port: u16) -> String {
        url.replace(&format!(":{port}"), &format!(":{}", self.port))
    }

    pub fn pull(&self) {
        self.plugged.send_replace(false);
    }

    pub fn plug(&self) {
        self.plugged.send_replace(true);
    }
}

type Store = Arc<dyn LockStore>;

fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}

fn new(path: &str) -> NewLock {
    let parts = LockParts {
        id: LockId::random(),
        root: key(path),
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

async fn take(store: &Store, path: &str) -> NewLock {
    let new = new(path);
    let locks = [new.clone()];
    let answer = store.acquire(&Acquire::new(&locks, None)).await.expect("the engine is there");
    assert!(matches!(answer, Acquired::Granted(_)), "{answer:?}");
    new
}

async fn give_back(store: &Store, lock: &NewLock) {
    let released = store.release(&Release::new(Which::Token(&lock.token), Authority::Guard)).await;
    assert!(matches!(released, Ok(Released::Released(_))), "{released:?}");
}

async fn end(store: &Store, lock: &NewLock, how: usize) {
    match how {
        0 => give_back(store, lock).await,
        1 => {
            let broken = Authority::Break { actor: None, reason: "because", grace: Duration::ZERO };
            let broken = store.release(&Release::new(Which::Id(lock.parts.id), broken)).await;
            assert!(matches!(broken, Ok(Released::Released(_))), "{broken:?}");
        }
        2 => {
            let (next, replaces) = ([new("/a")], [Replaces::Held(&lock.token)]);
            let swapped = store.acquire(&Acquire::new(&next, None).replacing(&replaces)).await;
            assert!(matches!(swapped, Ok(Acquired::Granted(_))), "{swapped:?}");
            give_back(store, &next[0]).await;
        }
        _ => {
            let gone = [Gone { key: key("/a"), reach: Reach::AtOrBelow }];
            assert_eq!(store.clear(&gone, None).await.expect("the engine is there"), 1);
        }
    }
}

async fn next(watch: &mut Watch) -> Result<LockEvent, StoreError> {
    watch.next().await.expect("a watch is endless while its store lives")
}

/// Whether a lock is there, asked until the engine is.
async fn is_there(store: &Store, id: LockId) -> bool {
    loop {
        if let Ok(page) = store.find(&LockQuery::id(id)).await {
            return !page.locks.is_empty();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A node is cut off, and what it watches ends meanwhile, in whichever way: it is told that it was cut off, then that it is to
/// read the state, and there it finds the end.
pub async fn an_end_during_an_outage_is_found(far: Store, near: Store, cable: &Cable) {
    for how in 0..4 {
        let lock = take(&near, "/a").await;
        let id = lock.parts.id;
        let mut watches = [far.watch(&LockQuery::id(id)), far.watch(&LockQuery::covering(key("/a/b")))];
        for watch in &mut watches {
            while !matches!(next(watch).await, Ok(LockEvent::Synced)) {}
        }
        cable.pull();
        for watch in &mut watches {
            let told = next(watch).await;
            assert!(told.is_err(), "it is cut off, and says so, instead of {told:?}");
        }
        end(&near, &lock, how).await;
        cable.plug();
        for watch in &mut watches {
            loop {
                match next(watch).await {
                    Ok(LockEvent::Synced) => break,
                    Ok(other) => panic!("first the state is to be read anew, not {other:?}"),
                    Err(_) => {}
                }
            }
        }
        assert!(!is_there(&far, id).await, "the state that is to be read shows the end");
        // And from here on it hears again.
        let lock = take(&near, "/a").await;
        while !matches!(next(&mut watches[1]).await, Ok(LockEvent::Granted(granted)) if granted.id() == lock.parts.id) {}
        give_back(&near, &lock).await;
    }
}

/// Waits for the end of a lock as a waiter does: subscribed first, then asked, and then only when something is heard.
async fn wait(store: Store, id: LockId) {
    let mut watch = store.watch(&LockQuery::id(id));
    loop {
        match next(&mut watch).await {
            Ok(LockEvent::Ended { .. }) => return,
            Ok(LockEvent::Synced) if !is_there(&store, id).await => return,
            Ok(_) | Err(_) => {}
        }
    }
}

/// However the outages fall, nobody waits for a lock that has ended.
pub async fn no_wake_up_is_lost_over_outages(far: Store, near: Store, cable: &Cable) {
    let mut random = 0x5EED_u64;
    let mut below = |limit: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % limit
    };
    for round in 0..40 {
        let lock = take(&near, "/a").await;
        let waiters: Vec<_> = (0..3).map(|_| tokio::spawn(wait(far.clone(), lock.parts.id))).collect();
        let (ends, mut open) = (below(6), true);
        for step in 0..6 {
            if step == ends {
                end(&near, &lock, (round % 4) as usize).await;
            }
            if below(2) == 0 {
                open = !open;
                if open { cable.plug() } else { cable.pull() }
            }
            tokio::time::sleep(Duration::from_micros(below(4_000))).await;
        }
        cable.plug();
        for waiter in waiters {
            let woken = tokio::time::timeout(Duration::from_secs(60), waiter).await;
            assert!(matches!(woken, Ok(Ok(()))), "round {round}: a waiter waits for a lock that has ended");
        }
    }
}
