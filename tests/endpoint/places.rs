//! Wherever the endpoint is, and however a resource is spelled, its lock is the one that the layer looks for.

use std::convert::Infallible;

use axum::{Router, extract::Path, routing::put as axum_put};
use http::{Request, Response};
use tower::{ServiceBuilder, ServiceExt};
use tower_lock::{
    Access, AuthorizeAsk, KeyRules, LockEndpoint, LockLayer, Locks, LocksBuilder, ResourceKey,
    lock::Dots,
    request::{Resolved, Role},
};

use crate::kit::{Answer, Ask, Site, ask, delete, get, post, put};

/// Paths as clients send them.
const SPELLINGS: [&str; 33] = [
    "/a", "/a/", "//a", "/a//b", "/a/./b", "/./a", "/%61", "/a%20b", "/a%2520b", "/a+b", "/a%2Bb", "/a%2Fb", "/a%2fb/",
    "/%C3%BC", "/%c3%bc", "/%FF", "/%ff%FEx", "/100%25", "/100%", "/100%2", "/a%00b", "/a%3Fb", "/a%23b", "/a&b=c",
    "/a%26b", "/a;v=1", "/a%5Cb", "/A", "/lock", "/locks", "/a/lock", "/%2e", "/",
];

fn allowed(locks: LocksBuilder) -> LocksBuilder {
    locks.authorizer(|_: &AuthorizeAsk<'_>| Access::Allowed)
}

fn form(path: &str) -> String {
    form_urlencoded::byte_serialize(path.as_bytes()).collect()
}

async fn root_after(locks: &Locks, answer: Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text);
    let root = answer.json()["resource"].as_str().unwrap().to_owned();
    locks.release(answer.json()["token"].as_str().unwrap().parse().unwrap()).await.unwrap();
    root
}

#[tokio::test]
async fn every_way_to_name_a_resource_gives_the_key_that_the_layer_finds() {
    for rules in [KeyRules::new(), KeyRules::new().exact(), KeyRules::new().fold_case().drop_params().dots(Dots::Pop)] {
        let key = rules.clone();
        let site = Site::with(|locks| allowed(locks).keys_by(rules));
        let under = site.endpoint.clone().mount("/locks");
        let suffix = site.endpoint.clone().suffix("lock");
        for path in SPELLINGS {
            let expected = key.key(path).unwrap();
            let mut ways = vec![
                (&site.endpoint, format!("/?resource={}", form(path))),
                (&site.endpoint, format!("/?resource={}", form(expected.path()))),
                (&site.endpoint, format!("/elsewhere?resource={}&x=1", form(path))),
                (&under, format!("/locks/?resource={}", form(path))),
                (&suffix, format!("/x/lock?resource={}", form(path))),
                (&suffix, format!("{path}/lock")),
            ];
            // The mount's own path is the list.
            if path != "/" {
                ways.extend([(&site.endpoint, path.to_owned()), (&under, format!("/locks{path}"))]);
            }
            for (endpoint, uri) in ways {
                let taken = site.send_to(endpoint, put(&uri).user("ann")).await;
                assert_eq!(taken.status, 201, "{uri}: {}", taken.text);
                assert_eq!(site.write(put(path).user("bob")).await.status, 423, "{uri} does not lock {path}");
                assert_eq!(site.state().await[0].root(), &expected, "{uri}");
                assert_eq!(root_after(&site.locks, taken).await, expected.path(), "{uri}");
            }
            let several = post("/").user("ann").json(&serde_json::json!({"resources": [path]}).to_string());
            let several = site.send(several).await.expect(201, "").json();
            assert_eq!(several["locks"][0]["resource"], expected.path(), "{path}");
            site.locks.release(several["locks"][0]["token"].as_str().unwrap().parse().unwrap()).await.unwrap();
            assert!(site.state().await.is_empty());
        }
    }
}

#[tokio::test]
async fn a_lock_managed_in_one_spelling_is_found_in_another() {
    let site = Site::new();
    let token = site.held("ann", "/a%20b//%63/").await;
    for uri in ["/a%20b/c", "/?resource=/a%2520b/c", "/?resource=/a+b/c", "//a%20b/./c?x"] {
        let seen = site.send(get(uri)).await.expect(200, "").json();
        assert_eq!((&seen["resource"], &seen["locked"]), (&"/a b/c".into(), &true.into()), "{uri}");
    }
    site.send(delete("/a%20b/%63").user("ann").holding(&token)).await.expect(204, "");
}

