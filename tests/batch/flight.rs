//! Bulk writes under way: what is registered until when, beside acquires, other writes, lapsing leases, dropped futures.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use serde_json::json;
use tower::{Service, ServiceExt, limit::ConcurrencyLimitLayer};
use tower_layer::Layer;
use tower_lock::{
    BatchLayer, Depth, LockRequest, LockScope, LockStore, Locks, MemoryStore,
    batch::RequestBody,
    lock::{Gone, Lock},
    store::{
        Acquire, Acquired, LockPage, LockQuery, Refresh, Refreshed, Refused, Release, Released, StoreFuture, Verdict, Watch,
        Write, WriteId,
    },
};

use crate::{
    records::{Records, Seen, answer, bulk, ids, modes, saving, tagged},
    support::{
        Answer, Call, Mode, ProbeError, Rigged, Text, by, leases::Leases, lock, lock_for, locks_of_users, poll_once, probe,
        request, send, until,
    },
};

/// A gate that tests open.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    fn open(&self) {
        let mut gate = self.0.lock().unwrap();
        gate.0 = true;
        gate.1.drain(..).for_each(Waker::wake);
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut gate = self.0.lock().unwrap();
        if gate.0 {
            return Poll::Ready(());
        }
        gate.1.push(cx.waker().clone());
        Poll::Pending
    }

    async fn opened(self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}

/// A body that comes once its gate is open. It knows nothing of its length.
struct Gated {
    gate: Gate,
    text: Option<&'static str>,
}

