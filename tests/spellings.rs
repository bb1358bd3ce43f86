//! G1, no bypass: however the URI of a locked resource is spelled, in the request target or in `Destination`, no write to
//! it reaches the service; nor does one that a real server would take for it.

mod support;

use http::{Request, Uri};
use support::{
    Mode, Rigged, Text, probe, request, send,
    spellings::{DESTINATIONS, LOCKED, Outcome, Outcome::*, PATHS, TARGETS},
    with,
};
use tower::ServiceExt;
use tower_lock::{KeyRules, LockLayer, LockRequest, Locks, MemoryStore, lock::Dots, store::LockStore};
use tower_service::Service;

async fn locked_store(store: impl LockStore) -> Locks {
    let locks = Locks::new(store);
    drop(locks.acquire(LockRequest::exclusive(LOCKED)).await.expect("the lock"));
    locks
}

/// What becomes of `request` over a probe.
async fn outcome(locks: &Locks, request: Request<Text>) -> Outcome {
    let probe = probe(async |_: Request<Text>| Ok::<_, support::ProbeError>(http::Response::new(Text::default())));
    let counts = probe.counts();
    let mut service = tower::ServiceBuilder::new().layer(LockLayer::new(locks.clone())).service(probe);
    let answer = send(&mut service, request).await;
    assert_eq!(counts.calls() == 1, answer.status == 200, "{answer:?}");
    match answer.status.as_u16() {
        200 => Served,
        423 => Locked,
        _ if answer.code() == "ambiguous_path" => Ambiguous,
        400 => Malformed,
        _ => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn g1_every_spelling_of_a_locked_target_is_refused() {
    for store in [Rigged::new(MemoryStore::new()), Rigged::all(MemoryStore::new(), Mode::Later)] {
        let locks = locked_store(store).await;
        for (target, expected) in PATHS.iter().chain(TARGETS) {
            for method in ["PUT", "PATCH", "POST", "DELETE", "put", "Put", "PROPPATCH", "MKCOL", "LOCK", "X-UNHEARD-OF"] {
                // What takes all below with it cannot be served above the lock.
                let takes_all = !matches!(method, "PUT" | "PATCH" | "POST" | "PROPPATCH" | "MKCOL");
                let above = matches!(*target, "/docs" | "/" | "*" | "http://example.org");
                let expected = if takes_all && above { Locked } else { *expected };
                assert_eq!(outcome(&locks, request(method, target)).await, expected, "{method} {target}");
            }
        }
    }
}

#[tokio::test]
async fn g1_every_spelling_of_a_locked_destination_is_refused() {
    let locks = locked_store(MemoryStore::new()).await;
    for method in ["MOVE", "COPY", "move", "X-UNHEARD-OF"] {
        let to = |destination: &str| with(request(method, "/docs/free"), "destination", destination);
        for (path, expected) in PATHS {
            let expected = if matches!(*path, "/docs" | "/") { Locked } else { *expected };
            assert_eq!(outcome(&locks, to(path)).await, expected, "{method} to {path}");
            let absolute = format!("http://example.org{path}");
            assert_eq!(outcome(&locks, to(&absolute)).await, expected, "{method} to {absolute}");
        }
        for (destination, expected) in DESTINATIONS {
            assert_eq!(outcome(&locks, to(destination)).await, *expected, "{method} to {destination}");
        }
        for second in ["/docs/locked", "/docs/free", "/docs/other"] {
            let several = with(to("/docs/other"), "destination", second);
            assert_eq!(outcome(&locks, several).await, Malformed, "{method} to two");
        }
        let listed = to("/docs/other, /docs/locked");
        assert_eq!(outcome(&locks, listed).await, Malformed, "{method} to a list");
    }
}

#[tokio::test]
async fn g1_octets_that_are_not_utf_8_are_one_whichever_way_they_are_sent() {
    let locks = Locks::new(MemoryStore::new());
    drop(locks.acquire(LockRequest::exclusive("/docs/%FF")).await.unwrap());
    for target in ["/docs/%FF", "/docs/%ff", "/docs/%FE", "/docs/%EF%BF%BD", "/docs/%80/x"] {
        assert_eq!(outcome(&locks, request("PUT", target)).await, Locked, "{target}");
    }
    for destination in [&b"/docs/\xFF"[..], b"http://example.org/docs/\xFF", "/docs/\u{FFFD}".as_bytes(), b"/docs/%FF"] {
        let copy = with(request("COPY", "/docs/free"), "destination", destination);
        assert_eq!(outcome(&locks, copy).await, Locked, "{destination:?}");
    }
}

#[tokio::test]
async fn g1_nul_and_the_percent_sign_have_one_spelling() {
    for (root, spellings, others) in [
        ("/a%00b", &["/a%00b", "/%61%00b"][..], &["/ab", "/a", "/a%2500b"][..]),
        ("/a%25b", &["/a%25b", "/a%b"], &["/a%2525b", "/ab"]),
        ("/a%", &["/a%", "/a%25", "/a%/"], &["/a", "/a%2525"]),
        ("/%2541", &["/%2541", "/%25%34%31"], &["/A", "/%41", "/%252541"]),
    ] {
        let locks = Locks::new(MemoryStore::new());
        drop(locks.acquire(LockRequest::exclusive(root)).await.unwrap());
        for target in spellings {
            assert_eq!(outcome(&locks, request("PUT", target)).await, Locked, "{target} under {root}");
        }
        for target in others {
            assert_eq!(outcome(&locks, request("PUT", target)).await, Served, "{target} under {root}");
        }
    }
}

#[tokio::test]
async fn g1_a_target_longer_than_any_lock_root_is_checked_against_the_locks_above() {
    let locks = Locks::new(MemoryStore::new());
    let root = format!("/{}", "r".repeat(8 * 1024 - 1));
    drop(locks.acquire(LockRequest::exclusive(&root)).await.unwrap());
    drop(locks.acquire(LockRequest::exclusive(LOCKED)).await.unwrap());
    let deep = "/x".repeat(5_000);
    let encoded = "%78".repeat(9_000);
    for (target, expected) in [
        (root.clone(), Locked),
        (format!("{root}/below"), Locked),
        (format!("{root}r"), Served),
        (format!("{LOCKED}{deep}"), Locked),
        (format!("{LOCKED}/{encoded}"), Locked),
        (format!("/docs{}/locked", "/.".repeat(5_000)), Locked),
        (format!("/docs{}locked", "/".repeat(9_000)), Locked),
        (format!("/docs{deep}"), Served),
        (format!("/docs{deep}/..{}/locked", "/..".repeat(4_999)), Ambiguous),
    ] {
        let start = &target[..40];
        assert!(target.len() > 8_000 && Uri::try_from(&target).is_ok(), "{start}");
        assert_eq!(outcome(&locks, request("PUT", &target)).await, expected, "{start}");
        let copy = with(request("COPY", "/docs/free"), "destination", &target);
        assert_eq!(outcome(&locks, copy).await, expected, "to {start}");
    }
}

#[tokio::test]
async fn g1_rules_that_know_how_the_service_reads_dot_dot_find_the_lock() {
    for (dots, target, expected) in [
        (Dots::Pop, "/docs/x/../locked", Locked),
        (Dots::Pop, "/../docs/x%2F%2e%2E/locked/y/..", Locked),
        (Dots::Pop, "/docs/locked/..", Served),
        (Dots::Skip, "/docs/../locked", Locked),
        (Dots::Skip, "/docs/locked/..", Locked),
        (Dots::Literal, "/docs/x/../locked", Served),
        (Dots::Literal, "/docs/locked/..", Locked),
    ] {
        let locks = Locks::builder(MemoryStore::new()).keys_by(KeyRules::new().dots(dots)).build();
        drop(locks.acquire(LockRequest::exclusive(LOCKED)).await.unwrap());
        assert_eq!(outcome(&locks, request("PUT", target)).await, expected, "{dots:?} {target}");
    }
}

#[tokio::test]
async fn g1_a_resolver_that_cannot_tell_the_resource_refuses_the_write() {
    let locks = Locks::builder(MemoryStore::new())
        .keys_fn(|ask| match ask.path.strip_prefix("/records/") {
            Some(id) if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) => {
                let id: u64 = id.parse().map_err(|_| tower_lock::lock::KeyError::Unresolved)?;
                Ok(tower_lock::ResourceKey::from_canonical(format!("/records/{id}")).into())
            }
            _ => Err(tower_lock::lock::KeyError::Unresolved),
        })
        .build();
    drop(locks.acquire(LockRequest::exclusive("/records/7")).await.unwrap());
    for (target, expected) in [
        ("/records/7", Locked),
        ("/records/007", Locked),
        ("/records/8", Served),
        ("/records/%37", Malformed),
        ("/records/", Malformed),
        ("/elsewhere", Malformed),
        ("/records/99999999999999999999999", Malformed),
    ] {
        assert_eq!(outcome(&locks, request("PUT", target)).await, expected, "{target}");
    }
    for (destination, expected) in [("/records/07", Locked), ("http://h/records/7?x", Locked), ("/else", Malformed)] {
        let copy = with(request("COPY", "/records/8"), "destination", destination);
        assert_eq!(outcome(&locks, copy).await, expected, "{destination}");
    }
    // The application is bound by the same keys.
    assert_eq!(locks.acquire(LockRequest::exclusive("/records/0007")).await.unwrap_err().status(), 423);
}

#[tokio::test]
async fn g1_what_servers_decode_in_options_is_folded_in_options() {
    let rules = KeyRules::new().fold_case().drop_params().backslash_separates(tower_lock::lock::Separator::Both);
    let locks = Locks::builder(MemoryStore::new()).keys_by(rules).build();
    drop(locks.acquire(LockRequest::exclusive(LOCKED)).await.unwrap());
    for target in
        ["/DOCS/Locked", "/docs/locked;v=1", "/docs;x/locked", "/docs%5Clocked", "/docs\\LOCKED\\x", "/Doc%C5%BF/locked"]
    {
        assert_eq!(outcome(&locks, request("PUT", target)).await, Locked, "{target}");
    }
    for target in ["/docs/..;x/docs/locked", "/x%5c..%5cdocs/locked"] {
        assert_eq!(outcome(&locks, request("PUT", target)).await, Ambiguous, "{target}");
    }
}

#[tokio::test]
async fn g1_where_the_host_selects_the_resource_no_spelling_of_the_host_goes_by_the_lock() {
    let locks = Locks::builder(MemoryStore::new()).namespace_by_host().build();
    drop(locks.acquire(LockRequest::exclusive(LOCKED).namespace("a.example")).await.unwrap());
    let on = |target: &str, host: &'static str| with(request("PUT", target), "host", host);
    for (target, host, expected) in [
        (LOCKED, "a.example", Locked),
        (LOCKED, "A.EXAMPLE", Locked),
        (LOCKED, "a.example.", Locked),
        (LOCKED, "a.example:80", Locked),
        (LOCKED, "a.example:443", Locked),
        ("http://A.example:80/docs//locked", "a.example", Locked),
        (LOCKED, "b.example", Served),
        (LOCKED, "a.example:8080", Served),
        // Which of two hosts the service reads, nobody knows.
        ("http://b.example/docs/locked", "a.example", Ambiguous),
        ("http://a.example/docs/locked", "b.example", Ambiguous),
        (LOCKED, "a.example, b.example", Malformed),
        (LOCKED, "a.example/", Malformed),
    ] {
        assert_eq!(outcome(&locks, on(target, host)).await, expected, "{target} on {host}");
    }
    let twice = with(on(LOCKED, "b.example"), "host", "a.example");
    assert_eq!(outcome(&locks, twice).await, Malformed);
    assert_eq!(outcome(&locks, request("PUT", "http://a.example/docs/locked")).await, Locked, "without the field");
    for (destination, expected) in [
        ("http://b.example/docs/free", Served),
        ("/docs/locked", Served),
        ("http://a.example/docs/locked", Ambiguous),
        ("http://a.example:8080/docs/locked", Ambiguous),
        ("http:///docs/locked", Ambiguous),
    ] {
        let copy = with(request("COPY", "/docs/free"), "host", "b.example");
        assert_eq!(outcome(&locks, with(copy, "destination", destination)).await, expected, "{destination}");
    }
}

/// Whatever waits before the service, the probe is called only when ready, and not at all for a refusal.
#[tokio::test]
async fn a_refused_spelling_leaves_the_ready_service_ready() {
    let locks = locked_store(Rigged::all(MemoryStore::new(), Mode::Later)).await;
    let probe = probe(async |_: Request<Text>| Ok::<_, support::ProbeError>(http::Response::new(Text::default())));
    let mut service = tower::ServiceBuilder::new().layer(LockLayer::new(locks)).service(probe);
    for (target, status) in [(LOCKED, 423), ("/docs/free", 200), ("/docs/x/../locked", 400), ("/docs/free", 200)] {
        let response = service.ready().await.unwrap().call(request("PUT", target)).await.unwrap();
        assert_eq!(response.status(), status, "{target}");
    }
}
