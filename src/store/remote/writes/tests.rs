use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::store::StoreErrorKind;

/// An engine that remembers what it was told.
#[derive(Default)]
struct Engine {
    ended: Mutex<Vec<WriteName>>,
    renewed: Mutex<Vec<Vec<WriteName>>>,
    /// What it does not know any more.
    gone: Mutex<HashSet<WriteName>>,
    away: AtomicBool,
}

impl Engine {
    fn answer<T: Send + 'static>(&self, answer: T) -> Work<T> {
        let away = self.away.load(Ordering::Acquire);
        Box::pin(async move { if away { Err(StoreError::new(StoreErrorKind::Unavailable, "a test")) } else { Ok(answer) } })
    }
}

impl Registrar for Engine {
    fn renew(&self, writes: &[WriteName]) -> Work<Vec<WriteName>> {
        self.renewed.lock().push(writes.to_vec());
        let gone = self.gone.lock();
        self.answer(writes.iter().filter(|write| gone.contains(write)).copied().collect())
    }

    fn end(&self, writes: &[WriteName]) -> Work<()> {
        if !self.away.load(Ordering::Acquire) {
            self.ended.lock().extend_from_slice(writes);
        }
        self.answer(())
    }
}

fn writes(lease: Duration) -> (Arc<Engine>, Writes) {
    let engine = Arc::new(Engine::default());
    let weak = Arc::downgrade(&engine);
    (engine, Writes::new(lease, weak))
}

async fn lapsed(permit: &Permit) {
    std::future::poll_fn(|cx| permit.poll_lapsed(cx)).await;
}

fn is_lapsed(permit: &Permit) -> bool {
    permit.poll_lapsed(&mut Context::from_waker(Waker::noop())).is_ready()
}

const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn an_end_is_sent_without_anybody_waiting_for_it() {
    let (engine, writes) = writes(LONG);
    let begun = writes.begin();
    let name = begun.name();
    let permit = begun.admitted(42);
    assert_eq!(permit.generation(), 42);
    assert_eq!(writes.name(permit.id().unwrap()), Some(name));
    let ended = writes.next_end();
    drop(permit);
    ended.await;
    while engine.ended.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(*engine.ended.lock(), [name]);
    while !writes.unacknowledged_ends().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(writes.len(), 0);
}

#[tokio::test]
async fn a_dropped_question_is_ended_and_a_refused_one_is_not() {
    let (_engine, writes) = writes(LONG);
    writes.begin().refused();
    assert!(writes.unacknowledged_ends().is_empty());
    let begun = writes.begin();
    let name = begun.name();
    drop(begun);
    assert_eq!(writes.unacknowledged_ends(), [name]);
}

#[test]
fn outside_of_a_runtime_ends_ride_along() {
    let (engine, writes) = writes(LONG);
    let begun = writes.begin();
    let name = begun.name();
    drop(begun.admitted(1));
    assert!(engine.ended.lock().is_empty());
    assert_eq!(writes.unsent_ends(), [name]);
    assert!(writes.unsent_ends().is_empty(), "it is on its way");
    writes.ends_failed(&[name]);
    assert_eq!(writes.unsent_ends(), [name], "that call failed, so the next takes it");
    writes.ends_acknowledged(&[name]);
    assert!(writes.unacknowledged_ends().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_end_is_sent_again_until_the_engine_has_it() {
    let (engine, writes) = writes(LONG);
    engine.away.store(true, Ordering::Release);
    drop(writes.begin().admitted(1));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(engine.ended.lock().is_empty());
    engine.away.store(false, Ordering::Release);
    while engine.ended.lock().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn all_writes_of_a_node_are_renewed_in_one_command() {
    let (engine, writes) = writes(LONG);
    let permits: Vec<Permit> = (0..100).map(|number| writes.begin().admitted(number)).collect();
    writes.renew_now().await.unwrap();
    assert_eq!(engine.renewed.lock().iter().map(Vec::len).collect::<Vec<_>>(), [100]);
    assert!(permits.iter().all(|permit| !is_lapsed(permit)));
}

#[tokio::test]
async fn what_the_engine_does_not_know_any_more_has_lapsed_for_good() {
    let (engine, writes) = writes(LONG);
    let (one, other) = (writes.begin(), writes.begin().admitted(1));
    engine.gone.lock().insert(one.name());
    let one = one.admitted(1);
    let waiting = tokio::spawn(async move {
        lapsed(&one).await;
        one
    });
    tokio::task::yield_now().await;
    writes.renew_now().await.unwrap();
    let one = waiting.await.unwrap();
    engine.gone.lock().clear();
    writes.renew_now().await.unwrap();
    assert!(is_lapsed(&one), "a lapsed lease is never renewed back to life");
    assert!(!is_lapsed(&other));
    assert_eq!(engine.renewed.lock().last().map(Vec::len), Some(1), "nor is it asked for again");
}

#[tokio::test(start_paused = true)]
async fn without_an_engine_a_write_is_stopped_before_its_lease_is_over() {
    let (engine, writes) = writes(Duration::from_secs(30));
    engine.away.store(true, Ordering::Release);
    let begun = Instant::now();
    let permit = writes.begin().admitted(1);
    assert!(!is_lapsed(&permit));
    lapsed(&permit).await;
    assert!(begun.elapsed() >= Duration::from_secs(27), "not before nine tenths of it");
    engine.away.store(false, Ordering::Release);
    writes.renew_now().await.unwrap();
    assert!(is_lapsed(&permit), "never renewed back to life");
}

#[tokio::test(start_paused = true)]
async fn with_an_engine_it_goes_on_past_its_first_lease() {
    let (engine, writes) = writes(Duration::from_secs(30));
    let permit = writes.begin().admitted(1);
    while engine.renewed.lock().len() < 50 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!is_lapsed(&permit));
    }
}

#[tokio::test]
async fn the_keeper_ends_with_the_writes() {
    let (engine, writes) = writes(Duration::from_millis(30));
    let weak = Arc::downgrade(&writes.0);
    drop(writes.begin().admitted(1));
    drop(writes);
    while weak.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
    drop(engine);
}
