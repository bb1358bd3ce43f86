//! Who may write what while locks are held.

use std::time::Duration;

use tower_lock::{Depth, LockRequest};

use super::kit::{Ask, Client, Dav};

/// Every way to write the resource at `uri`, or over it; a LOCK last.
fn writes(client: &Client, uri: &str) -> Vec<Ask> {
    vec![
        client.put(uri, "overwritten"),
        client.ask("POST", uri).body("posted"),
        client.ask("PATCH", uri).body("patched"),
        client.proppatch(uri),
        client.mkcol(uri),
        client.delete(uri),
        client.move_(uri, "/e/moved"),
        client.copy("/b", uri),
        client.move_("/b", uri),
        client.ask("BIND", uri),
        client.ask("LOCK", uri).body(super::kit::SHARED),
    ]
}

/// L-20.
#[tokio::test]
async fn every_write_of_a_locked_resource_by_another_is_423_and_reaches_nothing() {
    for (locked, depth, uri, root) in [
        ("/a", "0", "/a", "/a"),
        ("/a", "infinity", "/%61", "/a"),
        ("/c", "infinity", "/c/m", "/c"),
        ("/c/", "infinity", "/c/d/n", "/c/"),
        ("/c/", "0", "/c", "/c/"),
    ] {
        let dav = Dav::new();
        dav.as_("ann").locked(locked, depth).await;
        let before = dav.handler.tree();
        for client in [dav.as_("bob"), dav.as_("ann"), dav.anonymous()] {
            // Nobody locks anonymously.
            let count = if client.is_anonymous() { 10 } else { 11 };
            for write in writes(&client, uri).into_iter().take(count) {
                let answer = write.expect(423).await;
                let precondition =
                    if answer.text.contains("no-conflicting-lock") { "no-conflicting-lock" } else { "lock-token-submitted" };
                assert_eq!(answer.blocked_by(precondition), [root]);
            }
        }
        assert_eq!(dav.handler.tree(), before);
        assert!(dav.handler.take_writes().is_empty());
        dav.assert_nothing_left(&[locked.trim_end_matches('/')], locked).await;
    }
}

/// L-10, L-20, L-27, L-76: the same writes with the token, under any tag that is true.
#[tokio::test]
async fn the_holder_writes_with_the_token() {
    for (locked, depth, uri) in [("/a", "0", "/a"), ("/c/", "infinity", "/c/m"), ("/c/", "infinity", "/c/d/n")] {
        for form in [
            "(<T>)",
            "<L> (<T>)",
            "<http://dav.example:80L> (<T>)",
            "<U> (<T>)",
            "(Not <T>) (<T>)",
            "(Not <T>) (Not <DAV:no-lock>)",
        ] {
            for at in 0..10 {
                let dav = Dav::new();
                let token = dav.as_("ann").locked(locked, depth).await;
                let value = form.replace('T', &token).replace('L', locked).replace('U', uri);
                let mut all = writes(&dav.as_("ann"), uri);
                // An untagged list is about the request target.
                let elsewhere = (at == 7 || at == 8) && !value.starts_with('<');
                let value = if elsewhere { format!("{value} (Not <DAV:no-lock>)") } else { value };
                let write = all.swap_remove(at);
                let answer = write.header("host", "dav.example:80").if_(&value).await;
                assert_ne!(answer.status, 423, "write {at} of {uri} with {value}: {answer:?}");
                assert_ne!(answer.status, 412, "write {at} of {uri} with {value}: {answer:?}");
                assert_eq!(dav.handler.take_writes().len(), 1);
            }
        }
    }
}

/// L-10.
#[tokio::test]
async fn another_principal_with_the_right_token_is_refused() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    let before = dav.handler.tree();
    for client in [dav.as_("bob"), dav.anonymous()] {
        for write in writes(&client, "/a").into_iter().take(10) {
            let answer = write.tokens([&token]).expect(423).await;
            assert!(!answer.text.contains(&token), "{answer:?}");
        }
    }
    assert_eq!(dav.handler.tree(), before);
}

/// L-21.
#[tokio::test]
async fn reads_of_a_locked_resource_are_as_ever() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/", "infinity").await;
    for client in [dav.as_("bob"), dav.anonymous()] {
        assert_eq!(client.get("/c/m").expect(200).await.text, "/c/m");
        client.ask("HEAD", "/c/m").expect(200).await;
        client.ask("OPTIONS", "/c/m").expect(200).await;
        client.propfind("/c/", "infinity").expect(207).await;
        // What the handler has not is the handler's matter.
        for method in ["REPORT", "SEARCH"] {
            client.ask(method, "/c/m").expect(405).await;
        }
        client.copy("/c/m", "/e/copy").expect(201).await;
        client.delete("/e/copy").expect(204).await;
    }
}

