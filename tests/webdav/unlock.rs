//! UNLOCK.

use std::time::Duration;

use super::kit::Dav;

/// L-06, L-54, L-56.
#[tokio::test]
async fn unlock_through_any_url_in_scope_ends_the_whole_lock_with_204() {
    for uri in ["/c", "/c/", "/c/m", "/c/d/n", "/c/not-there", "http://dav.example/c/", "/%63//m"] {
        let dav = Dav::new();
        let token = dav.as_("ann").locked("/c/", "infinity").await;
        let answer = dav.as_("ann").unlock(uri, &token).expect(204).await;
        assert!(answer.text.is_empty() && answer.header("cache-control") == "no-store", "{answer:?}");
        assert!(dav.state().await.is_empty());
        for write in ["/c/m", "/c/d/n", "/c/new"] {
            assert!(dav.as_("bob").put(write, "x").await.status.is_success());
        }
        assert!(!dav.handler.take_seen().iter().any(|seen| seen.method == "UNLOCK"));
    }
}

/// L-06: one lock of several.
#[tokio::test]
async fn unlock_of_one_shared_lock_leaves_the_other() {
    let dav = Dav::new();
    let ann = dav.as_("ann").share("/a").expect(200).await.token();
    let bob = dav.as_("bob").share("/a").expect(200).await.token();
    dav.as_("ann").unlock("/a", &ann).expect(204).await;
    dav.as_("ann").put("/a", "x").expect(423).await;
    dav.as_("bob").put("/a", "x").tokens([&bob]).expect(204).await;
}

/// L-57.
#[tokio::test]
async fn unlock_without_a_lock_token_is_400() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    dav.as_("ann").ask("UNLOCK", "/a").expect(400).await;
    dav.as_("ann").ask("UNLOCK", "/a").if_(&format!("(<{token}>)")).expect(400).await;
    for header in ["", "<>", "<", "<urn:uuid:", "(<urn:uuid:x>)", "no uri", "<relative>"] {
        dav.as_("ann").ask("UNLOCK", "/a").header("lock-token", header).expect(400).await;
    }
    let twice = dav.as_("ann").unlock("/a", &token).header("lock-token", &format!("<{token}>")).await;
    assert_eq!(twice.status, 400, "{twice:?}");
    assert_eq!(dav.roots().await, ["/a"]);
}

/// L-10, L-57.
#[tokio::test]
async fn unlock_by_another_principal_is_403_and_ends_nothing() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    dav.as_("bob").unlock("/a", &token).expect(403).await;
    dav.anonymous().unlock("/a", &token).expect(403).await;
    assert_eq!(dav.roots().await, ["/a"]);
    dav.as_("ann").unlock("/a", &token).expect(204).await;
}

/// L-56, L-57, L-78.
#[tokio::test]
async fn unlock_out_of_scope_or_of_a_lock_that_is_none_is_409() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let shallow = ann.locked("/c/", "0").await;
    let other = ann.locked("/a", "0").await;
    let gone = ann.locked("/b", "0").await;
    ann.unlock("/b", &gone).expect(204).await;
    let unknown = "urn:uuid:6f1e5b0a-2a7c-4d6e-9b1f-0c2d3e4f5a6b";
    for (uri, token) in [
        ("/c/m", shallow.as_str()),
        ("/", &shallow),
        ("/b", &other),
        ("/c/", &other),
        ("/b", &gone),
        ("/a", unknown),
        ("/e/nothing", unknown),
        ("/a", "opaquelocktoken:foobar"),
        ("/a", "DAV:no-lock"),
    ] {
        ann.unlock(uri, token).expect(409).await.refused("lock-token-matches-request-uri");
    }
    assert_eq!(dav.roots().await, ["/a", "/c"]);
    let lock = ann.lock("/b").timeout("Second-60").expect(200).await.token();
    dav.clock.advance(Duration::from_secs(60));
    ann.unlock("/b", &lock).expect(409).await.refused("lock-token-matches-request-uri");
}

/// An unlock of a token that was never seen does nothing to a later lock.
#[tokio::test]
async fn a_lock_that_nobody_had_is_not_burnt_by_an_unlock() {
    let dav = Dav::new();
    dav.as_("bob").unlock("/a", "urn:uuid:6f1e5b0a-2a7c-4d6e-9b1f-0c2d3e4f5a6b").expect(409).await;
    dav.as_("ann").lock("/a").expect(200).await;
}

/// L-58: without the brackets it is still understood.
#[tokio::test]
async fn a_lock_token_without_brackets_is_understood() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    dav.as_("ann").ask("UNLOCK", "/a").header("lock-token", &token).expect(204).await;
}

/// L-56, L-71: `If` on UNLOCK is an ordinary condition.
#[tokio::test]
async fn the_if_header_of_an_unlock_is_a_condition() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    let etag = dav.handler.etag("/a");
    for stale in ["([\"stale\"])", "(<DAV:no-lock>)", "</b> (<DAV:no-lock>)"] {
        dav.as_("ann").unlock("/a", &token).if_(stale).expect(412).await;
    }
    assert_eq!(dav.roots().await, ["/a"]);
    dav.as_("ann").unlock("/a", &token).if_(&format!("(<{token}> [{etag}])")).expect(204).await;
}

/// L-56: what a client like neon adds for a locked parent.
#[tokio::test]
async fn the_token_of_the_parent_may_be_in_the_if_header_of_an_unlock() {
    let dav = Dav::new();
    let parent = dav.as_("ann").locked("/c/", "0").await;
    let member = dav.as_("ann").locked("/c/m", "0").await;
    let tagged = format!("<http://dav.example/c/> (<{parent}>)");
    dav.as_("ann").unlock("/c/m", &member).header("host", "dav.example").if_(&tagged).expect(204).await;
    assert_eq!(dav.roots().await, ["/c"]);
}
