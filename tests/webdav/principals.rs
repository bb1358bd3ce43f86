//! Who is who: what strangers see, what a token is worth in other hands, and who may lock at all.

use tower_lock::{Access, Action, AuthorizeAsk, Authorizer, DefaultAuthorizer, LockRequest};

use super::{
    kit::{Answer, Dav},
    shape::Shape,
    xml::{Active, Found},
};

const OWNED: &str = "<D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype>\
    <D:owner>Ann of Sales</D:owner></D:lockinfo>";

fn discovered(answer: &Answer, href: &str) -> Vec<Active> {
    Found::of(&answer.xml()).locks(href)
}

/// L-14, L-103: the token to the holder alone; to others that there is a lock, and until when.
#[tokio::test]
async fn strangers_see_neither_token_nor_owner() {
    let dav = Dav::new();
    let token = dav.as_("ann").lock("/a").body(OWNED).timeout("Second-60").expect(200).await.token();
    let own = discovered(&dav.as_("ann").propfind("/a", "0").expect(207).await, "/a").remove(0);
    assert_eq!((own.token.as_deref(), own.owner.unwrap().text.as_str()), (Some(token.as_str()), "Ann of Sales"));
    for client in [dav.as_("bob"), dav.anonymous()] {
        let answer = client.propfind("/a", "0").expect(207).await;
        let seen = discovered(&answer, "/a").remove(0);
        assert_eq!(
            (seen.scope.as_str(), seen.root.as_str(), seen.timeout.as_deref()),
            ("exclusive", "/a", Some("Second-60"))
        );
        assert_eq!((seen.token, seen.owner), (None, None));
        for answer in [
            answer,
            client.propfind("/", "infinity").await,
            client.put("/a", "x").await,
            client.lock("/a").await,
            client.unlock("/a", "urn:uuid:6f1e5b0a-2a7c-4d6e-9b1f-0c2d3e4f5a6b").await,
        ] {
            assert!(!answer.text.contains(&token[9..]) && !answer.text.contains("Sales"), "{answer:?}");
            assert!(!answer.text.contains("ann"), "{answer:?}");
        }
    }
}

/// L-14: nor does a refusal show the holder its token, or anybody a token that the layer did not make.
#[tokio::test]
async fn a_token_is_in_no_refusal_and_one_from_elsewhere_is_in_no_answer() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    let answer = dav.as_("ann").put("/a", "x").expect(423).await;
    assert!(!answer.text.contains(&token[9..]), "{answer:?}");
    let granted = dav.locks.acquire(LockRequest::exclusive("/b").principal("ann")).await.unwrap();
    let answer = dav.as_("ann").propfind("/b", "0").expect(207).await;
    assert_eq!(discovered(&answer, "/b")[0].token, None);
    assert!(!answer.text.contains(&granted.token().urn().to_string()));
    // Yet it works for whom it is.
    dav.as_("ann").put("/b", "x").if_(&format!("(<{}>)", granted.token().urn())).expect(204).await;
}

/// L-14, L-103: what may not be seen at all is not there.
#[tokio::test]
async fn to_whom_seeing_is_denied_there_is_no_lock_in_any_property_or_refusal() {
    let hiding = |ask: &AuthorizeAsk<'_>| match ask.action {
        Action::See if !ask.is_own() => Access::Denied,
        _ => DefaultAuthorizer.authorize(ask),
    };
    let dav = Dav::with(Shape::default(), |locks| locks.authorizer(hiding));
    let token = dav.as_("ann").lock("/c/").body(OWNED).expect(200).await.token();
    let own = discovered(&dav.as_("ann").propfind("/c/m", "0").expect(207).await, "/c/m").remove(0);
    assert_eq!(own.token, Some(token));
    for client in [dav.as_("bob"), dav.anonymous()] {
        assert!(discovered(&client.propfind("/c/m", "0").expect(207).await, "/c/m").is_empty());
        let answer = client.put("/c/m", "x").expect(423).await;
        let xml = answer.refused("lock-token-submitted");
        for secret in ["/c/<", "Sales", "ann", "expires", "2026-"] {
            assert!(!answer.text.contains(secret), "{secret}: {answer:?}");
        }
        let hrefs: Vec<_> = xml.children[0].children.iter().map(|href| href.text.as_str()).collect();
        assert_eq!(hrefs, ["/c/m"], "one there has to be, and the caller knows that one");
    }
    dav.as_("bob").lock("/c/m").expect(423).await.refused("no-conflicting-lock");
}

