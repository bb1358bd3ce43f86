//! The list: filters, and pages.

use std::time::Duration;

use serde_json::{Value, json};
use tower_lock::{
    Access, Action, AuthorizeAsk, LockKind, LockRequest,
    locks::{Authorizer, DefaultAuthorizer},
};

use crate::kit::{Answer, Site, get};

/// A site where `admin` may list and see everything.
fn site() -> Site {
    Site::with(|locks| {
        locks.authorizer(|ask: &AuthorizeAsk<'_>| match (ask.action, ask.principal) {
            (Action::List | Action::See, Some(who)) if who.as_str() == "admin" => Access::Allowed,
            _ => DefaultAuthorizer.authorize(ask),
        })
    })
}

fn resources(answer: &Answer) -> Vec<Value> {
    answer.json()["locks"].as_array().unwrap().iter().map(|lock| lock["resource"].clone()).collect()
}

#[tokio::test]
async fn everybody_lists_their_own_and_who_may_lists_all() {
    let site = site();
    site.held("ann", "/a").await;
    site.held("bob", "/b").await;
    for (user, expected) in [("ann", vec!["/a"]), ("bob", vec!["/b"]), ("cat", vec![]), ("admin", vec!["/a", "/b"])] {
        let list = site.send(get("/").user(user)).await.expect(200, "");
        assert_eq!(resources(&list), expected, "{user}");
        assert!(!list.text.contains("urn:uuid"));
    }
    site.send(get("/")).await.expect(403, "forbidden");
    site.send(get("/?owner=bob").user("ann")).await.expect(403, "forbidden");
    site.send(get("/?owner=ann").user("ann")).await.expect(200, "");
}

#[tokio::test]
async fn filters_narrow_the_list() {
    let site = site();
    site.held("ann", "/docs/1").await;
    site.clock.advance(Duration::from_secs(60));
    site.held("bob", "/docs/2").await;
    let job = LockRequest::exclusive("/jobs/a%20b").kind(LockKind::Job).principal("bob");
    let _job = site.locks.acquire(job).await.unwrap();
    for (query, expected) in [
        ("", vec!["/docs/1", "/docs/2", "/jobs/a b"]),
        ("?prefix=/docs", vec!["/docs/1", "/docs/2"]),
        ("?prefix=//docs/./", vec!["/docs/1", "/docs/2"]),
        ("?prefix=/jobs/a%2520b", vec!["/jobs/a b"]),
        ("?prefix=/doc", vec![]),
        ("?owner=bob", vec!["/docs/2", "/jobs/a b"]),
        ("?kind=job", vec!["/jobs/a b"]),
        ("?kind=user&owner=bob", vec!["/docs/2"]),
        ("?older_than=60", vec!["/docs/1"]),
        ("?older_than=0", vec!["/docs/1", "/docs/2", "/jobs/a b"]),
        ("?older_than=61", vec![]),
        ("?limit=1000000", vec!["/docs/1", "/docs/2", "/jobs/a b"]),
        ("?nothing=of-ours", vec!["/docs/1", "/docs/2", "/jobs/a b"]),
    ] {
        let list = site.send(get(&format!("/{query}")).user("admin")).await.expect(200, "");
        assert_eq!(resources(&list), expected, "{query}");
        assert!(list.json()["next"].is_null() && !list.headers.contains_key("link"));
    }
}

#[tokio::test]
async fn pages_add_up_to_the_list() {
    let site = site();
    let mut all = Vec::new();
    for number in 0..7 {
        let path = format!("/docs/{number} ü&");
        site.held(if number % 2 == 0 { "ann" } else { "bob" }, &format!("/docs/{number}%20%C3%BC&")).await;
        all.push(json!(path));
    }
    site.held("ann", "/elsewhere").await;
    for limit in [1, 2, 3, 7] {
        let (mut seen, mut uri) = (Vec::new(), format!("/?limit={limit}&prefix=/docs&x=1"));
        loop {
            let page = site.send(get(&uri).user("admin")).await.expect(200, "");
            assert!(resources(&page).len() <= limit);
            seen.extend(resources(&page));
            let Some(link) = page.headers.get("link") else {
                assert!(page.json()["next"].is_null());
                break;
            };
            assert!(page.json()["next"].is_string());
            let link = link.to_str().unwrap();
            uri = format!("/{}", link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap());
        }
        assert_eq!(seen, all, "limit {limit}");
    }
    let own = site.send(get("/?limit=100").user("ann")).await.expect(200, "");
    assert_eq!(resources(&own).len(), 5);
}