#[tokio::test]
async fn nested_axum_routers_give_the_keys_of_the_routes_beside_them() {
    let site = Site::with(allowed);
    let routes = Router::new()
        .route("/", axum_put(async || "root"))
        .route("/{*rest}", axum_put(async |Path(_): Path<String>| "written"))
        .layer(LockLayer::new(site.locks.clone()));
    let app = Router::new().nest_service("/locks", site.endpoint.clone()).merge(routes);
    let send = async |ask: Ask| Answer::of(app.clone().oneshot(ask.0.map(axum::body::Body::from)).await.unwrap()).await;
    for path in SPELLINGS {
        if matches!(path, "/" | "/locks") {
            continue;
        }
        let taken = send(put(&format!("/locks{path}")).user("ann")).await;
        assert_eq!(taken.status, 201, "{path}: {}", taken.text);
        assert_eq!(send(put(path).user("bob")).await.status, 423, "{path}");
        root_after(&site.locks, taken).await;
    }
    for list in ["/locks", "/locks/"] {
        assert!(send(get(list).user("ann")).await.expect(200, "").json()["locks"].is_array());
    }
    send(put("/locks?resource=/").user("ann")).await.expect(201, "");
    assert_eq!(send(put("/x").user("bob")).await.status, 423);
}

#[tokio::test]
async fn a_suffix_route_locks_the_resource_beside_it_through_the_same_routers() {
    let site = Site::with(|locks| locks.keys_by(KeyRules::new().prefix("/api")));
    let inner = Router::new()
        .route("/cases/{id}", axum_put(async || "written"))
        .layer(LockLayer::new(site.locks.clone()))
        .route_service("/cases/{id}/lock", site.endpoint.clone().suffix("lock"));
    let app = Router::new().nest("/api", inner).nest_service("/locks", site.endpoint.clone());
    let send = async |ask: Ask| Answer::of(app.clone().oneshot(ask.0.map(axum::body::Body::from)).await.unwrap()).await;
    let taken = send(put("/api/cases/4711/lock").user("ann")).await.expect(201, "");
    assert_eq!(taken.json()["resource"], "/api/cases/4711");
    assert_eq!(send(put("/api/cases/4711").user("bob")).await.status, 423);
    assert_eq!(send(put("/api/cases/4712").user("bob")).await.status, 200);
    // In full, as the refusal names it.
    for uri in ["/locks/api/cases/4711", "/locks?resource=/api/cases/4711", "/api/cases/4711/lock"] {
        assert_eq!(send(get(uri)).await.expect(200, "").json()["locked"], true, "{uri}");
    }
    // The relative reference of the answer leads to the lock.
    let own = format!("/api/cases/4711/lock{}", taken.header("location"));
    send(delete(&own).user("ann")).await.expect(204, "");
    assert_eq!(send(put("/api/cases/4711").user("bob")).await.status, 200);
}

#[tokio::test]
async fn a_resolver_of_the_applications_own_is_asked_for_roots_too() {
    let site = Site::with(|locks| {
        locks.keys_fn(|ask| {
            let query = ask.request.uri.query().unwrap_or_default();
            let record = match ask.role {
                // A write names its record in the query; a root is named by the record's number alone.
                Role::Target => query.split('&').find_map(|pair| pair.strip_prefix("record=")),
                _ => ask.path.strip_prefix("/records/"),
            };
            let record = record.ok_or(tower_lock::lock::KeyError::Unresolved)?;
            Ok(Resolved::key(ResourceKey::from_canonical(format!("/records/{record}"))))
        })
    });
    site.held("ann", "/records/7").await;
    assert_eq!(site.write(put("/save?record=7").user("bob")).await.status, 423);
    assert_eq!(site.write(put("/save?record=8").user("bob")).await.status, 200);
    let suffix = site.endpoint.clone().suffix("lock");
    let seen = site.send_to(&suffix, get("/save/lock?record=7")).await.expect(200, "").json();
    assert_eq!((&seen["resource"], &seen["locked"]), (&"/records/7".into(), &true.into()));
    site.send(put("/else").user("ann")).await.expect(400, "bad_request");
    // What `If` is about is not asked of it here.
    let token = site.held("ann", "/records/9").await;
    site.send(delete("/records/9").user("ann").holding(&token)).await.expect(204, "");
}

