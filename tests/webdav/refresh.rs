//! LOCK without a body: a refresh.

use std::time::Duration;

use super::{kit::Dav, xml::Active};

const MINUTE: Duration = Duration::from_secs(60);

fn timeout(answer: &super::kit::Answer) -> String {
    Active::only(&answer.xml()).timeout.unwrap()
}

/// L-15, L-51.
#[tokio::test]
async fn a_refresh_restarts_the_timeout_and_tells_the_lock_without_a_lock_token_header() {
    let dav = Dav::new();
    let token = dav.as_("ann").lock("/a").timeout("Second-120").expect(200).await.token();
    dav.clock.advance(MINUTE);
    let answer = dav.as_("ann").refresh("/a", &token).timeout("Second-90").expect(200).await;
    assert_eq!(timeout(&answer), "Second-90");
    assert!(!answer.headers.contains_key("lock-token"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    let active = Active::only(&answer.xml());
    assert_eq!((active.token.as_deref(), active.root.as_str()), (Some(token.as_str()), "/a"));
    dav.clock.advance(MINUTE);
    dav.as_("bob").put("/a", "x").expect(423).await;
    let answer = dav.as_("ann").refresh("/a", &token).timeout("Infinite, Second-100").expect(200).await;
    assert_eq!(timeout(&answer), "Second-3600");
    dav.as_("ann").refresh("/a", &token).expect(200).await;
    assert_eq!(dav.state().await.len(), 1);
}

/// L-15: nothing else prolongs a lock.
#[tokio::test]
async fn a_write_with_the_token_does_not_restart_the_timeout() {
    let dav = Dav::new();
    let token = dav.as_("ann").lock("/a").timeout("Second-120").expect(200).await.token();
    dav.clock.advance(MINUTE);
    dav.as_("ann").put("/a", "x").if_(&format!("(<{token}>)")).expect(204).await;
    dav.as_("ann").propfind("/a", "0").expect(207).await;
    dav.clock.advance(MINUTE);
    dav.as_("bob").put("/a", "x").expect(204).await;
}

/// L-51: through any resource that the lock covers, whatever `Depth` says.
#[tokio::test]
async fn a_refresh_goes_through_every_url_in_the_scope_of_the_lock() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/c/", "infinity").await;
    for uri in ["/c", "/c/", "/c/m", "/c/d/n", "/c/not-there", "http://dav.example/c/d/", "/c//d/%6e"] {
        for depth in ["0", "1", "infinity", "nonsense"] {
            let answer = dav.as_("ann").refresh(uri, &token).depth(depth).expect(200).await;
            let active = Active::only(&answer.xml());
            assert_eq!((active.root.as_str(), active.depth.as_str()), ("/c/", "infinity"), "{uri}");
        }
    }
    // Under a tag it is the tag that has to be in the scope.
    dav.as_("ann").ask("LOCK", "/c/m").if_(&format!("</c/> (<{token}>)")).expect(200).await;
    assert!(dav.handler.take_writes().is_empty());
}

/// L-52.
#[tokio::test]
async fn a_refresh_through_a_url_out_of_scope_or_with_a_token_that_is_none_is_412() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let shallow = ann.locked("/c/", "0").await;
    let other = ann.locked("/a", "0").await;
    let gone = ann.locked("/b", "0").await;
    ann.unlock("/b", &gone).expect(204).await;
    let unknown = "urn:uuid:6f1e5b0a-2a7c-4d6e-9b1f-0c2d3e4f5a6b";
    for (uri, token) in [
        ("/c/m", shallow.as_str()),
        ("/b", &other),
        ("/", &other),
        ("/c", &other),
        ("/b", &gone),
        ("/a", unknown),
        ("/a", "opaquelocktoken:foobar"),
        ("/a", "DAV:no-lock"),
    ] {
        let answer = ann.refresh(uri, token).await;
        if token.starts_with("urn") {
            assert_eq!(answer.status, 412, "{uri} {token}: {answer:?}");
            answer.refused("lock-token-matches-request-uri");
        } else {
            assert!(answer.status == 412 || answer.status == 400, "{uri} {token}: {answer:?}");
        }
        assert!(!answer.text.contains("activelock"), "{answer:?}");
    }
    let lock = ann.lock("/b").timeout("Second-60").expect(200).await.token();
    dav.clock.advance(MINUTE);
    ann.refresh("/b", &lock).expect(412).await.refused("lock-token-matches-request-uri");
}