/// L-103: one's own authorizer may show more.
#[tokio::test]
async fn an_authorizer_may_show_the_owner_but_never_the_token() {
    let open = |ask: &AuthorizeAsk<'_>| match ask.action {
        Action::See => Access::Allowed,
        _ => DefaultAuthorizer.authorize(ask),
    };
    let dav = Dav::with(Shape::default(), |locks| locks.authorizer(open));
    let token = dav.as_("ann").lock("/a").body(OWNED).expect(200).await.token();
    for client in [dav.as_("bob"), dav.anonymous()] {
        let answer = client.propfind("/a", "0").expect(207).await;
        let seen = discovered(&answer, "/a").remove(0);
        assert_eq!(seen.owner.unwrap().text, "Ann of Sales");
        assert!(seen.token.is_none() && !answer.text.contains(&token[9..]));
        assert!(client.put("/a", "x").expect(423).await.text.contains("Ann of Sales"));
    }
}

/// L-10, L-40: without a principal nobody locks unless that was allowed.
#[tokio::test]
async fn an_anonymous_lock_is_403_and_makes_nothing() {
    let dav = Dav::new();
    let before = dav.handler.tree();
    for uri in ["/a", "/e/new", "/c/"] {
        dav.anonymous().lock(uri).expect(403).await;
        dav.anonymous().share(uri).expect(403).await;
    }
    assert_eq!(dav.handler.tree(), before);
    assert!(dav.handler.take_writes().is_empty());
    dav.assert_nothing_left(&[], "403").await;
}

/// L-10: all anonymous callers are one principal; their tokens alone tell them apart, and are shown to none of them.
#[tokio::test]
async fn where_anonymous_locks_are_allowed_the_token_alone_proves_the_holder() {
    let dav = Dav::with(Shape::default(), tower_lock::LocksBuilder::allow_anonymous);
    let token = dav.anonymous().locked("/a", "0").await;
    dav.anonymous().put("/a", "x").expect(423).await;
    dav.anonymous().put("/a", "x").if_(&format!("(<{token}>)")).expect(204).await;
    dav.as_("bob").put("/a", "x").tokens([&token]).expect(423).await;
    let answer = dav.anonymous().propfind("/a", "0").expect(207).await;
    assert_eq!(discovered(&answer, "/a")[0].token, None);
    assert!(!answer.text.contains(&token[9..]));
    dav.anonymous().refresh("/a", &token).expect(200).await;
    dav.as_("bob").unlock("/a", &token).expect(403).await;
    dav.anonymous().unlock("/a", &token).expect(204).await;
}

/// L-11, L-12: the authorizer decides about every LOCK, before anything is made.
#[tokio::test]
async fn whom_the_authorizer_forbids_to_lock_makes_nothing() {
    let only_ann = |ask: &AuthorizeAsk<'_>| match ask.action {
        Action::Acquire if ask.principal.is_none_or(|principal| principal.as_str() != "ann") => Access::Denied,
        Action::Acquire => Access::Allowed,
        _ => DefaultAuthorizer.authorize(ask),
    };
    let dav = Dav::with(Shape::default(), |locks| locks.authorizer(only_ann));
    let before = dav.handler.tree();
    for uri in ["/a", "/e/new", "/"] {
        dav.as_("bob").lock(uri).expect(403).await;
    }
    assert_eq!(dav.handler.tree(), before);
    let token = dav.as_("ann").lock("/").expect(200).await.token();
    dav.as_("bob").put("/c/d/n", "x").expect(423).await.locked_by(&["/"]);
    dav.as_("ann").unlock("/a", &token).expect(204).await;
}

/// L-12: a token is no permission: what the handler forbids stays forbidden.
#[tokio::test]
async fn what_the_handler_forbids_the_holder_it_forbids() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    for method in ["PUT", "DELETE", "PROPPATCH"] {
        dav.handler.fail(method, "/a", 403);
        let answer = dav.as_("ann").ask(method, "/a").body(super::kit::SET_COLOUR).tokens([&token]).expect(403).await;
        assert_eq!(answer.text, "handler 403");
    }
    assert_eq!(dav.roots().await, ["/a"]);
}

