//! What the layer allocates: nothing for a read, nothing for an unlocked write, whether anybody hears of what happens or not;
//! little for a holder's write and for a refusal. Nor does the layer for bulk writes for what is none, nor the WebDAV layer
//! for a read.
//!
//! A test binary of its own with one test in it, because the counter sees every thread.

mod support;

use std::{
    alloc::System,
    convert::Infallible,
    future::Ready,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{holding, lock, poll_once};
use tower::Service;
use tower_layer::Layer;
use tower_lock::{Depth, Limits, LockLayer, LockStore, Locks, MemoryStore};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A service that allocates nothing.
#[derive(Clone)]
struct Bare;

impl<B> Service<Request<B>> for Bare {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        std::future::ready(Ok(Response::new(Empty::new())))
    }
}

/// A codec of which nothing is a bulk write.
#[cfg(feature = "batch")]
struct Never;

#[cfg(feature = "batch")]
impl tower_lock::batch::BatchCodec for Never {
    fn is_bulk(&self, _: tower_lock::RequestView<'_>) -> bool {
        false
    }
    fn read(&self, _: tower_lock::RequestView<'_>, _: &Bytes) -> Result<Vec<tower_lock::batch::Item>, tower_lock::Refusal> {
        unreachable!("there is no bulk write")
    }
    fn keep(&self, _: tower_lock::RequestView<'_>, _: &Bytes, _: &[usize]) -> Result<Bytes, tower_lock::Refusal> {
        unreachable!("there is no bulk write")
    }
    fn merge(
        &self,
        _: &tower_lock::batch::Verdicts,
        _: Option<Response<Bytes>>,
    ) -> Result<Response<Bytes>, tower_lock::batch::Unmergeable> {
        unreachable!("there is no bulk write")
    }
    fn done(&self, _: &tower_lock::batch::Verdicts, _: &Response<Bytes>) -> Vec<usize> {
        unreachable!("there is no bulk write")
    }
}

const ROUNDS: usize = 100;
const BATCHES: usize = 5;

/// The most for a write of a lock's holder, beside what [`first_extension`] takes.
const HOLDER: f64 = 1.0;
/// The most for a refusal with its JSON body.
const REFUSAL: f64 = 11.0;

/// What the first value in the extensions of a request takes. The admission of a holder's write is put there.
fn first_extension() -> f64 {
    let mut extended = tower::service_fn(|mut request: Request<()>| {
        request.extensions_mut().insert([0_u64; 4]);
        std::future::ready(Ok::<_, Infallible>(Response::new(request.extensions().len())))
    });
    allocations(&mut extended, || ask("PUT", "/a"), 200)
}

/// How often `service` allocates for a request, on average over many after the first few; building the requests aside.
///
/// The least of several batches: the counter sees the threads of the test harness too, which add to some of them. What the
/// service itself allocates is in each.
fn allocations<S, T, B>(service: &mut S, build: impl Fn() -> Request<T>, status: u16) -> f64
where
    S: Service<Request<T>, Response = Response<B>, Error = Infallible>,
{
    let mut answer = |request| {
        assert!(service.poll_ready(&mut Context::from_waker(std::task::Waker::noop())).is_ready());
        let mut future = std::pin::pin!(service.call(request));
        let Poll::Ready(Ok(response)) = poll_once(future.as_mut()) else { panic!("not at once") };
        assert_eq!(response.status(), status);
    };
    (0..8).for_each(|_| answer(build()));
    let mut least = usize::MAX;
    for _ in 0..BATCHES {
        let requests: Vec<Request<T>> = (0..ROUNDS).map(|_| build()).collect();
        let region = Region::new(ALLOCATOR);
        requests.into_iter().for_each(&mut answer);
        let change = region.change();
        least = least.min(change.allocations + change.reallocations);
    }
    least as f64 / ROUNDS as f64
}

fn ask(method: &str, target: &str) -> Request<()> {
    Request::builder().method(method).uri(target).body(()).unwrap()
}

