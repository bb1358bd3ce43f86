//! PROPPATCH: the two lock properties cannot be changed.

use super::{kit::Dav, shape::Shape, xml::Found};

const INSTRUCTIONS: &[(&str, &[(&str, u16)])] = &[
    ("<D:set><D:prop><D:lockdiscovery/></D:prop></D:set>", &[("lockdiscovery", 403)]),
    ("<D:set><D:prop><D:supportedlock>x</D:supportedlock></D:prop></D:set>", &[("supportedlock", 403)]),
    (
        "<D:remove><D:prop><D:lockdiscovery/><D:supportedlock/></D:prop></D:remove>",
        &[("lockdiscovery", 403), ("supportedlock", 403)],
    ),
    (
        "<D:set><D:prop><Z:one xmlns:Z=\"urn:z\">1</Z:one></D:prop></D:set><D:remove><D:prop><D:lockdiscovery/><D:x/></D:prop></D:remove>",
        &[("{urn:z}one", 424), ("lockdiscovery", 403), ("x", 424)],
    ),
    (
        "<set xmlns=\"DAV:\"><prop><supportedlock/></prop></set><D:set><D:prop><D:displayname>n</D:displayname></D:prop></D:set>",
        &[("supportedlock", 403), ("displayname", 424)],
    ),
];

fn update(instructions: &str) -> String {
    format!("<D:propertyupdate xmlns:D=\"DAV:\">{instructions}</D:propertyupdate>")
}

/// L-60, L-93, L-99, L-100.
#[tokio::test]
async fn the_lock_properties_are_protected_and_nothing_else_of_the_request_is_done() {
    for shape in Shape::all().into_iter().step_by(5) {
        let dav = Dav::shaped(shape);
        let before = dav.handler.tree();
        for (instructions, expected) in INSTRUCTIONS {
            let answer = dav.as_("ann").ask("PROPPATCH", "/a").body(&update(instructions)).expect(207).await;
            assert_eq!(answer.header("cache-control"), "no-store");
            let xml = answer.xml();
            let found = Found::of(&xml);
            assert_eq!(found.hrefs(), ["/a"]);
            for (name, status) in *expected {
                assert_eq!(found.property("/a", name).0, *status, "{instructions}: {answer:?}");
            }
            assert_eq!(found.0[0].1.len(), expected.len(), "{answer:?}");
            for propstat in xml["response"].all("propstat") {
                let says = propstat.get("error").and_then(|error| error.get("cannot-modify-protected-property")).is_some();
                assert_eq!(says, propstat["status"].text.contains("403"), "{answer:?}");
            }
        }
        assert_eq!(dav.handler.tree(), before);
        assert!(dav.handler.take_writes().is_empty());
        dav.assert_nothing_left(&[], "protected").await;
    }
}

/// L-20, L-60: a lock stands before that.
#[tokio::test]
async fn on_a_locked_resource_the_lock_comes_first() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    let body = update(INSTRUCTIONS[0].0);
    dav.as_("bob").ask("PROPPATCH", "/a").body(&body).expect(423).await.locked_by(&["/a"]);
    let answer = dav.as_("ann").ask("PROPPATCH", "/a").body(&body).tokens([token]).expect(207).await;
    assert_eq!(Found::of(&answer.xml()).property("/a", "lockdiscovery").0, 403);
}

/// L-60: all other properties are the handler's, whatever they are called.
#[tokio::test]
async fn every_other_proppatch_reaches_the_handler_as_it_is() {
    let dav = Dav::new();
    for body in [
        update("<D:set><D:prop><Z:lockdiscovery xmlns:Z=\"urn:z\">v</Z:lockdiscovery></D:prop></D:set>"),
        update("<D:set><D:prop><supportedlock xmlns=\"\">v</supportedlock></D:prop></D:set>"),
        // Only the properties themselves count, not what is in them.
        update("<D:set><D:prop><Z:c xmlns:Z=\"urn:z\"><D:lockdiscovery/></Z:c></D:prop></D:set>"),
        "<?xml version=\"1.0\"?>\n<propertyupdate xmlns=\"DAV:\"><set><prop><a xmlns=\"urn:z\">\u{e9}</a></prop></set></propertyupdate>\n".into(),
    ] {
        dav.as_("ann").ask("PROPPATCH", "/a").body(&body).expect(207).await;
        let seen = dav.handler.take_seen().pop().unwrap();
        assert_eq!((seen.method.as_str(), seen.body), ("PROPPATCH", body.into()));
    }
}

/// L-54: the answer to a PROPPATCH that the handler made is not to be kept either.
#[tokio::test]
async fn answers_that_change_something_are_not_cached() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    for ask in [
        ann.proppatch("/a"),
        ann.mkcol("/e/col/"),
        ann.copy("/a", "/e/copy"),
        ann.move_("/a", "/e/moved"),
        ann.lock("/b"),
        ann.mkcol("/e/col"),
    ] {
        let answer = ask.await;
        assert_eq!(answer.headers.get("cache-control").map(|value| value.to_str().unwrap()), Some("no-store"), "{answer:?}");
    }
}