/// L-51: exactly one token.
#[tokio::test]
async fn a_refresh_names_exactly_one_token() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let (one, other) = (ann.share("/a").await.token(), ann.share("/a").await.token());
    let before = dav.state().await;
    dav.clock.advance(MINUTE);
    ann.ask("LOCK", "/a").expect(400).await;
    let both = ann.ask("LOCK", "/a").if_(&format!("(<{one}>) (<{other}>)")).await;
    assert!(both.status == 400 || both.status == 412, "{both:?}");
    assert_eq!(expiries(&dav.state().await), expiries(&before), "none of them lives longer for it");
    ann.ask("LOCK", "/a").if_(&format!("(<{one}>) (<{one}>)")).expect(200).await;
}

/// L-08, L-51: other shared locks are neither in the way nor touched.
#[tokio::test]
async fn a_refresh_of_one_shared_lock_leaves_the_others_as_they_are() {
    let dav = Dav::new();
    let ann = dav.as_("ann").share("/a").timeout("Second-120").expect(200).await.token();
    dav.as_("bob").share("/a").timeout("Second-120").expect(200).await;
    dav.clock.advance(MINUTE);
    let answer = dav.as_("ann").refresh("/a", &ann).timeout("Second-120").expect(200).await;
    assert_eq!(Active::only(&answer.xml()).token, Some(ann));
    dav.clock.advance(MINUTE);
    assert_eq!(dav.state().await.len(), 1, "the other one has run out");
}

fn expiries(locks: &[tower_lock::Lock]) -> Vec<String> {
    locks.iter().map(|lock| format!("{:?} {:?}", lock.id(), lock.expires_at())).collect()
}

/// L-10, L-51.
#[tokio::test]
async fn a_refresh_by_another_principal_with_the_right_token_is_403() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    let before = expiries(&dav.state().await);
    dav.clock.advance(MINUTE);
    for client in [dav.as_("bob"), dav.anonymous()] {
        let answer = client.refresh("/a", &token).timeout("Second-3600").expect(403).await;
        assert!(!answer.text.contains("activelock"), "{answer:?}");
    }
    assert_eq!(expiries(&dav.state().await), before);
}

/// L-80: a timeout that cannot be granted is passed over here too.
#[tokio::test]
async fn a_refresh_reads_timeout_as_a_lock_does() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    for (asked, granted) in
        [("Second-0", "Second-300"), ("x", "Second-300"), ("x, Second-7", "Second-7"), ("Second-9999999999", "Second-3600")]
    {
        let answer = dav.as_("ann").refresh("/a", &token).timeout(asked).expect(200).await;
        assert_eq!(timeout(&answer), granted, "{asked}");
    }
}

/// L-71: conditions in a refresh count: an entity tag beside the token.
#[tokio::test]
async fn a_refresh_whose_entity_tag_is_stale_is_412() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    let etag = dav.handler.etag("/a");
    dav.as_("ann").ask("LOCK", "/a").if_(&format!("(<{token}> [\"stale\"])")).expect(412).await;
    dav.as_("ann").ask("LOCK", "/a").if_(&format!("(<{token}> [{etag}])")).expect(200).await;
}

/// L-51, L-52, L-71: the lock has to cover the URL of the request too, and the whole header has to be true.
#[tokio::test]
async fn a_refresh_under_a_tag_of_the_lock_through_a_foreign_url_is_412() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    let before = expiries(&dav.state().await);
    dav.clock.advance(MINUTE);
    for (uri, condition) in [
        ("/b", format!("</a> (<{token}>)")),
        ("/e/nothing", format!("</a> (<{token}>)")),
        ("/a", format!("(<{token}> <DAV:no-lock>)")),
        ("/a", format!("(Not <{token}>)")),
        ("/a", format!("</b> (<{token}>)")),
    ] {
        dav.as_("ann").ask("LOCK", uri).if_(&condition).expect(412).await.refused("lock-token-matches-request-uri");
    }
    assert_eq!(expiries(&dav.state().await), before);
}