/// L-40: authentication stands outside, and is asked first.
#[tokio::test]
async fn an_authentication_outside_the_layer_answers_before_any_lock_or_condition() {
    use http::{Request, Response};
    use tower::ServiceExt;
    use tower_layer::Layer;
    let dav = Dav::new();
    dav.as_("ann").locked("/a", "0").await;
    let inner = tower_lock::DavLayer::new(dav.locks.clone()).layer(dav.handler.clone());
    let outer = tower::service_fn(move |request: Request<super::kit::Sent>| {
        let inner = inner.clone();
        async move {
            if request.headers().contains_key("authorization") {
                return Ok::<_, super::handler::Broken>(
                    inner.oneshot(request).await?.map(http_body_util::BodyExt::boxed_unsync),
                );
            }
            let empty = http_body_util::Empty::<bytes::Bytes>::new();
            let mut response = Response::new(http_body_util::BodyExt::boxed_unsync(http_body_util::BodyExt::map_err(
                empty,
                |never: std::convert::Infallible| match never {},
            )));
            *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            Ok(response)
        }
    });
    let client = super::kit::Client::through(super::kit::sender(outer), Some("bob"));
    for ask in [
        client.put("/a", "x"),
        client.put("/a", "x").if_("(<DAV:no-lock>)"),
        client.lock("/a"),
        client.put("/a", "x").if_("(("),
    ] {
        ask.expect(401).await;
    }
    client.put("/a", "x").header("authorization", "x").expect(423).await;
}

/// What one principal may have in locks is limited: 429.
#[tokio::test]
async fn past_the_quota_of_a_principal_a_lock_is_429_and_makes_nothing() {
    let mut limits = tower_lock::Limits::default();
    limits.locks_per_principal = 2;
    let dav = Dav::with(Shape::default(), |locks| locks.limits(limits));
    dav.as_("ann").locked("/a", "0").await;
    dav.as_("ann").locked("/b", "0").await;
    dav.as_("ann").lock("/c/m").expect(429).await;
    dav.as_("ann").lock("/e/new").expect(429).await;
    assert_eq!(dav.handler.content("/e/new"), None);
    dav.as_("bob").lock("/e/new").expect(201).await;
}
/// L-14: whoever has another secret does not know the token of a lock, and whoever has the same one does.
#[tokio::test]
async fn two_nodes_with_one_secret_show_the_holder_the_same_token() {
    use super::handler::Handler;
    use tower_layer::Layer;
    let dav = Dav::made(Shape::default(), |locks| locks, |layer| layer.token_secret(b"of the fleet"), |handler| handler);
    let token = dav.as_("ann").locked("/c/", "0").await;
    for (secret, known) in [(&b"of the fleet"[..], true), (b"of another", false)] {
        let handler: Handler = dav.handler.clone();
        let node = tower_lock::DavLayer::new(dav.locks.clone()).token_secret(secret).layer(handler);
        let client = super::kit::Client::through(super::kit::sender(node), Some("ann"));
        let found = discovered(&client.propfind("/c/", "0").expect(207).await, "/c/").remove(0);
        assert_eq!(found.token, known.then(|| token.clone()));
        client.proppatch("/c/").if_(&format!("(<{token}>)")).expect(207).await;
    }
}

/// L-14, L-23: what the caller may not see does not keep it from what it may do.
#[tokio::test]
async fn a_hidden_depth_0_lock_keeps_nobody_from_the_members_it_does_not_protect() {
    let hiding = |ask: &AuthorizeAsk<'_>| match ask.action {
        Action::See if !ask.is_own() => Access::Denied,
        _ => DefaultAuthorizer.authorize(ask),
    };
    let dav = Dav::with(Shape::default(), |locks| locks.authorizer(hiding));
    dav.as_("ann").locked("/c/", "0").await;
    dav.as_("bob").put("/c/m", "x").expect(204).await;
    dav.as_("bob").put("/c/new", "x").expect(423).await;
}

/// L-14: clients that keep one lock of a resource keep the last; that is the caller's own.
#[tokio::test]
async fn the_callers_own_lock_is_the_last_of_a_resource() {
    let dav = Dav::new();
    for user in ["ann", "bob", "cid"] {
        dav.as_(user).share("/a").expect(200).await;
    }
    for user in ["ann", "bob", "cid"] {
        let locks = discovered(&dav.as_(user).propfind("/a", "0").expect(207).await, "/a");
        let shown: Vec<_> = locks.iter().map(|lock| lock.token.is_some()).collect();
        assert_eq!(shown, [false, false, true], "{user}");
    }
}
