use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Wake,
};

use proptest::prelude::*;

use super::*;
use crate::{
    lock::{Claim, Depth, LockId, LockLife, LockParts, LockScope, LockState, LostCause, Owner, ResourceKey, Timestamp},
    store::Select,
};

fn key(path: &str) -> ResourceKey<'static> {
    ResourceKey::from_canonical(path.to_owned())
}

fn lock_of(root: ResourceKey<'static>, depth: Depth, id: LockId) -> Lock {
    let parts = LockParts {
        id,
        root,
        scope: LockScope::Exclusive,
        depth,
        kind: LockKind::User,
        principal: None,
        owner: Owner::default(),
        reason: None,
        client_ref: None,
        claim: Claim::Made,
    };
    let now = Timestamp::from_micros(0);
    let state = LockState::Held;
    let life = LockLife { state, created_at: now, expires_at: None, generation: 1, in_use: false, seen_at: now };
    Lock::new(Arc::new(parts), life)
}

fn lock(path: &str) -> Lock {
    lock_of(key(path), Depth::Infinity, LockId::random())
}

fn granted(path: &str) -> LockEvent {
    LockEvent::Granted(lock(path))
}

fn tell(watchers: &Watchers, event: LockEvent) {
    watchers.publish(&mut vec![event]).into_iter().for_each(Waker::wake);
}

fn poll(watch: &mut Watch, waker: &Waker) -> Poll<Option<Result<LockEvent, StoreError>>> {
    Pin::new(watch).poll_next(&mut Context::from_waker(waker))
}

fn told(watch: &mut Watch) -> Option<Result<LockEvent, StoreError>> {
    match poll(watch, Waker::noop()) {
        Poll::Ready(Some(told)) => Some(told),
        Poll::Ready(None) => panic!("the store lives"),
        Poll::Pending => None,
    }
}

fn synced(watch: &mut Watch) -> bool {
    matches!(told(watch), Some(Ok(LockEvent::Synced)))
}

fn why() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "cut off")
}

/// How many hold more than nothing in their queues, and how much the fullest holds.
fn held(watchers: &Watchers) -> (usize, usize) {
    let inner = watchers.inner.lock();
    let lengths: Vec<usize> = inner.everybody().map(|watcher| watcher.queue.lock().len()).collect();
    (lengths.iter().filter(|length| **length > 0).count(), lengths.into_iter().max().unwrap_or(0))
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Enter(usize, ResourceKey<'static>),
    Leave(usize),
}

fn any_key() -> impl Strategy<Value = ResourceKey<'static>> {
    let paths = ["/", "/a", "/a/b", "/a/b/c", "/ab", "/a!", "/a0", "/a//b", "/a/", "/b", "/a/\u{10ffff}", "/a.b/c"];
    let names = [None, None, Some("t"), Some("")];
    (0..paths.len(), 0..names.len()).prop_map(move |(path, name)| match names[name] {
        None => key(paths[path]),
        Some(name) => key(paths[path]).in_namespace(name),
    })
}

