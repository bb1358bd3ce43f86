//! What a layer can be told, what it passes through, and what it costs where nothing is locked.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_lock::{DavLayer, Locks, MemoryStore, webdav::RequestBody};

use super::{
    handler::{Broken, Handler},
    kit::{Dav, EXCLUSIVE, LOCK_PROPS},
    shape::Shape,
    xml::Found,
};
use crate::support::{Mode, ProbeError, Rigged, bodies::Odd, leases::Leases, poll_once, probe, until};

fn told(layer: impl FnOnce(DavLayer) -> DavLayer) -> Dav {
    Dav::made(Shape::default(), |locks| locks, layer, |handler: Handler| handler)
}

/// L-14.
#[tokio::test]
async fn a_layer_that_hides_tokens_shows_them_in_the_answer_to_the_lock_alone() {
    let dav = told(DavLayer::hide_tokens);
    let token = dav.as_("ann").locked("/a", "0").await;
    let answer = dav.as_("ann").propfind("/a", "0").expect(207).await;
    assert_eq!(Found::of(&answer.xml()).locks("/a")[0].token, None);
    assert!(!answer.text.contains(&token[9..]));
    dav.as_("ann").put("/a", "x").if_(&format!("(<{token}>)")).expect(204).await;
}

/// L-102: two limits, each for its own bodies.
#[tokio::test]
async fn bodies_are_limited_as_the_layer_was_told() {
    let dav = told(|layer| layer.body_limit(LOCK_PROPS.len()));
    dav.as_("ann").propfind("/a", "0").expect(207).await;
    dav.as_("ann").ask("PROPFIND", "/a").depth("0").body(&format!("{LOCK_PROPS} ")).expect(413).await;
    dav.as_("ann").proppatch("/a").expect(413).await;
    dav.as_("ann").lock("/a").body(&format!("{EXCLUSIVE}{}", " ".repeat(1_000))).expect(200).await;
}

/// A listing that is too long to be read is refused, not passed on without its locks.
#[tokio::test]
async fn a_listing_past_the_limit_is_403_for_all_below_and_507_otherwise() {
    let dav = told(|layer| layer.multistatus_limit(600));
    dav.as_("ann").propfind("/a", "0").expect(207).await;
    dav.as_("ann").propfind("/", "infinity").expect(403).await.refused("propfind-finite-depth");
    dav.as_("ann").ask("PROPFIND", "/").body(LOCK_PROPS).expect(403).await.refused("propfind-finite-depth");
    dav.as_("ann").propfind("/", "1").expect(507).await;
    // Nothing has to be put in here.
    let other = "<D:propfind xmlns:D=\"DAV:\"><D:prop><D:getetag/></D:prop></D:propfind>";
    dav.as_("ann").ask("PROPFIND", "/").depth("infinity").body(other).expect(207).await;
}

/// L-99: more locks than a store lists at once.
#[tokio::test]
async fn a_listing_shows_the_locks_of_all_members_however_many() {
    let dav = Dav::new();
    for (user, name) in [("ann", "x"), ("bob", "y")] {
        for at in 0..600 {
            let path = format!("/c/{name}{at:04}");
            dav.handler.plant([path.as_str()]);
            dav.as_(user).lock(&path).depth("0").expect(200).await;
        }
    }
    for depth in ["1", "infinity"] {
        let found = Found::of(&dav.as_("ann").propfind("/c/", depth).expect(207).await.xml());
        let locked = found.hrefs().into_iter().filter(|href| found.locks(href).len() == 1).count();
        assert_eq!(locked, 1_200);
    }
}

/// Reads cost nothing: no store call, no clone of the handler.
#[tokio::test]
async fn reads_ask_the_store_nothing_and_clone_nothing() {
    let store = Rigged::all(MemoryStore::new(), Mode::Fail);
    let probe =
        probe(async |_: Request<RequestBody<Full<Bytes>>>| Ok::<_, ProbeError>(Response::new(Full::<Bytes>::default())));
    let counts = probe.counts();
    let mut service = DavLayer::new(Locks::new(store.clone())).layer(probe);
    let clones = counts.clones();
    for method in ["GET", "HEAD", "OPTIONS", "REPORT", "SEARCH"] {
        let request = crate::support::request(method, "/c/../x");
        assert_eq!(crate::support::send(&mut service, request).await.status, 200, "{method}");
    }
    assert_eq!((counts.calls(), counts.clones() - clones, store.all_calls()), (5, 0, 0));
}