#[test]
fn g2_a_read_and_an_unlocked_write_allocate_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let erased: Arc<dyn LockStore> = Arc::new(MemoryStore::new());
    let mut limits = Limits::default();
    limits.locks_per_principal = usize::MAX;
    let plain = Locks::builder(MemoryStore::new()).limits(limits).build();
    let erased = Locks::builder(erased).limits(limits).build();
    let heard = Locks::builder(MemoryStore::new()).limits(limits).on_activity(|_| ());
    #[cfg(feature = "tracing")]
    let heard = heard.traced();
    let heard = heard.build();
    let extension = first_extension();
    assert!(extension >= 1.0, "the counter counts");
    for (name, locks) in [("MemoryStore", plain), ("Arc<dyn LockStore>", erased), ("with a hook", heard)] {
        for count in [0, 1, 1_000] {
            let held = runtime.block_on(async {
                for at in 0..count {
                    lock(&locks, &format!("/locked/{count}/{at}"), Depth::Infinity).await;
                }
                lock(&locks, &format!("/held/{count}"), Depth::Infinity).await
            });
            let mut guarded = LockLayer::new(locks.clone()).layer(Bare);
            let mut answered = LockLayer::new(locks.clone()).respond_with(|_, _| Response::new(Empty::new())).layer(Bare);
            for target in ["/", "/a", "/docs/some/where/deep/down/7", "/locked/none"] {
                for method in ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"] {
                    // The bare service is the measure; it is known to be zero, so that a counter that counts nothing shows.
                    let bare = allocations(&mut Bare, || ask(method, target), 200);
                    if method == "DELETE" && target == "/" {
                        continue;
                    }
                    let ours = allocations(&mut guarded, || ask(method, target), 200);
                    assert!(ours == bare && bare == 0.0, "{method} {target}, {count} locks, {name}: {ours}, bare {bare}");
                    let ours = allocations(&mut answered, || ask(method, target), 200);
                    assert!(ours == 0.0, "{method} {target}, {count} locks, {name}, with a closure for refusals: {ours}");
                }
            }
            let path = format!("/held/{count}");
            let holder = allocations(&mut guarded, || holding(ask("PUT", &path), held), 200);
            let refusal = allocations(&mut guarded, || ask("PUT", &path), 423);
            println!(
                "{name}, {count} locks: a holder's write allocates {holder} times, of which the extensions {extension}; a refusal {refusal} times"
            );
            assert!(
                holder <= extension + HOLDER,
                "a holder's write, {count} locks, {name}: {holder}, extensions {extension}"
            );
            assert!(refusal <= REFUSAL, "a refusal, {count} locks, {name}: {refusal}");
        }
        let mut fenced = LockLayer::new(locks.clone()).fence_all().layer(Bare);
        let fence = allocations(&mut fenced, || ask("PUT", "/a"), 200);
        println!("{name}: a write with an admission in its extensions allocates {fence} times");
        #[cfg(feature = "batch")]
        {
            let mut bulk = tower_lock::BatchLayer::new(locks.clone(), Never).layer(Bare);
            for method in ["GET", "HEAD", "OPTIONS", "REPORT", "PUT", "POST", "DELETE"] {
                let build = || ask(method, "/a").map(|()| Empty::<Bytes>::new());
                assert_eq!(allocations(&mut bulk, build, 200), 0.0, "{method} through BatchLayer, {name}");
            }
        }
        #[cfg(feature = "webdav")]
        {
            let mut dav = tower_lock::DavLayer::new(locks.clone()).layer(Bare);
            for method in ["GET", "HEAD", "OPTIONS", "REPORT"] {
                let build = || ask(method, "/held/1").map(|()| Empty::<Bytes>::new());
                assert_eq!(allocations(&mut dav, build, 200), 0.0, "{method} through DavLayer, {name}");
            }
            let build = || ask("PUT", "/a").map(|()| Empty::<Bytes>::new());
            println!("{name}: an unlocked write through DavLayer allocates {} times", allocations(&mut dav, build, 200));
        }
    }
}
