//! The same layer before another handler: the `dav-server` crate's memory file system, without its lock system.

use std::convert::Infallible;

use dav_server::{DavHandler, memfs::MemFs};
use tower_layer::Layer;
use tower_lock::{DavLayer, LockLayer, Locks, webdav::RequestBody};

use super::{
    kit::{Client, Sent, sender},
    xml::{Active, Found},
};
use crate::support::{self, User, stores};

/// Clients of a fresh memory file system with `/a`, `/c/` and `/c/m`, and a way to see all of it.
struct Site {
    ann: Client,
    bob: Client,
    bare: Client,
}

async fn site() -> Site {
    let handler = DavHandler::builder().filesystem(MemFs::new()).build_handler();
    let inner = handler.clone();
    let inner = tower::service_fn(move |request: http::Request<RequestBody<Sent>>| {
        let handler = inner.clone();
        async move { Ok::<_, Infallible>(handler.handle(request).await) }
    });
    let bare = tower::service_fn(move |request: http::Request<Sent>| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(handler.handle(request).await) }
    });
    let locks: Locks = support::locks_of_users(stores::memory(tower_lock::store::Clock::system())).build();
    let send = sender(DavLayer::new(locks).layer(inner));
    let site = Site {
        ann: Client::through(send.clone(), Some("ann")),
        bob: Client::through(send, Some("bob")),
        bare: Client::through(sender(bare), None),
    };
    site.bare.put("/a", "content").expect(201).await;
    site.bare.mkcol("/c/").expect(201).await;
    site.bare.put("/c/m", "content").expect(201).await;
    site.bare.mkcol("/e/").expect(201).await;
    site
}

impl Site {
    /// Names and content; the handler lists no more than one level at once.
    async fn tree(&self) -> Vec<String> {
        let body = "<D:propfind xmlns:D=\"DAV:\"><D:prop><D:resourcetype/></D:prop></D:propfind>";
        let (mut all, mut open) = (Vec::new(), vec![String::from("/")]);
        while let Some(collection) = open.pop() {
            let found = self.bare.ask("PROPFIND", &collection).depth("1").body(body).expect(207).await;
            for href in Found::of(&found.xml()).hrefs() {
                if href == collection {
                    all.push(href.to_owned());
                } else if href.ends_with('/') {
                    open.push(href.to_owned());
                } else {
                    all.push(format!("{href} {}", self.bare.get(href).expect(200).await.text));
                }
            }
        }
        all.sort();
        all
    }
}

/// L-01, L-13, L-31, L-32, L-50.
#[tokio::test]
async fn memfs_locks_of_mapped_and_unmapped_urls() {
    let site = site().await;
    let answer = site.ann.lock("/a").depth("0").expect(200).await;
    assert_eq!(Active::only(&answer.xml()).token, Some(answer.token()));
    site.bob.put("/a", "x").expect(423).await.locked_by(&["/a"]);
    assert!(site.ann.put("/a", "x").if_(&format!("(<{}>)", answer.token())).await.status.is_success());
    let new = site.ann.lock("/e/new").expect(201).await.token();
    assert_eq!(site.bare.get("/e/new").expect(200).await.text, "");
    site.bob.put("/e/new", "x").expect(423).await.locked_by(&["/e/new"]);
    site.ann.lock("/nowhere/new").expect(409).await;
    site.ann.unlock("/e/new", &new).expect(204).await;
    site.bob.put("/e/new", "x").expect(204).await;
}

/// L-17, L-59, L-99, L-100.
#[tokio::test]
async fn memfs_properties_at_every_depth() {
    let site = site().await;
    let token = site.ann.locked("/c/", "infinity").await;
    for body in [super::kit::LOCK_PROPS, "", "<propfind xmlns='DAV:'><allprop/></propfind>"] {
        for (href, depth, count) in [("/", "1", 0), ("/a", "0", 0), ("/c/", "1", 1), ("/c/m", "0", 1), ("/e/", "1", 0)] {
            let found = Found::of(&site.ann.ask("PROPFIND", href).depth(depth).body(body).expect(207).await.xml());
            let locks = found.locks(href);
            assert_eq!(locks.len(), count, "{href} {body}");
            assert!(locks.iter().all(|lock| lock.token.as_deref() == Some(token.as_str()) && lock.root == "/c/"));
            for href in found.hrefs() {
                assert_eq!(found.locks(href).len(), usize::from(href.starts_with("/c/")), "{href} {body}");
                assert_eq!(found.property(href, "supportedlock").1.children.len(), 2, "{href} {body}");
            }
        }
    }
}

/// L-26, L-43, L-45, L-48: nothing changed.
#[tokio::test]
async fn memfs_collections_with_a_locked_member_stay_as_they_are() {
    let site = site().await;
    let token = site.ann.locked("/c/m", "0").await;
    let before = site.tree().await;
    for ask in [
        site.bob.delete("/c/"),
        site.bob.move_("/c/", "/e/c/"),
        site.bob.copy("/e/", "/c/"),
        site.bob.move_("/e/", "/%63/"),
        site.bob.copy("/a", "/c/m"),
    ] {
        ask.expect(423).await.locked_by(&["/c/m"]);
        assert_eq!(site.tree().await, before);
    }
    site.ann.delete("/c/").tokens([token]).expect(204).await;
    site.bob.mkcol("/c/").expect(201).await;
    site.bob.put("/c/m", "x").expect(201).await;
}