/// Expects a body and answers another, both with trailers.
async fn echo(request: Request<RequestBody<Odd>>) -> Result<Response<Odd>, Broken> {
    let sent = request.into_body().collect().await.expect("a body");
    let trailer = sent.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
    assert_eq!((sent.to_bytes(), trailer), (Bytes::from("one two three"), Some("6".parse().unwrap())));
    let trailers = HeaderMap::from_iter([("x-end".parse().unwrap(), "7".parse().unwrap())]);
    Ok(Response::new(Odd::new(["four ", "five"], Some(trailers))))
}

/// Bodies pass frame by frame, trailers included, in both directions, whatever their data is.
#[tokio::test]
async fn bodies_pass_as_they_are() {
    let service = DavLayer::new(MemoryStore::new()).layer(tower::service_fn(echo));
    for (method, condition) in
        [("PUT", None), ("GET", None), ("PUT", Some("(Not <DAV:no-lock>)")), ("GET", Some("(Not <DAV:no-lock>)"))]
    {
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "6".parse().unwrap())]);
        let mut request = Request::builder().method(method).uri("/a");
        if let Some(condition) = condition {
            request = request.header("if", condition);
        }
        let body = Odd::new(["one ", "two ", "three"], Some(trailers));
        let polled = body.polled();
        let response = service.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        assert_eq!(polled.load(Ordering::SeqCst), 5, "read by nobody but the handler");
        assert_eq!(response.body().size_hint().exact(), Some(9));
        let answered = response.into_body().collect().await.expect("a body");
        assert_eq!(answered.trailers().unwrap()["x-end"], "7");
        assert_eq!(answered.to_bytes(), "four five");
    }
}

/// G3: a write whose lease has lapsed is stopped, for somebody else may have been granted by now what it would change.
#[tokio::test]
async fn a_write_whose_lease_lapses_is_stopped_and_answered_503() {
    let leases = Leases::default();
    let gone = Arc::new(());
    let kept = gone.clone();
    let endless = tower::service_fn(move |_: Request<RequestBody<Full<Bytes>>>| {
        let kept = kept.clone();
        async move {
            std::future::pending::<()>().await;
            drop(kept);
            Ok::<_, Broken>(Response::new(Full::<Bytes>::default()))
        }
    });
    let locks = Locks::new(leases.clone());
    let mut service = DavLayer::new(locks.clone()).layer(endless);
    let before = Arc::strong_count(&gone);
    let mut write = Box::pin(service.ready().await.unwrap().call(crate::support::request("PUT", "/a")));
    until("the write is watched", || {
        assert!(poll_once(write.as_mut()).is_pending());
        leases.is_watched()
    })
    .await;
    leases.lapse();
    assert_eq!(write.await.unwrap().status(), 503);
    assert_eq!((Arc::strong_count(&gone), leases.ended()), (before, 1), "the handler's future is gone");
    assert_eq!(locks.stats().refused.unavailable, 1, "told once");
}

/// A handler that redirects to the URL with a slash still has its resources locked.
#[tokio::test]
async fn a_handler_that_redirects_collections_to_their_slash_is_asked_further() {
    let dav = Dav::new();
    dav.handler.fail("HEAD", "/c", 301);
    dav.handler.fail("HEAD", "/c/m", 302);
    let token = dav.as_("ann").lock("/c").depth("0").expect(200).await.token();
    dav.as_("bob").put("/c/m", "x").expect(204).await;
    dav.as_("bob").put("/c/new", "x").expect(423).await;
    dav.as_("ann").unlock("/c", &token).expect(204).await;
    assert_eq!(dav.handler.content("/c/new"), None);
}
