//! One node: a small server behind a layer, with an endpoint beside it. A process of its own, or a task.

use std::{
    io::{Read, Write},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower_lock::{Access, Admission, AuthorizeAsk, Limits, LockEndpoint, LockLayer, LockStore, Locks, Principal};

use super::{engine::StoreConfig, trace::Trace};

/// Says in the environment that this process is a node, and of what kind.
pub(crate) const TOLD: &str = "TOWER_LOCK_NODE";

/// What a node is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeConfig {
    pub(crate) store: StoreConfig,
    /// How long an acquire waits for writes in flight.
    pub(crate) drain: Duration,
    pub(crate) trace: PathBuf,
}

/// The process of a node, which ends when its input does: not with this test, but with the fleet that started it.
#[test]
fn when_told_so_this_process_is_a_node() {
    let Ok(told) = std::env::var(TOLD) else { return };
    let config: NodeConfig = serde_json::from_str(&told).expect("what the fleet wrote");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let port = runtime.block_on(async {
        let store = config.store.open(Arc::default()).await;
        let (port, server) = serve(store, &config).await;
        tokio::spawn(server);
        port
    });
    println!("\nlistening {port}");
    std::io::stdout().flush().expect("the fleet reads");
    _ = std::io::stdin().read(&mut [0]);
    std::process::exit(0);
}

/// The server, and its port.
pub(crate) async fn serve(store: Arc<dyn LockStore>, config: &NodeConfig) -> (u16, impl Future<Output = ()> + Send + use<>) {
    let mut limits = Limits::default();
    limits.admit_within = config.store.time_limit;
    limits.answer_within = config.store.time_limit;
    limits.drain = config.drain;
    let locks = Locks::builder(store)
        .principal(|request| Some(Principal::new(request.headers.get("x-user")?.to_str().ok()?)))
        .authorizer(|_: &AuthorizeAsk<'_>| Access::Allowed)
        .limits(limits)
        .endpoint_url("/locks")
        .build();
    let app = Router::new()
        .fallback(write_or_read)
        .with_state(Arc::new(Trace::create(&config.trace)))
        .layer(LockLayer::new(locks.clone()).fence_all())
        .nest_service("/locks", LockEndpoint::new(locks));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    (port, async move { axum::serve(listener, app).await.expect("it listens") })
}

/// The service: a write takes some steps, with pauses between them as its client says.
async fn write_or_read(State(trace): State<Arc<Trace>>, request: Request) -> StatusCode {
    let Some(admission) = request.extensions().get::<Admission>().cloned() else { return StatusCode::OK };
    // Its body is no part of the future: it cannot be shared between threads.
    let headers = request.headers().clone();
    let number = |name| number(&headers, name);
    if !headers.contains_key("x-write") {
        return StatusCode::NO_CONTENT;
    }
    let (write, steps, pause) = (number("x-write"), number("x-steps"), Duration::from_millis(number("x-pause")));
    trace.enter(write, admission.generation());
    for _ in 0..steps {
        tokio::time::sleep(pause).await;
        if number("x-stop") == 1 {
            // The whole process stands still between the decision to go on and the step: nothing can be done about that
            // here, and what is written to has to refuse the step by its generation.
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP).expect("ourselves");
            // It may take a moment to reach every thread.
            std::thread::sleep(Duration::from_millis(100));
        }
        trace.step(write);
    }
    trace.exit(write);
    StatusCode::NO_CONTENT
}

fn number(headers: &HeaderMap, name: &str) -> u64 {
    headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or_default()
}
