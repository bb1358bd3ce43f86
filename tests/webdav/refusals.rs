//! What a refusal says: the body, its precondition, the holder, the expiry, and the headers.

use std::time::Duration;

use tower_lock::{LockKind, LockRequest, Owner};

use super::{
    kit::{Answer, Dav},
    xml::Xml,
};
use crate::support::bodies::Untouchable;

const OURS: &str = "{tower-lock:}";

/// What of a refusal is ours, by its local name.
fn ours(answer: &Answer) -> Vec<(String, String)> {
    fn gather(xml: &Xml, found: &mut Vec<(String, String)>) {
        for child in &xml.children {
            if let Some(name) = child.name.strip_prefix(OURS) {
                found.push((name.into(), child.whole_text()));
            }
            gather(child, found);
        }
    }
    let mut found = Vec::new();
    gather(&answer.xml(), &mut found);
    found
}

/// L-90, L-91, L-92.
#[tokio::test]
async fn a_blocked_write_says_what_holder_until_when_and_when_to_come_again() {
    let dav = Dav::new();
    let request = LockRequest::exclusive("/c").principal("ann").owner(Owner::id("u-17").named("Legal & desk"));
    dav.taken(request.reason("<nightly> export").lifetime(Duration::from_secs(90))).await;
    dav.clock.advance(Duration::from_millis(500));
    // The holder sees all of it.
    let answer = dav.as_("ann").put("/c/m", "x").expect(423).await;
    assert_eq!(answer.header("retry-after"), "90");
    let xml = answer.refused("lock-token-submitted");
    assert_eq!(xml.children[0].children.len(), 1);
    assert_eq!(xml.children[0]["href"].text, "/c", "{answer:?}");
    assert_eq!(xml.children.len(), 2, "the condition, then what is ours");
    assert!(xml.children[1].name.starts_with(OURS), "{answer:?}");
    let text = xml.children[1].whole_text();
    for part in ["Legal & desk", "<nightly> export", "2026-01-01T00:01:30"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    // A stranger sees that there is a lock, and until when.
    let answer = dav.as_("bob").put("/c/m", "x").expect(423).await;
    assert_eq!(answer.blocked_by("lock-token-submitted"), ["/c"]);
    assert!(answer.text.contains("2026-01-01T00:01:30"), "{answer:?}");
    for secret in ["Legal", "nightly", "u-17"] {
        assert!(!answer.text.contains(secret), "{answer:?}");
    }
    assert!(!ours(&answer).is_empty());
}

/// L-92: no text between the elements, which are of `DAV:` or ours, and each declares where it is from.
#[tokio::test]
async fn every_refusal_is_an_error_element_without_mixed_content() {
    fn check(xml: &Xml) {
        assert!(xml.name.starts_with("{DAV:}") || xml.name.starts_with(OURS), "{xml:?}");
        assert!(xml.children.is_empty() || xml.text.trim().is_empty(), "mixed: {xml:?}");
        xml.children.iter().for_each(check);
    }
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    let bob = dav.as_("bob");
    for (ask, status) in [
        (bob.put("/a", "x"), 423),
        (bob.lock("/a"), 423),
        (bob.lock("/"), 403),
        (bob.put("/a", "x").if_("(<DAV:no-lock>)"), 412),
        (bob.put("/a", "x").if_("(("), 400),
        (bob.put("/a/../b", "x"), 400),
        (bob.unlock("/a", &token), 403),
        (dav.as_("ann").unlock("/b", &token), 409),
        (bob.refresh("/a", &token), 403),
        (dav.as_("ann").refresh("/b", &token), 412),
        (bob.lock("/b").body("<nonsense/>"), 400),
        (bob.lock("/b").depth("1"), 400),
    ] {
        let answer = ask.expect(status).await;
        assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
        assert!(answer.header("content-type").starts_with("application/xml"), "{answer:?}");
        let xml = answer.xml();
        check(xml.named("{DAV:}error"));
        assert!(!answer.text.contains("multistatus"));
    }
}

/// L-90: for a client that says so, the problem document of the core.
#[tokio::test]
async fn a_client_that_prefers_json_is_told_in_json() {
    let dav = Dav::new();
    dav.as_("ann").lock("/a").timeout("Second-60").expect(200).await;
    for accept in ["application/json", "application/problem+json", "application/json, application/xml;q=0.5"] {
        let answer = dav.as_("bob").put("/a", "x").header("accept", accept).expect(423).await;
        assert!(answer.header("content-type").contains("json"), "{answer:?}");
        let json: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!((json["status"].as_u64(), json["code"].as_str()), (Some(423), Some("locked")));
        assert_eq!(answer.header("retry-after"), "60");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    for accept in ["*/*", "application/xml", "text/xml", "application/xml, application/json;q=0.5", "image/png, */*;q=0.1"] {
        let answer = dav.as_("bob").put("/a", "x").header("accept", accept).expect(423).await;
        assert!(answer.header("content-type").contains("xml"), "{accept}: {answer:?}");
        answer.locked_by(&["/a"]);
    }
}

/// Retry-After is the latest expiry, and absent where there is none.
#[tokio::test]
async fn retry_after_is_the_latest_expiry_of_the_locks_in_the_way() {
    let dav = Dav::new();
    dav.as_("ann").lock("/c/m").timeout("Second-60").expect(200).await;
    dav.as_("ann").lock("/c/d/").timeout("Second-600").expect(200).await;
    let answer = dav.as_("bob").delete("/c/").expect(423).await;
    assert_eq!(answer.header("retry-after"), "600");
    answer.locked_by(&["/c/d/", "/c/m"]);
    dav.taken(LockRequest::exclusive("/c/frozen").kind(LockKind::Freeze)).await;
    let answer = dav.as_("bob").delete("/c/").expect(423).await;
    assert!(!answer.headers.contains_key("retry-after"), "{answer:?}");
    assert_eq!(answer.blocked_by("lock-token-submitted").len(), 3);
}

/// L-43, L-93, L-94.
#[tokio::test]
async fn a_blocked_write_is_423_and_never_207_or_424() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/", "infinity").await;
    let bob = dav.as_("bob");
    for ask in [
        bob.put("/c/new", "x"),
        bob.mkcol("/c/new"),
        bob.put("/c/d/n", "x"),
        bob.delete("/c/d"),
        bob.delete("/"),
        bob.move_("/c/", "/e/c"),
    ] {
        ask.expect(423).await.locked_by(&["/c/"]);
    }
}

/// L-20: what is refused is never read, so that nobody is told to go on sending.
#[tokio::test]
async fn the_body_of_a_refused_write_is_never_polled() {
    let dav = Dav::new();
    dav.as_("ann").locked("/a", "0").await;
    dav.as_("ann").locked("/c/", "0").await;
    for (method, uri) in
        [("PUT", "/a"), ("PUT", "/c/new"), ("POST", "/a"), ("PATCH", "/a"), ("MKCOL", "/c/new"), ("DELETE", "/a")]
    {
        for header in [("expect", "100-continue"), ("x-none", "")] {
            let ask = dav.as_("bob").ask(method, uri).stream(Untouchable).header(header.0, header.1);
            ask.expect(423).await;
        }
    }
    for (header, status) in [("(<DAV:no-lock>)", 412), ("((", 400)] {
        dav.as_("bob").ask("PUT", "/b").stream(Untouchable).if_(header).expect(status).await;
    }
    dav.as_("bob").ask("PUT", "/x/../b").stream(Untouchable).expect(400).await;
}

/// L-91: hrefs are paths, encoded, and a collection that was locked as one ends in a slash.
#[tokio::test]
async fn hrefs_are_encoded_paths() {
    let dav = Dav::new();
    dav.handler.plant(["/c/x y&<\u{fc}>"]);
    dav.as_("ann").locked("/c/x%20y&%3C%C3%BC%3E", "0").await;
    let answer = dav.as_("bob").put("/c/x%20y&%3C%C3%BC%3E", "x").expect(423).await;
    let hrefs = answer.blocked_by("lock-token-submitted");
    let decoded = percent_encoding::percent_decode_str(&hrefs[0]).decode_utf8().unwrap();
    assert_eq!(decoded, "/c/x y&<\u{fc}>");
    assert!(hrefs[0].is_ascii() && !hrefs[0].contains([' ', '<', '>']), "{hrefs:?}");
}

/// G10: a limit on how many locks are named.
#[tokio::test]
async fn no_more_locks_are_named_than_the_limit() {
    let mut limits = tower_lock::Limits::default();
    limits.blockers_named = 3;
    let dav = Dav::with(super::shape::Shape::default(), |locks| locks.limits(limits));
    for at in 0..5 {
        dav.as_("ann").lock(&format!("/c/x{at}")).expect(201).await;
    }
    let answer = dav.as_("bob").delete("/c/").expect(423).await;
    assert_eq!(answer.blocked_by("lock-token-submitted").len(), 3);
    // A client that submits the tokens it can see is told of the rest in the next turn.
}