/// L-22, L-23.
#[tokio::test]
async fn memfs_membership_of_a_depth_0_locked_collection() {
    let site = site().await;
    let token = site.ann.locked("/c/", "0").await;
    let before = site.tree().await;
    for ask in [
        site.bob.put("/c/new", "x"),
        site.bob.mkcol("/c/new/"),
        site.bob.copy("/a", "/c/new"),
        site.bob.move_("/a", "/c/new"),
        site.bob.move_("/c/m", "/e/m"),
        site.bob.delete("/c/m"),
        site.bob.lock("/c/new"),
    ] {
        ask.expect(423).await.locked_by(&["/c/"]);
        assert_eq!(site.tree().await, before);
    }
    site.bob.put("/c/m", "y").expect(204).await;
    assert!(site.ann.put("/c/new", "x").if_(&format!("</c/> (<{token}>)")).await.status.is_success());
}

/// L-27, L-71, L-72, L-73.
#[tokio::test]
async fn memfs_conditions_on_its_entity_tags() {
    let site = site().await;
    let etag = |answer: super::kit::Answer| answer.header("etag").to_owned();
    let token = site.ann.locked("/a", "0").await;
    let tag = etag(site.bare.ask("HEAD", "/a").expect(200).await);
    site.ann.put("/a", "x").if_(&format!("(<{token}> [\"stale\"])")).expect(412).await;
    site.ann.get("/a").if_("([\"stale\"])").expect(412).await;
    site.ann.get("/a").if_(&format!("([{tag}])")).expect(200).await;
    site.ann.put("/a", "x").if_(&format!("(<{token}> [{tag}])")).expect(204).await;
    let tag = etag(site.bare.ask("HEAD", "/a").expect(200).await);
    site.ann.put("/c/m", "x").if_(&format!("</a> ([{tag}]) </c/m> (<{token}>)")).expect(204).await;
}

/// L-60, L-61, L-62.
#[tokio::test]
async fn memfs_options_and_protected_properties() {
    let site = site().await;
    let options = site.ann.ask("OPTIONS", "/a").expect(200).await;
    let classes: Vec<_> =
        options.headers.get_all("dav").iter().flat_map(|line| line.to_str().unwrap().split(',')).map(str::trim).collect();
    assert_eq!(classes.iter().filter(|class| **class == "2").count(), 1, "{classes:?}");
    assert!(options.header("allow").contains("UNLOCK"));
    let body = "<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop><D:lockdiscovery/></D:prop></D:set></D:propertyupdate>";
    let answer = site.ann.ask("PROPPATCH", "/a").body(body).expect(207).await;
    assert_eq!(Found::of(&answer.xml()).property("/a", "lockdiscovery").0, 403);
    site.ann.proppatch("/a").expect(207).await;
}

/// `LockLayer` and `DavLayer` over one `Locks` are of one mind.
#[tokio::test]
async fn memfs_and_a_lock_layer_beside_it_share_their_locks() {
    let handler = DavHandler::builder().filesystem(MemFs::new()).build_handler();
    let inner = tower::service_fn(move |request: http::Request<RequestBody<Sent>>| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(handler.handle(request).await) }
    });
    let locks: Locks = support::locks_of_users(stores::memory(tower_lock::store::Clock::system())).build();
    let ann = Client::through(sender(DavLayer::new(locks.clone()).layer(inner)), Some("ann"));
    let token = ann.lock("/a").expect(201).await.token();
    let beside = tower::service_fn(async |_: http::Request<support::Text>| {
        Ok::<_, Infallible>(http::Response::new(support::Text::default()))
    });
    let mut beside = LockLayer::new(locks).layer(beside);
    let mut write = support::request("PUT", "/a");
    assert_eq!(support::send(&mut beside, write.clone()).await.status, 423);
    write.headers_mut().insert("if", format!("(<{token}>)").parse().unwrap());
    assert_eq!(support::send(&mut beside, write.clone()).await.status, 423, "of nobody");
    write.extensions_mut().insert(User("ann"));
    assert_eq!(support::send(&mut beside, write).await.status, 200);
}

/// L-22, L-23: this handler answers for a document at all paths below it. The lock on the document is not taken for one on
/// a collection whose members may be written.
#[tokio::test]
async fn memfs_no_write_below_a_locked_document_reaches_it() {
    let site = site().await;
    site.ann.locked("/a", "0").await;
    let before = site.tree().await;
    site.bob.put("/a/below", "overwritten").expect(423).await.locked_by(&["/a"]);
    site.bob.put("/a%2Fbelow", "overwritten").expect(423).await.locked_by(&["/a"]);
    site.bob.proppatch("/a/below").await;
    site.bob.delete("/a/below").expect(423).await;
    assert_eq!(site.tree().await, before);
}
