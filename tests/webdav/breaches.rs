//! Ways round the layer that somebody once tried: each test is one, and was open when it was written.

use super::kit::Dav;

/// HTTP/2 leaves white space at the ends of a field value, and handlers that compare the whole value do not see the `F`.
#[tokio::test]
async fn an_overwrite_that_a_handler_may_read_otherwise_forbids_nothing() {
    for value in [" F", "F ", "\tF", "f", "F,F"] {
        for moving in [false, true] {
            let dav = Dav::new();
            dav.as_("ann").locked("/c/d/n", "0").await;
            let before = dav.handler.tree();
            let bob = dav.as_("bob");
            let ask = if moving { bob.move_("/e/", "/c/") } else { bob.copy("/e/", "/c/") };
            ask.header("overwrite", value).expect(423).await;
            assert_eq!(dav.handler.tree(), before, "{value:?} {moving}");
        }
    }
}

/// A lock may be on what is not there yet, taken by the application or at the endpoint.
#[tokio::test]
async fn with_overwrite_f_nothing_is_made_where_somebody_has_a_lock() {
    for moving in [false, true] {
        let dav = Dav::new();
        let token = dav.taken(tower_lock::LockRequest::exclusive("/new/d/n")).await;
        let before = dav.handler.tree();
        let bob = dav.as_("bob");
        let ask = |to| if moving { bob.move_("/c/", to) } else { bob.copy("/c/", to) };
        ask("/new/").header("overwrite", "F").expect(423).await.locked_by(&["/new/d/n"]);
        assert_eq!(dav.handler.tree(), before, "{moving}");
        ask("/other/").header("overwrite", "F").expect(201).await;
        assert!(!token.is_empty());
    }
}

/// A thousand shared locks with long owners on a collection would be written out for each of its members.
#[tokio::test]
async fn what_locks_add_to_a_listing_is_limited_too() {
    use super::kit::SHARED;
    let dav = Dav::made(
        super::shape::Shape::default(),
        |locks| locks,
        |layer| layer.multistatus_limit(200_000),
        |handler| handler,
    );
    let ann = dav.as_("ann");
    let owner = format!("<owner>{}</owner></lockinfo>", "x".repeat(8_000));
    let long = SHARED.replace("</lockinfo>", &owner);
    for _ in 0..20 {
        ann.lock("/c/").body(&long).expect(200).await;
    }
    let files: Vec<String> = (0..50).map(|at| format!("/c/f{at}")).collect();
    dav.handler.plant(files.iter().map(String::as_str));
    // One resource has them all.
    let one = ann.propfind("/c/f1", "0").expect(207).await;
    assert_eq!(one.text.matches("activelock>").count(), 40, "{one:?}");
    // Level by level the listing goes on, without what is too much.
    let level = ann.propfind("/c/", "1").expect(207).await;
    assert!(level.text.len() < 200_000, "{}", level.text.len());
    assert!(level.text.contains("/c/f49"));
    assert_eq!(level.text.matches("507 Insufficient Storage").count(), 53);
    let all = ann.ask("PROPFIND", "/c/").body(super::kit::LOCK_PROPS).expect(403).await;
    all.refused("propfind-finite-depth");
}

#[tokio::test]
async fn a_token_reaches_the_handler_on_no_way() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    for method in ["GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "PUT"] {
        // The handler panics when it sees one.
        dav.as_("ann").ask(method, "/a").header("lock-token", &format!("<{token}>")).await;
    }
}

/// What a LOCK says of its own body is not true of the empty one of the PUT that it comes to.
#[tokio::test]
async fn the_empty_resource_of_a_lock_is_not_made_with_the_digest_of_another_body() {
    let dav = Dav::new();
    let ask = dav.as_("ann").lock("/e/new").header("content-digest", "sha-256=:AAAA:").header("digest", "sha-256=AAAA");
    ask.header("repr-digest", "sha-256=:AAAA:").expect(201).await;
    let seen = dav.handler.take_seen();
    let put = seen.iter().find(|seen| seen.method == "PUT").unwrap();
    for name in ["content-digest", "digest", "repr-digest"] {
        assert!(!put.headers.contains_key(name), "{name}");
    }
}

/// A site whose handler's answers go through `change`, with the method and path they are for.
fn changed(change: fn(&mut http::Response<http_body_util::Full<bytes::Bytes>>)) -> Dav {
    use tower::ServiceExt;
    type Inner = http::Request<tower_lock::webdav::RequestBody<super::kit::Sent>>;
    let between = move |handler: super::handler::Handler| {
        ServiceExt::<Inner>::map_response(handler, move |mut response| {
            change(&mut response);
            response
        })
    };
    Dav::made(super::shape::Shape::default(), |locks| locks, |layer| layer, between)
}