#[tokio::test]
async fn outside_of_its_place_the_endpoint_is_not_found() {
    let site = Site::new();
    let under = site.endpoint.clone().mount("/locks");
    for uri in ["/", "/docs", "/locksmith", "/Locks/a", "/%6Cocks/a", "*"] {
        for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
            site.send_to(&under, ask(method, uri).user("ann")).await.expect(404, "no_such_lock");
        }
    }
    let suffix = site.endpoint.clone().suffix("lock");
    for uri in ["/a", "/a/padlock", "/a/lock/", "/a/lock/b", "/"] {
        site.send_to(&suffix, put(uri).user("ann")).await.expect(404, "no_such_lock");
    }
    assert!(site.state().await.is_empty());
}

#[tokio::test]
async fn in_front_of_a_service_only_the_canonical_spelling_is_the_endpoints() {
    let site = Site::with(allowed);
    let echo = tower::service_fn(async |request: Request<String>| {
        Ok::<_, Infallible>(Response::new(format!("inside {}", request.uri().path())))
    });
    let service = ServiceBuilder::new()
        .layer(LockEndpoint::new(site.locks.clone()).in_front_of("/locks/"))
        .layer(LockLayer::new(site.locks.clone()))
        .service(echo);
    let send = async |ask: Ask| Answer::of(service.clone().oneshot(ask.0).await.unwrap()).await;

    let taken = send(put("/locks/docs/7").user("ann")).await.expect(201, "");
    assert_eq!(taken.json()["resource"], "/docs/7");
    assert_eq!(send(put("/docs/7").user("bob")).await.status, 423);
    assert_eq!(send(put("/docs/8").user("bob")).await.text, "inside /docs/8");
    assert_eq!(send(get("/docs/7").user("bob")).await.text, "inside /docs/7");
    send(get("/locks").user("ann")).await.expect(200, "");

    // Somebody else's lock on what a service may take for these paths holds, since the layer sees them.
    send(put("/locks?resource=/locks").user("cat")).await.expect(201, "");
    send(put("/locks?resource=/x").user("cat")).await.expect(201, "");
    for (path, status) in [
        ("//locks/a", 423),
        ("/%6Cocks/a", 423),
        ("/locks//a", 423),
        ("/./locks/a", 423),
        ("/locks%2Fa", 423),
        ("/locks/../x", 400),
        ("/locks/%2e%2e/x", 400),
        ("/locks/a/../../x", 400),
    ] {
        assert_eq!(send(put(path).user("bob")).await.status, status, "{path}");
        assert!(send(get(path)).await.text.starts_with("inside"), "{path}");
    }
    // The endpoint itself is not guarded, or nobody could release.
    let token = taken.json()["token"].as_str().unwrap().to_owned();
    send(delete("/locks/docs/7").user("ann").holding(&token)).await.expect(204, "");
}

#[tokio::test]
async fn it_serves_bare_under_hyper() {
    let site = Site::new();
    let (client, server) = tokio::io::duplex(64 * 1024);
    let service = hyper_util::service::TowerToHyperService::new(site.endpoint.clone().mount("/locks"));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(hyper_util::rt::TokioIo::new(server), service);
    tokio::spawn(connection);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, String>(hyper_util::rt::TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let mut send = async |mut ask: Ask| {
        ask.0.headers_mut().insert("host", http::HeaderValue::from_static("localhost"));
        Answer::of(sender.send_request(ask.0).await.unwrap()).await
    };
    let taken = send(put("/locks/docs//7").user("ann").json(r#"{"timeout": 60}"#)).await.expect(201, "").json();
    assert_eq!((&taken["resource"], &taken["expires_in"]), (&"/docs/7".into(), &60.into()));
    let head = send(ask("HEAD", "/locks/docs/7")).await.expect(200, "");
    assert_ne!(head.header("content-length"), "0");
    send(put("/locks/docs").user("bob")).await.expect(423, "locked");
    let beacon = post("/locks/docs/7").user("ann").body("text/plain;charset=UTF-8", taken["token"].as_str().unwrap());
    send(beacon).await.expect(200, "");
    assert!(site.state().await.is_empty());
}