proptest! {
    #[test]
    fn an_event_concerns_exactly_those_whose_query_it_fits(
        steps in prop::collection::vec(
            prop_oneof![3 => (0..3usize, any_key()).prop_map(|(how, key)| Step::Enter(how, key)), 1 => (0..40usize).prop_map(Step::Leave)],
            1..60,
        ),
        roots in prop::collection::vec((any_key(), any::<bool>()), 1..12),
    ) {
        let watchers = Arc::new(Watchers::default());
        let ids: Vec<LockId> = (0..4).map(|_| LockId::random()).collect();
        let mut watches: Vec<(Select<'static>, Watch)> = Vec::new();
        for step in steps {
            match step {
                Step::Enter(how, key) => {
                    let select = match how {
                        0 => Select::Covering(key),
                        1 => Select::AtOrBelow(key),
                        _ => Select::Id(ids[key.path().len() % ids.len()]),
                    };
                    let mut watch = watchers.subscribe(&LockQuery::new(select.clone()));
                    assert!(synced(&mut watch));
                    watches.push((select, watch));
                }
                Step::Leave(at) if !watches.is_empty() => {
                    let at = at % watches.len();
                    drop(watches.swap_remove(at));
                }
                Step::Leave(_) => {}
            }
        }
        for (at, (root, deep)) in roots.into_iter().enumerate() {
            let lock = lock_of(root, if deep { Depth::Infinity } else { Depth::Zero }, ids[at % ids.len()]);
            tell(&watchers, LockEvent::Granted(lock.clone()));
            for (select, watch) in &mut watches {
                let fits = LockQuery::new(select.clone()).fits(&lock);
                let heard = matches!(told(watch), Some(Ok(LockEvent::Granted(heard))) if heard == lock);
                prop_assert_eq!(heard, fits, "{:?} and {:?}", select, lock.root());
            }
        }
        watches.clear();
        let inner = watchers.inner.lock();
        prop_assert!(!watchers.any() && inner.all.is_empty() && inner.index.is_empty(), "nothing is left of those who went");
    }
}

#[test]
fn a_watcher_is_woken_once_until_it_looks() {
    let watchers = Arc::new(Watchers::default());
    let (count, mut watch) = (Arc::new(Count::default()), watchers.subscribe(&LockQuery::covering(key("/a"))));
    let waker = Waker::from(count.clone());
    assert!(synced(&mut watch));
    for round in 1..=3 {
        while poll(&mut watch, &waker).is_ready() {}
        for _ in 0..5 {
            tell(&watchers, granted("/a"));
        }
        assert_eq!(count.0.load(Relaxed), round, "five events wake it once");
    }
}

#[test]
fn who_never_reads_holds_one_word() {
    let watchers = Arc::new(Watchers::default());
    let mut watch = watchers.subscribe(&LockQuery::covering(key("/a")));
    for _ in 0..QUEUE.0 - 1 {
        tell(&watchers, granted("/a"));
    }
    assert_eq!(held(&watchers), (1, QUEUE.0), "so far nothing is missed");
    for _ in 0..1_000 {
        tell(&watchers, granted("/a"));
        assert_eq!(held(&watchers), (1, 1), "what is behind holds a word to read the state, and goes on holding that");
    }
    assert!(synced(&mut watch));
    assert!(told(&mut watch).is_none(), "what happened before it reads the state is in the state");
    tell(&watchers, granted("/a"));
    assert!(matches!(told(&mut watch), Some(Ok(LockEvent::Granted(_)))), "and from there on it hears again");
    assert_eq!(held(&watchers), (0, 0));
}

#[test]
fn many_watchers_hold_fewer_events_each() {
    let watchers = Arc::new(Watchers::default());
    let paths: Vec<String> = (0..MOST).map(|at| format!("/{at}")).collect();
    let watches: Vec<Watch> = paths.iter().map(|path| watchers.subscribe(&LockQuery::covering(key(path)))).collect();
    let mut one_more = watchers.subscribe(&LockQuery::covering(key("/a")));
    assert!(
        matches!(told(&mut one_more), Some(Err(error)) if error.to_string().contains("32768")),
        "and there are only so many"
    );
    for _ in 0..QUEUE.1 {
        tell(&watchers, granted("/"));
    }
    assert_eq!(held(&watchers), (MOST, 1));
    drop(watches);
    assert!(!watchers.any());
}

#[test]
fn who_joins_late_is_synced_by_its_round_and_hears_nothing_older() {
    let watchers = Arc::new(Watchers::unsynced());
    watchers.synced();
    let query = LockQuery::covering(key("/a"));
    let (first, mut second) = (watchers.join(&query), watchers.join(&query));
    let round = watchers.next_round();
    // The number of the first goes to one that is in a later round.
    drop(first);
    let mut third = watchers.join(&query);
    tell(&watchers, granted("/a"));
    watchers.synced_up_to(round);
    assert!(synced(&mut second) && told(&mut second).is_none());
    assert!(told(&mut third).is_none(), "its round has not come back");
    tell(&watchers, granted("/a"));
    assert!(matches!(told(&mut second), Some(Ok(LockEvent::Granted(_)))));
    watchers.synced_up_to(watchers.next_round());
    assert!(synced(&mut third) && told(&mut third).is_none());
}

#[test]
fn an_outage_is_told_and_then_that_it_is_over() {
    let watchers = Arc::new(Watchers::unsynced());
    let query = LockQuery::covering(key("/a"));
    let (mut reader, mut sleeper) = (watchers.join(&query), watchers.join(&query));
    assert!(told(&mut reader).is_none());
    watchers.synced();
    assert!(synced(&mut reader));
    tell(&watchers, granted("/a"));
    for _ in 0..100 {
        watchers.cut_off(why);
        watchers.synced();
    }
    watchers.cut_off(why);
    assert!(matches!(told(&mut reader), Some(Err(_))), "what was told before is no longer of use");
    assert!(told(&mut reader).is_none(), "nothing is to be read while the store is cut off");
    watchers.synced();
    for watch in [&mut reader, &mut sleeper] {
        let words: Vec<_> = std::iter::from_fn(|| told(watch)).collect();
        assert!(words.len() <= 2 && matches!(words.last(), Some(Ok(LockEvent::Synced))), "{words:?}");
    }
    tell(&watchers, LockEvent::Ended { lock: lock("/a"), cause: LostCause::Released, actor: None, reason: None });
    assert!(matches!(told(&mut sleeper), Some(Ok(LockEvent::Ended { .. }))));
}

#[test]
fn too_much_after_an_outage_is_read_anew() {
    let watchers = Arc::new(Watchers::unsynced());
    let mut watch = watchers.join(&LockQuery::covering(key("/a")));
    watchers.cut_off(why);
    watchers.synced();
    for _ in 0..200 {
        tell(&watchers, granted("/a"));
    }
    let words: Vec<_> = std::iter::from_fn(|| told(&mut watch)).collect();
    assert!(matches!(words.last(), Some(Ok(LockEvent::Synced))), "{words:?}");
}

#[test]
fn comers_and_goers_leave_nothing_behind_during_an_outage() {
    let watchers = Arc::new(Watchers::unsynced());
    let stays = watchers.join(&LockQuery::covering(key("/a")));
    let mut other = None;
    for _ in 0..200_000 {
        // Never are both gone.
        other = Some(watchers.join(&LockQuery::covering(key("/b"))));
    }
    let inner = watchers.inner.lock();
    assert!(inner.late.len() <= 2 * MOST + 1 && inner.all.len() == 3);
    assert!(inner.watcher(0).is_some_and(|watcher| watcher.round.is_some()));
    drop(inner);
    drop((stays, other));
    assert!(!watchers.any());
}

#[test]
fn filters_narrow_down() {
    let watchers = Arc::new(Watchers::default());
    let ann = Principal::new("ann");
    let mut anns = watchers.subscribe(&LockQuery::covering(key("/a")).held_by(Some(&ann)));
    let mut nobodys = watchers.subscribe(&LockQuery::covering(key("/a")).held_by(None).kind(&LockKind::User));
    let heard = |watch: &mut Watch| std::iter::from_fn(|| told(watch)).skip(1).count();
    tell(&watchers, granted("/"));
    assert_eq!((heard(&mut anns), heard(&mut nobodys)), (0, 1));
}

#[test]
fn watches_of_one_thing_share_its_text() {
    let watchers = Arc::new(Watchers::default());
    let query = LockQuery::covering(key("/a/long/path").in_namespace("tenant"));
    let watches: Vec<Watch> = (0..3).map(|_| watchers.subscribe(&query)).collect();
    let inner = watchers.inner.lock();
    let texts: BTreeSet<*const u8> = inner.everybody().map(|watcher| watcher.watched.text().as_ptr()).collect();
    assert_eq!((texts.len(), watches.len()), (1, 3));
}
