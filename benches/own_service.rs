//! The few lines with which you measure a service of your own: `cargo bench --bench own_service`.
//!
//! Copy this file and the folder `harness` into the benches of your project, with `harness = false` in its `[[bench]]`, and put
//! your service in the place of [`application`] and your requests in that of [`save`]. All that follows stays as it is.

mod harness;

use axum::{Router, body::Body, extract::Request, routing::put};
use http::StatusCode;
use tower_lock::{LockLayer, LockRequest, Locks, MemoryStore};

use self::harness::Bench;

/// Your service.
fn application() -> Router {
    Router::new().route("/docs/{id}", put(async |body: String| body))
}

/// One of the requests that it gets; `number` counts them, from zero.
fn save(number: usize) -> Request {
    let path = format!("/docs/{number}");
    Request::builder().method("PUT").uri(path).body(Body::from("a small document")).expect("a request")
}

fn main() {
    // For services that need a runtime: its threads go on working while this one waits.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let locks = Locks::builder(MemoryStore::new()).build();
    for number in 0..100 {
        let request = LockRequest::exclusive(format!("/docs/locked-{number}"));
        let _token = runtime.block_on(locks.acquire(request)).expect("the path is free").token();
    }
    let layered = application().layer(LockLayer::new(locks));

    let mut bench = Bench::from_args(100);
    let (_inside, handle) = (runtime.enter(), runtime.handle().clone());
    bench.around(move |work| {
        let _inside = handle.enter();
        work();
    });
    let bare = bench.service("PUT, the service alone", &application(), save, StatusCode::OK);
    let unlocked = bench.service("PUT, behind LockLayer", &layered, save, StatusCode::OK);
    let locked = |_| Request::builder().method("PUT").uri("/docs/locked-7").body(Body::empty()).expect("a request");
    let refused = bench.service("PUT, refused", &layered, locked, StatusCode::LOCKED);
    bench.compare(unlocked.over(bare));
    bench.compare(refused.over(bare));
    bench.run();

    if bench.measuring() {
        print!("{}", bench.table(&[]));
        println!("\nBehind LockLayer a write takes {:.3} of the time it takes alone.", bench.ratio(unlocked, bare));
    } else {
        println!("all {} cases work; cargo bench --bench own_service measures them", bench.count());
    }
}