/// A handler that is a client of another server may leave them there.
#[tokio::test]
async fn a_listing_that_was_rewritten_is_not_framed_twice() {
    let dav = changed(|response| {
        for (name, value) in [("transfer-encoding", "chunked"), ("trailer", "digest"), ("content-length", "1")] {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
    });
    let answer = dav.as_("ann").propfind("/a", "0").expect(207).await;
    assert_eq!(answer.header("content-length"), answer.text.len().to_string());
    assert!(!answer.headers.contains_key("transfer-encoding") && !answer.headers.contains_key("trailer"), "{answer:?}");
}

/// A document that says it is in ASCII is not one any more with an owner's name in it.
#[tokio::test]
async fn a_listing_in_ascii_says_utf_8_once_there_is_more_in_it() {
    let dav = changed(|response| {
        if response.status() == 207 {
            let text = "<?xml version=\"1.0\" encoding=\"us-ascii\"?><D:multistatus xmlns:D=\"DAV:\"><D:response>\
                <D:href>/a</D:href><D:propstat><D:prop><D:x/></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>\
                </D:response></D:multistatus>";
            *response.body_mut() = http_body_util::Full::from(text);
        }
    });
    let owner = super::kit::EXCLUSIVE.replace("</D:lockinfo>", "<D:owner>\u{e4}</D:owner></D:lockinfo>");
    dav.as_("ann").lock("/a").body(&owner).expect(200).await;
    let answer = dav.as_("ann").propfind("/a", "0").expect(207).await;
    assert!(answer.text.contains('\u{e4}'));
    assert!(answer.text.starts_with("<?xml version=\"1.0\" encoding=\"utf-8\"?>"), "{answer:?}");
}

/// A read never fails for what can be locked there, or cannot.
#[tokio::test]
async fn a_listing_of_what_is_no_one_resource_to_the_resolver_goes_on() {
    use tower_lock::{
        lock::ResourceKey,
        request::{ResolveFn, Resolved},
    };
    let resolver = ResolveFn::new(|ask| {
        let key = ResourceKey::parse(ask.path)?;
        Ok(match key.path() {
            "/a" => Resolved::keys([key, ResourceKey::from_canonical("/also")]),
            "/b" => Resolved::nothing(),
            _ => Resolved::key(key),
        })
    });
    let dav = Dav::with(super::shape::Shape::default(), |locks| locks.keys_by(resolver));
    dav.taken(tower_lock::LockRequest::exclusive("/also")).await;
    let answer = dav.as_("ann").propfind("/a", "0").expect(207).await;
    assert!(answer.text.contains("activelock"), "{answer:?}");
    let answer = dav.as_("ann").propfind("/b", "0").expect(207).await;
    assert!(!answer.text.contains("activelock"), "{answer:?}");
    dav.as_("ann").propfind("/", "1").expect(207).await;
}

/// RFC 9110 section 15.5.2. A client that is not told how to authenticate does not.
#[tokio::test]
async fn a_lock_that_the_handler_answers_401_says_how_to_authenticate() {
    let dav = changed(|response| {
        if response.status() == 401 {
            response.headers_mut().insert("www-authenticate", "Basic realm=\"files\"".parse().unwrap());
        }
    });
    dav.handler.fail("HEAD", "/a", 401);
    let answer = dav.as_("ann").lock("/a").expect(401).await;
    assert_eq!(answer.header("www-authenticate"), "Basic realm=\"files\"");
}

/// Servers that do not list collections answer 403 to a GET and HEAD of one; PROPFIND they answer.
#[tokio::test]
async fn a_collection_without_a_page_of_its_own_can_be_locked() {
    let dav = Dav::new();
    dav.handler.fail("HEAD", "/c", 403);
    let token = dav.as_("ann").locked("/c/", "infinity").await;
    dav.as_("bob").put("/c/m", "x").expect(423).await;
    dav.as_("ann").unlock("/c/", &token).expect(204).await;
    // Who may not look at all may not lock.
    dav.handler.fail("PROPFIND", "/c", 403);
    dav.as_("ann").lock("/c/").expect(403).await;
}

/// The `dav-server` crate deletes, copies and moves on as the body of its 207 is read, and a client reads when it likes.
#[tokio::test]
async fn a_write_that_goes_on_while_its_207_is_read_is_over_before_anybody_is_granted_a_lock() {
    use std::{
        convert::Infallible,
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use http_body::Frame;
    use tower::{Service, ServiceExt};
    use tower_layer::Layer;

    /// Deletes one member each time that it is polled.
    #[derive(Default)]
    struct Deleting(usize, Arc<AtomicUsize>);

    impl http_body::Body for Deleting {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.0 == 0 {
                return Poll::Ready(None);
            }
            self.0 -= 1;
            self.1.fetch_add(1, Relaxed);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"<x/>")))))
        }
    }

    let deleted = Arc::new(AtomicUsize::new(0));
    let work = deleted.clone();
    let handler = tower::service_fn(move |request: http::Request<tower_lock::webdav::RequestBody<super::kit::Sent>>| {
        let delete = request.method() == "DELETE";
        let mut response = http::Response::new(Deleting(if delete { 10 } else { 0 }, work.clone()));
        if delete {
            *response.status_mut() = http::StatusCode::MULTI_STATUS;
        }
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let locks = tower_lock::Locks::builder(tower_lock::MemoryStore::new()).allow_anonymous().build();
    let service = tower_lock::DavLayer::new(locks).layer(handler);
    let send = |method: &str, body: &str| {
        let request = http::Request::builder().method(method).uri("/c/").body(super::kit::text(body)).unwrap();
        let mut service = service.clone();
        async move { service.ready().await.unwrap().call(request).await.unwrap() }
    };

    let answer = send("DELETE", "").await;
    assert_eq!(answer.status(), 207);
    assert_eq!(send("LOCK", super::kit::EXCLUSIVE).await.status(), 200);
    let before = deleted.load(Relaxed);
    http_body_util::BodyExt::collect(answer.into_body()).await.unwrap();
    assert_eq!(deleted.load(Relaxed), before, "it was locked meanwhile");
}

/// Most clients name the resource, the target too.
#[tokio::test]
async fn an_entity_tag_of_the_target_under_its_own_name_reaches_the_handler_as_well() {
    let dav = Dav::new();
    let etag = dav.handler.etag("/a");
    for (tag, passed) in [("/a", true), ("http://dav.example/%61", true), ("/b", false)] {
        dav.handler.tag("/a", &etag);
        dav.handler.tag("/b", &etag);
        dav.handler.take_seen();
        dav.as_("ann").put("/a", "x").if_(&format!("<{tag}> ([{etag}])")).expect(204).await;
        let seen = dav.handler.take_seen();
        let put = seen.iter().find(|seen| seen.method == "PUT").unwrap();
        assert_eq!(put.headers.get("if-match").map(|value| value.to_str().unwrap()), passed.then_some(&*etag), "{tag}");
    }
}

/// A release uses up a token that the store has never seen, and remembers it at the expense of others. WebDAV clients
/// propose no tokens, so an UNLOCK with a wrong one leaves no trace.
#[tokio::test]
async fn an_unlock_with_a_token_never_seen_uses_nothing_up() {
    let dav = Dav::new();
    let token = tower_lock::LockToken::random();
    for uri in ["/a", "/not-there"] {
        dav.as_("bob").unlock(uri, &token.urn().to_string()).expect(409).await;
    }
    let request = tower_lock::LockRequest::exclusive("/a").propose_token(token);
    assert!(dav.locks.acquire(request).await.is_ok(), "nobody has had it before");
}

/// What a handler does not tell is not taken for what one hopes.
#[tokio::test]
async fn an_entity_tag_that_nobody_can_tell_makes_no_condition_true() {
    for (status, expected) in [(403, 412), (500, 412), (404, 204)] {
        let dav = Dav::new();
        for method in ["HEAD", "PROPFIND"] {
            dav.handler.fail(method, "/b", status);
        }
        for (condition, expected) in [("[\"x\"]", 412), ("Not [\"x\"]", expected)] {
            let answer = dav.as_("ann").put("/a", "x").if_(&format!("</b> ({condition})")).await;
            assert_eq!(answer.status, expected, "{status} {condition}");
        }
    }
}

/// It shows a token to one caller, and what is true for a moment.
#[tokio::test]
async fn a_listing_with_locks_is_not_kept_by_caches() {
    let dav = Dav::new();
    dav.as_("ann").locked("/a", "0").await;
    let answer = dav.as_("ann").propfind("/a", "0").expect(207).await;
    assert_eq!(answer.header("cache-control"), "no-store");
}
