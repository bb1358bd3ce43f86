//! A write whose lease has lapsed is stopped, before it does anything else: others may be granted what it changes.

mod support;

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use support::{Answer, Call, Mode, ProbeError, Rigged, Text, leases::Leases, poll_once, probe, request, until};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_lock::{LockLayer, Locks, Refusal, respond::LeaseLapsed};

/// Counts what a service did, and whether it was dropped.
#[derive(Clone, Default)]
struct Traces(Arc<Trace>);

#[derive(Default)]
struct Trace {
    steps: AtomicUsize,
    dropped: AtomicBool,
}

impl Traces {
    fn steps(&self) -> usize {
        self.0.steps.load(Ordering::SeqCst)
    }

    fn dropped(&self) -> bool {
        self.0.dropped.load(Ordering::SeqCst)
    }
}

/// A write that does a step each time it is polled, and never ends.
struct Stepping(Traces);

impl Future for Stepping {
    type Output = Result<Response<Text>, ProbeError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.0.steps.fetch_add(1, Ordering::SeqCst);
        Poll::Pending
    }
}

impl Drop for Stepping {
    fn drop(&mut self) {
        self.0.0.dropped.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_write_whose_lease_has_lapsed_is_stopped() {
    for mode in [Mode::Pass, Mode::Later] {
        let (leases, traces) = (Leases::default(), Traces::default());
        let stepping = traces.clone();
        let probe = probe(move |_: Request<Text>| Stepping(stepping.clone()));
        let service = LockLayer::new(Locks::new(Rigged::all(leases.clone(), mode))).layer(probe);
        let answer = tokio::spawn(service.oneshot(request("PUT", "/a")));
        until("the lease is watched", || leases.is_watched() && traces.steps() == 1).await;
        assert!(!traces.dropped() && leases.ended() == 0);
        leases.lapse();
        let answer = Answer::of(answer.await.unwrap().unwrap()).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "store_unavailable"));
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(traces.dropped(), "the service was stopped");
        assert_eq!(leases.ended(), 1);
    }
}

#[tokio::test]
async fn a_write_that_was_asleep_while_its_lease_lapsed_takes_no_further_step() {
    for mode in [Mode::Pass, Mode::Later] {
        let (leases, traces) = (Leases::default(), Traces::default());
        let stepping = traces.clone();
        let probe = probe(move |_: Request<Text>| Stepping(stepping.clone()));
        let mut service = LockLayer::new(Locks::new(Rigged::all(leases.clone(), mode))).layer(probe);
        let mut future = Box::pin(service.ready().await.unwrap().call(request("PUT", "/a")));
        while traces.steps() < 3 {
            assert!(poll_once(future.as_mut()).is_pending());
        }
        leases.lapse_untold();
        let Poll::Ready(answer) = poll_once(future.as_mut()) else { panic!("it goes on") };
        assert_eq!(answer.unwrap().status(), 503);
        assert_eq!((traces.steps(), traces.dropped(), leases.ended()), (3, true, 1), "{mode:?}");
    }
}

#[tokio::test]
async fn a_write_whose_lease_lapsed_on_the_way_never_starts() {
    let (leases, traces) = (Leases::default(), Traces::default());
    let store = Rigged::all(leases.clone(), Mode::Pass);
    store.set(Call::Admit, Mode::Gated);
    let stepping = traces.clone();
    let probe = probe(move |_: Request<Text>| Stepping(stepping.clone()));
    let counts = probe.counts();
    let mut service = LockLayer::new(Locks::new(store.clone())).layer(probe);
    let mut future = Box::pin(service.ready().await.unwrap().call(request("PUT", "/a")));
    assert!(poll_once(future.as_mut()).is_pending());
    leases.lapse_untold();
    store.open();
    let answer = Answer::of(future.await.unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "store_unavailable"));
    assert_eq!((counts.calls(), traces.steps(), leases.ended()), (0, 0, 1));
}

/// A body that writes while it streams: a step for each frame.
struct Streaming {
    frames: VecDeque<&'static str>,
    traces: Traces,
}

impl Body for Streaming {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.frames.pop_front() {
            Some("") => Poll::Pending,
            frame => {
                self.traces.0.steps.fetch_add(1, Ordering::SeqCst);
                Poll::Ready(frame.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
            }
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.traces.0.dropped.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_body_is_cut_when_the_lease_lapses_under_it() {
    let (leases, traces) = (Leases::default(), Traces::default());
    let kept = traces.clone();
    let probe = probe(move |_: Request<Text>| {
        let body = Streaming { frames: VecDeque::from(["one", "", "two", "three"]), traces: kept.clone() };
        std::future::ready(Ok::<_, ProbeError>(Response::new(body)))
    });
    let refused = |_: &Refusal, _: &http::request::Parts| -> Response<Streaming> { panic!("nothing is refused") };
    let service = LockLayer::new(leases.clone()).respond_with(refused).until_body_ends().layer(probe);
    let mut body = Box::pin(service.oneshot(request("PUT", "/a")).await.unwrap().into_body());
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    let next = tokio::spawn(async move {
        let next = body.frame().await;
        (next, body)
    });
    until("the lease is watched", || leases.is_watched()).await;
    tokio::task::yield_now().await;
    assert!(!next.is_finished() && !traces.dropped() && leases.ended() == 0);
    leases.lapse();
    let (next, mut body) = next.await.unwrap();
    let error = next.expect("not the end").expect_err("a body that was cut must not look whole");
    assert!(error.is::<LeaseLapsed>(), "{error}");
    assert_eq!((traces.steps(), traces.dropped(), leases.ended()), (1, true, 1));
    assert!(body.frame().await.is_none() && body.is_end_stream());
}

#[tokio::test]
async fn a_body_that_has_ended_is_not_cut() {
    let leases = Leases::default();
    let probe = probe(async |_: Request<Text>| Ok::<_, ProbeError>(Response::new(Text::from("whole"))));
    let service = LockLayer::new(leases.clone()).until_body_ends().layer(probe);
    let mut body = service.oneshot(request("PUT", "/a")).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "whole");
    assert!(body.frame().await.is_none());
    assert_eq!(leases.ended(), 1);
    leases.lapse();
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_client_sees_that_a_body_was_cut() {
    let leases = Leases::default();
    let stream = || futures_util::stream::unfold((), async |()| Some((Ok::<_, Infallible>(Bytes::from("more")), ())));
    let endless = move || std::future::ready(axum::body::Body::from_stream(Box::pin(stream())));
    let app =
        axum::Router::new().route("/a", axum::routing::put(endless)).layer(LockLayer::new(leases.clone()).until_body_ends());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let request = Request::put(format!("http://{address}/a")).body(Text::default()).unwrap();
    let mut body = client.request(request).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_ok());
    leases.lapse();
    let cut = async {
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok::<_, hyper::Error>(())
    };
    assert!(cut.await.is_err(), "it looks whole");
    until("the write has ended", || leases.ended() == 1).await;
}