/// L-27: a token answers for its own lock, whatever tag it stands under.
#[tokio::test]
async fn a_token_of_one_resource_opens_no_other() {
    let dav = Dav::new();
    let own = dav.as_("bob").locked("/b", "0").await;
    dav.as_("ann").locked("/a", "0").await;
    let before = dav.handler.tree();
    for value in [
        format!("</b> (<{own}>)"),
        format!("</a> (<{own}>) (Not <DAV:no-lock>)"),
        format!("(<{own}>) (Not <DAV:no-lock>)"),
        format!("(Not <{own}>)"),
        format!("</b> (<{own}>) </a> (<{own}>)"),
    ] {
        for write in writes(&dav.as_("bob"), "/a") {
            let answer = write.if_(&value).await;
            assert!(answer.status == 423 || answer.status == 412, "{value}: {answer:?}");
        }
        dav.as_("bob").put("/a", "x").if_(&value).expect(423).await.locked_by(&["/a"]);
    }
    assert_eq!(dav.handler.tree(), before);
}

/// L-27: a header that is true without the right token is no token.
#[tokio::test]
async fn a_true_header_without_the_token_is_423_and_a_false_one_with_it_is_412() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    let corrupt = format!("{}x", &token[..token.len() - 1]);
    let ann = dav.as_("ann");
    for submitted in [corrupt.as_str(), "urn:uuid:6f1e5b0a-2a7c-4d6e-9b1f-0c2d3e4f5a6b", "DAV:no-lock"] {
        ann.put("/a", "x").if_(&format!("(<{submitted}>) (Not <DAV:no-lock>)")).expect(423).await;
        ann.put("/a", "x").if_(&format!("(<{submitted}>)")).expect(412).await;
    }
    ann.put("/a", "x").if_(&format!("(<{token}> <DAV:no-lock>)")).expect(412).await;
    ann.put("/a", "x").if_(&format!("(Not <{token}>)")).expect(412).await;
    assert!(dav.handler.take_writes().is_empty());
}

/// L-08, L-24: of two shared holders either writes with a token of its own; a stranger does not.
#[tokio::test]
async fn of_two_shared_holders_each_writes_with_its_own_token() {
    let dav = Dav::new();
    let ann = dav.as_("ann").share("/a").expect(200).await.token();
    let bob = dav.as_("bob").share("/a").expect(200).await.token();
    dav.as_("ann").put("/a", "x").if_(&format!("(<{ann}>)")).expect(204).await;
    dav.as_("bob").put("/a", "x").if_(&format!("(<{bob}>)")).expect(204).await;
    dav.as_("cid").put("/a", "x").expect(423).await;
    for (user, token) in [("cid", &ann), ("ann", &bob), ("bob", &ann)] {
        dav.as_(user).put("/a", "x").tokens([token]).expect(423).await;
    }
    dav.as_("ann").put("/a", "x").expect(423).await.locked_by(&["/a"]);
    dav.as_("ann").proppatch("/a").tokens([&ann]).expect(207).await;
    dav.as_("bob").delete("/a").tokens([&bob]).expect(204).await;
    assert!(dav.state().await.is_empty(), "both went with it");
}

/// L-24: the collection's token and the member's are two.
#[tokio::test]
async fn a_member_that_is_locked_by_itself_needs_its_own_token_too() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let (collection, member) = (ann.locked("/c/", "0").await, ann.locked("/c/m", "0").await);
    ann.delete("/c/m").expect(423).await.locked_by(&["/c/", "/c/m"]);
    ann.delete("/c/m").tokens([&collection]).expect(423).await.locked_by(&["/c/m"]);
    ann.delete("/c/m").tokens([&member]).expect(423).await.locked_by(&["/c/"]);
    ann.put("/c/m", "x").if_(&format!("(<{member}>)")).expect(204).await;
    ann.put("/c/m", "x").tokens([&collection]).expect(423).await;
    ann.delete("/c/m").if_(&format!("</c/> (<{collection}>) </c/m> (<{member}>)")).expect(204).await;
    assert_eq!(dav.roots().await, ["/c"]);
}

/// L-20, L-22: locks that came another way than by LOCK count as any other.
#[tokio::test]
async fn a_lock_of_the_application_is_respected() {
    let dav = Dav::new();
    let guard = dav.locks.hold(LockRequest::exclusive("/c/m").depth(Depth::Zero).reason("nightly export")).await.unwrap();
    dav.as_("ann").put("/c/m", "x").expect(423).await.locked_by(&["/c/m"]);
    dav.as_("ann").delete("/c/").expect(423).await.locked_by(&["/c/m"]);
    drop(guard);
    dav.as_("ann").delete("/c/").expect(204).await;
}