impl Body for Gated {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::ready!(self.gate.poll(cx));
        Poll::Ready(self.text.take().map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

#[tokio::test]
async fn g3_an_acquire_waits_until_the_answer_was_read_and_merged() {
    let store = MemoryStore::new();
    let locks = locks_of_users(store.clone()).build();
    lock(&locks, "/records/1", Depth::Infinity).await;
    let (head, body) = (Gate::default(), Gate::default());
    let (headed, bodied) = (head.clone(), body.clone());
    let inner = probe(move |_: Request<RequestBody<Text>>| {
        let (head, gate) = (headed.clone(), bodied.clone());
        async move {
            head.opened().await;
            Ok::<_, ProbeError>(Response::new(Gated { gate, text: Some(r#"[{"done": true}, {"done": true}]"#) }))
        }
    });
    let service = BatchLayer::new(locks.clone(), Records).forward_unlocked().layer(inner);
    let write = tokio::spawn(service.oneshot(bulk(&ids(["1", "2", "3"]))));
    until("it runs", || store.stats().in_flight == 1).await;
    // What was left out is in nobody's way.
    let hub = locks.clone();
    let acquire = tokio::spawn(async move { hub.acquire(LockRequest::exclusive("/records/2").principal("eve")).await });
    until("it is coming", || store.stats().locks == 2).await;
    // The mark refuses what the lock will.
    let seen = Seen::default();
    let other = send(&mut saving(&BatchLayer::new(locks.clone(), Records), &seen), bulk(&ids(["2", "4"]))).await;
    assert_eq!((other.status.as_u16(), &other.json()["locks"][0]["state"]), (423, &json!("pending")));
    for gate in [head, body] {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert!(!acquire.is_finished() && !write.is_finished(), "granted under a write that still runs");
        gate.open();
    }
    let answer = Answer::of(write.await.unwrap().unwrap()).await;
    assert_eq!(answer.json()[0]["refused"], "locked");
    let _granted = acquire.await.unwrap().expect("granted once it has ended");
    assert_eq!(store.stats().in_flight, 0);
}

#[tokio::test]
async fn what_is_left_out_is_not_registered() {
    for mode in [1, 2] {
        let store = MemoryStore::new();
        let locks = locks_of_users(store.clone()).build();
        let token = lock(&locks, "/records/1", Depth::Infinity).await;
        let gate = Gate::default();
        let gated = gate.clone();
        let inner = probe(move |_: Request<RequestBody<Text>>| {
            let gate = gated.clone();
            async move {
                gate.opened().await;
                Ok::<_, ProbeError>(answer(StatusCode::OK, r#"[{"done": true}]"#))
            }
        });
        let service = modes(&locks)[mode].1.clone().layer(inner);
        let write = tokio::spawn(service.oneshot(bulk(&ids(["1", "2"]))));
        until("it runs", || store.stats().in_flight == 1).await;
        locks.release(token).await.unwrap();
        // At once, though the write goes on: it leaves that record alone.
        _ = locks.acquire(LockRequest::exclusive("/records/1").draining(std::time::Duration::ZERO)).await.unwrap();
        let busy = locks.acquire(LockRequest::exclusive("/records/2").draining(std::time::Duration::ZERO)).await;
        assert_eq!(busy.unwrap_err().status(), 409);
        gate.open();
        assert_eq!(write.await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn bulk_writes_with_crossed_items_never_refuse_or_delay_one_another() {
    for mode in [Mode::Pass, Mode::Later] {
        let store = MemoryStore::new();
        let locks = locks_of_users(Rigged::all(store.clone(), mode)).build();
        for id in 0..3 {
            lock(&locks, &format!("/records/{}", id * 7), Depth::Infinity).await;
        }
        let both = Arc::new(tokio::sync::Barrier::new(2));
        let inner = probe(move |request: Request<RequestBody<Text>>| {
            let both = both.clone();
            async move {
                // Each ends only when the other runs too.
                both.wait().await;
                Seen::default().save(request).await
            }
        });
        let service = BatchLayer::new(locks.clone(), Records).forward_unlocked().layer(inner);
        let numbers: Vec<String> = (0..20).map(|id| id.to_string()).collect();
        let up = bulk(&ids(numbers.iter().map(String::as_str)));
        let down = bulk(&ids(numbers.iter().rev().map(String::as_str)));
        let (up, down) = tokio::join!(service.clone().oneshot(up), service.clone().oneshot(down));
        let (up, down) = (Answer::of(up.unwrap()).await.json(), Answer::of(down.unwrap()).await.json());
        for id in 0..20 {
            let expected = if [0, 7, 14].contains(&id) { json!("locked") } else { json!(null) };
            assert_eq!((&up[id]["refused"], &down[19 - id]["refused"]), (&expected, &expected));
        }
        assert_eq!(store.stats().in_flight, 0);
    }
}

/// A store that meddles before each question, and can refuse instead of asking.
struct Meddling<S, F> {
    inner: S,
    before: F,
    asked: AtomicUsize,
}

impl<S, F> Meddling<S, F> {
    fn new(inner: S, before: F) -> Self {
        Self { inner, before, asked: AtomicUsize::new(0) }
    }
}

impl<S: LockStore, F: Fn(usize) -> Option<Lock> + Send + Sync + 'static> LockStore for Meddling<S, F> {
    fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        match (self.before)(self.asked.fetch_add(1, Ordering::SeqCst)) {
            Some(lock) => {
                StoreFuture::ready(Verdict::Refused(Box::new(Refused { blockers: vec![lock], ..Refused::default() })))
            }
            None => self.inner.admit(write),
        }
    }
    fn acquire(&self, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        self.inner.acquire(request)
    }
    fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        self.inner.refresh(refresh)
    }
    fn release(&self, release: &Release<'_>) -> StoreFuture<Released> {
        self.inner.release(release)
    }
    fn clear(&self, gone: &[Gone<'_>], under: Option<WriteId>) -> StoreFuture<usize> {
        self.inner.clear(gone, under)
    }
    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        self.inner.find(query)
    }
    fn watch(&self, query: &LockQuery<'_>) -> Watch {
        self.inner.watch(query)
    }
}

/// Locks a record at once, from where nothing can be waited for.
fn lock_now(locks: &Locks, path: &str) {
    let granted = poll_once(std::pin::pin!(locks.acquire(LockRequest::exclusive(path))));
    assert!(matches!(granted, Poll::Ready(Ok(_))), "{path}");
}

#[tokio::test]
async fn a_lock_that_comes_between_the_questions_is_heeded() {
    for mode in [1, 2] {
        for locked_meanwhile in 0..=8 {
            let store = MemoryStore::new();
            let behind = Locks::new(store.clone());
            let meddle = move |asked: usize| {
                if asked < locked_meanwhile + 1 {
                    lock_now(&behind, &format!("/records/{asked}"));
                }
                None
            };
            let store = Arc::new(Meddling::new(store.clone(), meddle));
            let locks = locks_of_users(store.clone()).build();
            let seen = Seen::default();
            let mut service = saving(&modes(&locks)[mode].1, &seen);
            let numbers: Vec<String> = (0..12).map(|id| id.to_string()).collect();
            let answer = send(&mut service, bulk(&ids(numbers.iter().map(String::as_str)))).await;
            let asked = store.asked.load(Ordering::SeqCst);
            assert_eq!(answer.status == 200, locked_meanwhile <= 4, "six questions, and no more");
            if answer.status == 200 {
                assert_eq!(asked, locked_meanwhile + 2, "as often as something came in between, and no oftener");
                if mode == 1 {
                    assert_eq!(seen.all()[0], numbers[locked_meanwhile + 1..], "nothing locked reaches the service");
                }
            } else {
                assert_eq!((answer.status.as_u16(), seen.count()), (423, 0), "it is not asked for ever");
                assert_eq!(asked, 6, "{locked_meanwhile}");
            }
        }
    }
}

#[tokio::test]
async fn a_store_that_blames_no_item_refuses_the_whole() {
    let store = MemoryStore::new();
    let elsewhere = Locks::new(store.clone()).acquire(LockRequest::exclusive("/elsewhere")).await.unwrap().lock().clone();
    let meddle = move |_: usize| Some(elsewhere.clone());
    let locks = locks_of_users(Meddling::new(store, meddle)).build();
    for (mode, layer) in modes(&locks) {
        let seen = Seen::default();
        let answer = send(&mut saving(&layer, &seen), bulk(&ids(["1", "2"]))).await;
        assert_eq!((answer.status.as_u16(), seen.count()), (423, 0), "{mode}");
    }
}

/// A service that takes two steps, and an answer that takes two.
fn slow(
    steps: Arc<AtomicUsize>,
) -> impl Service<Request<RequestBody<Slow>>, Response = Response<Slow>, Error = ProbeError, Future: Send> + Clone + Send + 'static
{
    probe(move |request: Request<RequestBody<Slow>>| {
        let steps = steps.clone();
        async move {
            steps.fetch_add(1, Ordering::SeqCst);
            let body = request.into_body().collect().await.unwrap().to_bytes();
            tokio::task::yield_now().await;
            let count = serde_json::from_slice::<serde_json::Value>(&body).unwrap().as_array().unwrap().len();
            let done: serde_json::Value = (0..count).map(|_| json!({ "done": true })).collect();
            tokio::task::yield_now().await;
            steps.fetch_add(1, Ordering::SeqCst);
            Ok(Response::new(Slow::of(done.to_string())))
        }
    })
}

/// A body that comes bit by bit, with a pause before each.
#[derive(Default)]
struct Slow {
    left: Vec<Bytes>,
    paused: bool,
}

impl Slow {
    fn of(text: String) -> Self {
        let text = Bytes::from(text);
        let half = text.len() / 2;
        Self { left: vec![text.slice(half..), text.slice(..half)], paused: false }
    }
}

impl Body for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.paused = !self.paused;
        if self.paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.left.pop().map(|data| Ok(Frame::data(data))))
    }
}

#[tokio::test]
async fn dropped_anywhere_it_leaves_nothing() {
    let mut finished = 0;
    for mode in [Mode::Pass, Mode::Later] {
        for number in 0..3 {
            for polls in 0..40 {
                let memory = MemoryStore::new();
                let locks = locks_of_users(Rigged::all(memory.clone(), mode)).build();
                let one = lock_for(&locks, "ann", "/records/1", LockScope::Exclusive).await;
                lock_for(&locks, "eve", "/records/2", LockScope::Exclusive).await;
                let service = modes(&locks)[number].1.clone().layer(slow(Arc::default()));
                let records = json!([{"id": "1", "delete": true}, {"id": "2"}, {"id": "3"}]);
                let records = if number == 0 { json!([{"id": "1", "delete": true}, {"id": "3"}]) } else { records };
                let ask = by(tagged(bulk(&records), "/records/1", one), "ann").map(|_| Slow::of(records.to_string()));
                let mut write = Box::pin(service.oneshot(ask));
                let mut polled = 0;
                while polled < polls && poll_once(write.as_mut()).is_pending() {
                    polled += 1;
                    tokio::task::yield_now().await;
                }
                finished += usize::from(polled < polls);
                drop(write);
                until("nothing is left", || memory.stats().in_flight == 0).await;
                _ = locks.acquire(LockRequest::exclusive("/records/3").draining(std::time::Duration::ZERO)).await.unwrap();
            }
        }
    }
    assert!(finished > 30, "some come to their end: {finished}");
}

#[tokio::test]
async fn a_codec_or_a_service_that_panics_leaves_nothing_in_flight() {
    use tower_lock::{
        Refusal, RequestView,
        batch::{BatchCodec, Item, Unmergeable, Verdicts},
    };
    /// Panics at this one of its steps.
    struct Panics(&'static str);
    impl Panics {
        fn at(&self, step: &str) {
            assert_ne!(self.0, step, "as it was told to");
        }
    }
    impl BatchCodec for Panics {
        fn is_bulk(&self, request: RequestView<'_>) -> bool {
            Records.is_bulk(request)
        }
        fn read(&self, request: RequestView<'_>, body: &Bytes) -> Result<Vec<Item>, Refusal> {
            self.at("read");
            Records.read(request, body)
        }
        fn keep(&self, request: RequestView<'_>, body: &Bytes, kept: &[usize]) -> Result<Bytes, Refusal> {
            self.at("keep");
            Records.keep(request, body, kept)
        }
        fn merge(&self, verdicts: &Verdicts, answer: Option<Response<Bytes>>) -> Result<Response<Bytes>, Unmergeable> {
            self.at("merge");
            Records.merge(verdicts, answer)
        }
        fn done(&self, verdicts: &Verdicts, answer: &Response<Bytes>) -> Vec<usize> {
            self.at("done");
            Records.done(verdicts, answer)
        }
    }
    for step in ["read", "keep", "call", "done", "merge"] {
        let store = MemoryStore::new();
        let locks = locks_of_users(store.clone()).build();
        let held = locks.acquire(LockRequest::exclusive("/records/1")).await.unwrap();
        let inner = probe(move |_: Request<RequestBody<Text>>| async move {
            assert_ne!(step, "call", "as it was told to");
            Ok::<_, ProbeError>(crate::records::answer(http::StatusCode::OK, r#"[{"done": true}]"#))
        });
        let service = BatchLayer::new(locks.clone(), Panics(step)).forward_unlocked().layer(inner);
        let write = tokio::spawn(service.oneshot(bulk(&ids(["1", "2"]))));
        assert!(write.await.is_err_and(|error| error.is_panic()), "{step}");
        assert_eq!(store.stats().in_flight, 0, "{step}");
        locks.release(held.token()).await.unwrap();
        lock_now(&locks, "/records/2");
    }
}

#[tokio::test]
async fn a_lapsed_lease_stops_the_service_and_no_success_is_answered() {
    let memory = MemoryStore::new();
    let blocker = Locks::new(memory).acquire(LockRequest::exclusive("/records/1")).await.unwrap().lock().clone();
    for (mode, refuses) in [(0, false), (1, false), (1, true), (2, true)] {
        let mut most = usize::MAX;
        let mut lapse_at = 0;
        while lapse_at < most {
            let leases = Leases::default();
            let lock = blocker.clone();
            let store = Meddling::new(leases.clone(), move |asked| (refuses && asked == 0).then(|| lock.clone()));
            let locks = locks_of_users(Rigged::all(Arc::new(store), Mode::Later)).build();
            let steps = Arc::new(AtomicUsize::new(0));
            let service = modes(&locks)[mode].1.clone().layer(slow(steps.clone()));
            let ask = bulk(&json!([])).map(|_| Slow::of(ids(["1", "2"]).to_string()));
            let mut write = Box::pin(service.oneshot(ask));
            let mut polled = 0;
            let answer = loop {
                if polled == lapse_at {
                    leases.lapse_untold();
                }
                polled += 1;
                match poll_once(write.as_mut()) {
                    Poll::Ready(answer) => break answer.unwrap(),
                    Poll::Pending => tokio::task::yield_now().await,
                }
            };
            if polled <= lapse_at {
                // It had ended before.
                most = lapse_at;
            } else {
                let steps = steps.load(Ordering::SeqCst);
                let reading = steps == 2 && (answer.status() == 503 || mode != 1 || !refuses);
                assert!(answer.status() == 503 || reading, "{mode} {refuses} {lapse_at} {steps}");
            }
            drop(write);
            assert_eq!(leases.ended(), 1, "{mode} {refuses} {lapse_at}");
            lapse_at += 1;
        }
        assert!(lapse_at > 5, "{lapse_at}");
    }
}

#[tokio::test]
async fn a_slow_client_holds_no_place_at_a_limit_inside() {
    let locks = locks_of_users(MemoryStore::new()).build();
    let seen = Seen::default();
    let saved = seen.clone();
    let inner = tower::service_fn(move |request: Request<RequestBody<Gated>>| saved.clone().save(request));
    let limited = ConcurrencyLimitLayer::new(1).layer(inner);
    let service = BatchLayer::new(locks, Records).layer(limited);
    let gate = Gate::default();
    let gated = |gate: &Gate, text| bulk(&json!([])).map(|_| Gated { gate: gate.clone(), text: Some(text) });
    let slow: Vec<_> = (0..3).map(|_| tokio::spawn(service.clone().oneshot(gated(&gate, r#"[{"id": "1"}]"#)))).collect();
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let open = Gate::default();
    open.open();
    for text in [r#"[{"id": "2"}]"#, r#"[{"id": "3"}]"#] {
        let others = service.clone().oneshot(gated(&open, text));
        let others = tokio::time::timeout(std::time::Duration::from_secs(20), others).await;
        assert_eq!(others.expect("they starve").unwrap().status(), 200);
    }
    let read = request("GET", "/records/2").map(|_| Gated { gate: open.clone(), text: None });
    assert_eq!(service.clone().oneshot(read).await.unwrap().status(), 200);
    gate.open();
    for slow in slow {
        assert_eq!(slow.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(seen.count(), 6);
}

#[tokio::test]
async fn a_write_that_waits_for_a_place_at_the_service_is_not_in_flight() {
    let memory = MemoryStore::new();
    let store = Rigged::new(memory.clone());
    let locks = locks_of_users(store.clone()).build();
    let inner = tower::service_fn(|request: Request<RequestBody<Gated>>| Seen::default().save(request));
    let limited = ConcurrencyLimitLayer::new(1).layer(inner);
    let service = BatchLayer::new(locks.clone(), Records).layer(limited);
    let gate = Gate::default();
    let ask = bulk(&json!([])).map(|_| Gated { gate: gate.clone(), text: Some(r#"[{"id": "1"}]"#) });
    let mut write = Box::pin(service.clone().oneshot(ask));
    assert!(poll_once(write.as_mut()).is_pending());
    // Somebody else has the place when the body is there.
    let mut other = service.clone();
    std::future::poll_fn(|cx| Service::<Request<Gated>>::poll_ready(&mut other, cx)).await.unwrap();
    gate.open();
    for _ in 0..5 {
        assert!(poll_once(write.as_mut()).is_pending());
    }
    assert_eq!((store.calls(Call::Admit), memory.stats().in_flight), (0, 0), "no acquire waits for who waits");
    drop(other);
    assert_eq!(write.await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_service_that_was_polled_ready_is_the_one_that_is_called() {
    // A probe panics when it is called un-ready, and its clones are.
    let locks = locks_of_users(MemoryStore::new()).build();
    let at_hand = probe(async |_: Request<RequestBody<Text>>| Ok::<_, ProbeError>(answer(StatusCode::OK, "[]")));
    let counts = at_hand.counts();
    let mut service = BatchLayer::new(locks.clone(), Records).layer(at_hand);
    for _ in 0..3 {
        assert_eq!(send(&mut service, bulk(&ids(["1"]))).await.status, 200);
    }
    assert_eq!((counts.calls(), counts.polls()), (3, 6), "a body at hand: the readiness is kept");
    let late = probe(async |_: Request<RequestBody<Slow>>| Ok::<_, ProbeError>(answer(StatusCode::OK, "[]")));
    let mut service = BatchLayer::new(locks.clone(), Records).layer(late);
    let ask = || bulk(&json!([])).map(|_| Slow::of(ids(["1"]).to_string()));
    for _ in 0..3 {
        assert_eq!(send(&mut service, ask()).await.status, 200);
    }
    // What becomes of becoming ready anew is the answer.
    #[derive(Clone)]
    struct Once(bool);
    impl Service<Request<RequestBody<Slow>>> for Once {
        type Response = Response<Text>;
        type Error = ProbeError;
        type Future = std::future::Ready<Result<Self::Response, ProbeError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ProbeError>> {
            Poll::Ready(if std::mem::replace(&mut self.0, true) { Err(ProbeError("not again")) } else { Ok(()) })
        }
        fn call(&mut self, _: Request<RequestBody<Slow>>) -> Self::Future {
            panic!("called un-ready")
        }
    }
    let error = BatchLayer::new(locks, Records).layer(Once(false)).oneshot(ask()).await.unwrap_err();
    assert_eq!(error, ProbeError("not again"));
}
