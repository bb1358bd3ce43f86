//! One resource has many spellings, and is one resource.

use tower_lock::{KeyRules, lock::Dots};

use super::{
    handler::canonical,
    kit::Dav,
    shape::{Hrefs, Shape},
    xml::{Active, Found},
};

/// L-41, L-81.
#[tokio::test]
async fn every_spelling_of_a_destination_meets_the_lock() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/m", "0").await;
    let before = dav.handler.tree();
    for destination in [
        "/c/m",
        "/c/m/",
        "//c//m",
        "/%63/%6D",
        "/c/./m",
        "/c%2Fm",
        "http://dav.example/c/m",
        "HTTP://DAV.EXAMPLE:80/%63/m",
        "http://dav.example//c/m?x=1",
        "/c/m#fragment",
        "http://dav.example/c",
        "/c/",
    ] {
        for method in ["COPY", "MOVE"] {
            let ask = dav.as_("bob").ask(method, "/a").header("host", "dav.example").header("destination", destination);
            let answer = ask.await;
            assert!(answer.status == 423 || answer.status == 400, "{method} to {destination}: {answer:?}");
            assert_eq!(dav.handler.tree(), before);
        }
    }
    assert!(dav.handler.take_writes().is_empty());
}

/// L-81: what is no place on this server is refused before it is looked at.
#[tokio::test]
async fn a_destination_that_can_be_read_in_two_ways_is_400() {
    let dav = Dav::new();
    for destination in ["/c/../c/m", "/c/%2e%2e/m", "relative", "../c/m", "", "//", "mailto:x", "http://"] {
        let answer = dav.as_("bob").ask("COPY", "/a").header("destination", destination).await;
        assert!(answer.status.is_client_error() || answer.status == 502, "{destination}: {answer:?}");
    }
    let twice = dav.as_("bob").copy("/a", "/e/x").header("destination", "/e/y").await;
    assert_eq!(twice.status, 400, "{twice:?}");
    assert!(dav.handler.take_writes().is_empty());
}

/// L-41: of the request target, of tags, of LOCK itself.
#[tokio::test]
async fn every_spelling_of_a_target_meets_the_lock_and_its_token() {
    let spellings = ["/c/m", "/c/m/", "//c/m", "/%63/%6d", "/c/./m", "/c%2fm", "http://dav.example/c/m", "/c/m?x=1"];
    for locked in spellings {
        let dav = Dav::new();
        let token = dav.as_("ann").locked(locked, "0").await;
        for uri in spellings {
            dav.as_("bob").put(uri, "x").expect(423).await;
            dav.as_("ann").put(uri, "x").if_(&format!("(<{token}>)")).expect(204).await;
            if let Some(path) = uri.split('?').next().filter(|path| !path.starts_with("//")) {
                let ask = dav.as_("ann").put("/c/m", "x").header("host", "dav.example");
                ask.if_(&format!("<{path}> (<{token}>)")).expect(204).await;
            }
        }
        assert_eq!(dav.roots().await, ["/c/m"]);
        let answer = dav.as_("ann").refresh("/c/m", &token).expect(200).await;
        assert_eq!(canonical(&Active::only(&answer.xml()).root), "/c/m");
    }
}

/// L-81: what a server may read in two ways is 400 on a write, and on a LOCK.
#[tokio::test]
async fn dot_segments_in_a_target_are_400_unless_it_was_said_how_they_are_read() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    for uri in ["/c/../a", "/c/%2e%2E/a", "/.."] {
        for ask in [
            ann.put(uri, "x"),
            ann.lock(uri),
            ann.delete(uri),
            ann.mkcol(uri),
            ann.unlock(uri, "urn:uuid:6f1e5b0a-2a7c-4d6e-9b1f-0c2d3e4f5a6b"),
        ] {
            ask.expect(400).await;
        }
        ann.get("/a").if_(&format!("<{uri}> (Not <DAV:no-lock>)")).expect(400).await;
    }
    assert!(dav.handler.take_writes().is_empty());
    let dav = Dav::with(Shape::default(), |locks| locks.keys_by(KeyRules::new().dots(Dots::Pop)));
    dav.as_("ann").lock("/c/../a").expect(200).await;
    dav.as_("bob").put("/a", "x").expect(423).await;
}

/// L-41, L-99: hrefs of the handler are read by the same rules as requests.
#[tokio::test]
async fn hrefs_of_the_handler_in_any_spelling_find_the_locks() {
    for hrefs in [Hrefs::Path, Hrefs::Absolute, Hrefs::Encoded] {
        let shape = Shape { hrefs, ..Shape::default() };
        let dav = Dav::shaped(shape.clone());
        dav.handler.plant(["/c/\u{e4} b%41"]);
        let locked = "/c/%C3%A4%20b%2541";
        dav.as_("ann").locked(locked, "0").await;
        let answer = dav.as_("ann").propfind("/c/", "1").header("host", "dav.example").expect(207).await;
        let found = Found::of(&answer.xml());
        let href = shape.href("/c/\u{e4} b%41", false);
        assert_eq!(found.locks(&href).len(), 1, "{hrefs:?}: {answer:?}");
        assert_eq!(canonical(&found.locks(&href)[0].root), "/c/\u{e4} b%41");
    }
}