/// L-34: a write elsewhere changes live properties of a locked collection, and may.
#[tokio::test]
async fn a_lock_on_one_member_leaves_its_siblings_alone() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/m", "infinity").await;
    for write in [
        dav.as_("bob").put("/c/d/n", "x"),
        dav.as_("bob").put("/c/new", "x"),
        dav.as_("bob").put("/c/m2", "x"),
        dav.as_("bob").delete("/c/d"),
        dav.as_("bob").proppatch("/c/"),
    ] {
        assert!(write.await.status.is_success());
    }
}

/// An unlocked write asks the handler nothing beside.
#[tokio::test]
async fn a_write_that_nothing_is_in_the_way_of_costs_no_request_inside() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/", "infinity").await;
    dav.handler.take_seen();
    for write in [dav.as_("bob").put("/a", "x"), dav.as_("bob").put("/e/new", "x"), dav.as_("bob").mkcol("/e/col")] {
        assert!(write.await.status.is_success());
        assert_eq!(dav.handler.take_seen().len(), 1);
    }
}

/// What reaches the handler is the request, less what the layer keeps.
#[tokio::test]
async fn an_admitted_write_reaches_the_handler_as_it_was_but_for_if() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/c/m", "0").await;
    dav.handler.take_seen();
    let put =
        dav.as_("ann").put("/c/%6D?x=1", "content").if_(&format!("(<{token}>)")).header("lock-token", &format!("<{token}>"));
    put.header("x-own", "1").header("content-type", "text/x").header("authorization", "Basic eA==").expect(204).await;
    let seen = dav.handler.take_seen().pop().unwrap();
    assert_eq!((seen.method.as_str(), seen.uri.as_str(), &seen.body[..]), ("PUT", "/c/%6D?x=1", &b"content"[..]));
    for (name, value) in [("x-own", "1"), ("content-type", "text/x"), ("authorization", "Basic eA==")] {
        assert_eq!(seen.headers[name], value);
    }
    assert_eq!(seen.user, Some("ann"));
}

/// L-16.
#[tokio::test]
async fn a_write_after_the_lock_ran_out_needs_no_token_and_the_dead_token_is_no_condition_met() {
    let dav = Dav::new();
    let token = dav.as_("ann").lock("/c/").timeout("Second-10").expect(200).await.token();
    dav.clock.advance(Duration::from_secs(10));
    dav.as_("ann").put("/c/m", "x").if_(&format!("(<{token}>)")).expect(412).await;
    dav.as_("bob").put("/c/m", "x").expect(204).await;
    dav.as_("bob").delete("/c/").expect(204).await;
}

/// L-70: `Depth` says nothing about a document.
#[tokio::test]
async fn depth_is_ignored_on_a_document() {
    for depth in ["0", "1", "infinity"] {
        let dav = Dav::new();
        let token = dav.as_("ann").locked("/c/m", "infinity").await;
        for ask in [dav.as_("bob").delete("/c/m"), dav.as_("bob").copy("/a", "/c/m"), dav.as_("bob").put("/c/m", "x")] {
            ask.depth(depth).expect(423).await.locked_by(&["/c/m"]);
        }
        dav.as_("ann").put("/c/m", "x").depth(depth).if_(&format!("(<{token}>)")).expect(204).await;
        // Of a collection a shallow COPY replaces all that is below its destination too.
        dav.as_("bob").copy("/e/", "/c/").depth("0").expect(423).await.locked_by(&["/c/m"]);
    }
}

/// L-08, L-23: of two shared locks the one below answers for the member it is on, and for no other change above it.
#[tokio::test]
async fn a_shared_lock_on_a_member_answers_for_that_member_under_a_shared_lock_of_the_collection() {
    let dav = Dav::new();
    dav.as_("bob").share("/c/").expect(200).await;
    let token = dav.as_("ann").share("/c/d/n").depth("0").expect(200).await.token();
    let ann = dav.as_("ann");
    ann.put("/c/d/n", "x").if_(&format!("(<{token}>)")).expect(204).await;
    ann.proppatch("/c/d/n").if_(&format!("(<{token}>)")).expect(207).await;
    ann.put("/c/m", "x").tokens([&token]).expect(423).await.locked_by(&["/c/"]);
    ann.put("/c/d/new", "x").tokens([&token]).expect(423).await.locked_by(&["/c/"]);
    ann.delete("/c/d/n").tokens([&token]).expect(423).await.locked_by(&["/c/"]);
}