/// Keys of two hosts have nothing to do with each other.
#[tokio::test]
async fn with_namespaces_by_host_a_lock_holds_for_its_own_host() {
    let dav = Dav::with(Shape::default(), tower_lock::LocksBuilder::namespace_by_host);
    let (one, two) = ("one.example", "two.example");
    let token = dav.as_("ann").lock("/a").header("host", one).expect(200).await.token();
    dav.as_("bob").put("/a", "x").header("host", two).expect(204).await;
    dav.as_("bob").put("/a", "x").header("host", "ONE.example.:80").expect(423).await;
    dav.as_("bob").put("http://one.example/a", "x").header("host", one).expect(423).await;
    dav.as_("ann").put("/a", "x").header("host", one).if_(&format!("(<{token}>)")).expect(204).await;
    dav.as_("ann").put("/a", "x").header("host", two).if_(&format!("(<{token}>)")).expect(412).await;
    dav.as_("bob").lock("/a").header("host", two).expect(200).await;
    for (host, count) in [(one, 1), (two, 1), ("three.example", 0)] {
        let answer = dav.as_("ann").propfind("/a", "0").header("host", host).expect(207).await;
        assert_eq!(Found::of(&answer.xml()).locks("/a").len(), count, "{host}");
    }
    // A lock of the other host is in nobody's way, and cannot be reached from here.
    dav.as_("ann").unlock("/a", &token).header("host", two).expect(409).await;
    let answer = dav.as_("bob").copy("/b", "http://one.example/a").header("host", two).await;
    assert!(answer.status.is_client_error() || answer.status == 502, "{answer:?}");
    dav.as_("bob").copy("/b", "http://one.example/a").header("host", one).expect(423).await;
    dav.as_("bob").copy("/b", "/a").header("host", one).expect(423).await;
    dav.as_("ann").unlock("/a", &token).header("host", one).expect(204).await;
}

/// L-81, L-96: behind a router that strips a prefix, names are told in full.
#[tokio::test]
async fn behind_a_stripped_prefix_names_are_whole_and_destinations_are_read_with_it() {
    let shape = Shape { mount: "/dav", ..Shape::default() };
    let dav = Dav::with(shape, |locks| locks.keys_by(KeyRules::new().prefix("/dav")));
    // The router outside has made `/a` of `/dav/a`.
    let answer = dav.as_("ann").lock("/c/").depth("0").expect(200).await;
    let token = answer.token();
    assert_eq!(Active::only(&answer.xml()).root, "/dav/c/");
    dav.as_("bob").delete("/c/m").expect(423).await.locked_by(&["/dav/c/"]);
    dav.as_("bob")
        .copy("/a", "http://dav.example/dav/c/new")
        .header("host", "dav.example")
        .expect(423)
        .await
        .locked_by(&["/dav/c/"]);
    let found = Found::of(&dav.as_("ann").propfind("/c/", "1").expect(207).await.xml());
    assert_eq!(found.locks("/dav/c/")[0].token, Some(token.clone()));
    assert!(found.locks("/dav/c/m").is_empty());
    dav.as_("ann").delete("/c/m").if_(&format!("</dav/c/> (<{token}>)")).expect(204).await;
    dav.as_("ann").refresh("/c/", &token).expect(200).await;
    let answer = dav.as_("ann").lock("/e/new").expect(201).await;
    assert_eq!(Active::only(&answer.xml()).root, "/dav/e/new");
    assert_eq!(dav.handler.content("/e/new").as_deref(), Some(""), "made where the handler has it");
    // The condition on an entity tag under a full tag asks the handler by its own name.
    let etag = dav.handler.etag("/a");
    dav.as_("ann").put("/b", "x").if_(&format!("</dav/a> ([{etag}])")).expect(204).await;
    // Locks below a removed collection end, though the handler names them with the prefix.
    let lock = dav.as_("ann").locked("/c/d/n", "0").await;
    dav.handler.fault("DELETE", "/c", super::handler::Fault::Keep(vec!["/c/d/n"], 403));
    dav.as_("ann").delete("/c/").tokens([&token, &lock]).expect(207).await;
    assert_eq!(dav.roots().await, ["/dav/c", "/dav/c/d/n", "/dav/e/new"]);
}

/// A service that folds case has one resource where others have two.
#[tokio::test]
async fn with_folded_case_another_case_is_the_same_resource() {
    let dav = Dav::with(Shape::default(), |locks| locks.keys_by(KeyRules::new().fold_case()));
    let token = dav.as_("ann").locked("/A", "0").await;
    dav.as_("bob").put("/a", "x").expect(423).await;
    dav.as_("bob").move_("/b", "/%41").expect(423).await;
    dav.as_("ann").put("/a", "x").if_(&format!("</A> (<{token}>)")).expect(204).await;
}

/// L-41: collections are one resource with and without the slash.
#[tokio::test]
async fn a_collection_locked_without_its_slash_is_as_locked() {
    for (locked, other) in [("/c", "/c/"), ("/c/", "/c")] {
        for depth in ["0", "infinity"] {
            let dav = Dav::new();
            let token = dav.as_("ann").locked(locked, depth).await;
            dav.as_("bob").proppatch(other).expect(423).await.locked_by(&[locked]);
            dav.as_("bob").put("/c/new", "x").expect(423).await;
            let found = Found::of(&dav.as_("ann").propfind(other, "0").expect(207).await.xml());
            assert_eq!(found.locks("/c/").len(), 1);
            dav.as_("ann").put("/c/new", "x").if_(&format!("<{other}> (<{token}>)")).expect(201).await;
            dav.as_("ann").unlock(other, &token).expect(204).await;
        }
    }
}
