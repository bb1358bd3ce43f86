//! `lockdiscovery` and `supportedlock` in PROPFIND, whatever the handler makes of them.

use std::time::Duration;

use super::{
    kit::{Client, Dav},
    shape::{LockProps, Prefix, Shape},
    xml::{Found, Xml},
};

const DAV_BOTH: [&str; 2] = ["lockdiscovery", "supportedlock"];

async fn find(client: &Client, uri: &str, depth: &str, body: &str) -> Found {
    let answer = client.ask("PROPFIND", uri).depth(depth).header("host", "dav.example").body(body).expect(207).await;
    if let Some(length) = answer.headers.get("content-length") {
        assert_eq!(length.to_str().unwrap(), answer.text.len().to_string());
    }
    Found::of(&answer.xml())
}

fn wanted(names: &str) -> String {
    format!("<D:propfind xmlns:D=\"DAV:\"><D:prop>{names}</D:prop></D:propfind>")
}

const BOTH: &str = "<D:lockdiscovery/><D:supportedlock/>";

/// L-17, L-100: what `supportedlock` says.
fn check_supported(property: &Xml) {
    let mut entries = Vec::new();
    for entry in &property.named("{DAV:}supportedlock").children {
        entry.named("{DAV:}lockentry");
        assert_eq!(entry.children.len(), 2, "{entry:?}");
        assert_eq!(entry["locktype"].children[0].name, "{DAV:}write");
        entries.push(entry["lockscope"].children[0].name.clone());
    }
    entries.sort();
    assert_eq!(entries, ["{DAV:}exclusive", "{DAV:}shared"]);
}

/// L-17, L-41, L-59, L-99, L-100: in every shape, under every name, at every depth.
#[tokio::test]
async fn both_properties_are_found_on_every_resource_in_every_shape_of_a_handler() {
    for shape in Shape::all() {
        let dav = Dav::shaped(shape.clone());
        let token = dav.as_("ann").locked("/c/", "0").await;
        let inner = dav.as_("ann").locked("/c/d/", "infinity").await;
        dav.handler.plant(["/c/d/\u{fc} & <x>"]);
        for (depth, paths) in [
            ("0", &["/c"][..]),
            ("1", &["/c", "/c/d", "/c/m"]),
            ("infinity", &["/c", "/c/d", "/c/d/n", "/c/d/\u{fc} & <x>", "/c/m"]),
        ] {
            for names in [BOTH.to_owned(), format!("<D:resourcetype/>{BOTH}<D:getetag/><Z:none xmlns:Z=\"urn:z\"/>")] {
                let found = find(&dav.as_("ann"), "/c/", depth, &wanted(&names)).await;
                let hrefs: Vec<_> = paths.iter().map(|path| shape.href(path, ["/c", "/c/d"].contains(path))).collect();
                let mut listed = found.hrefs();
                listed.sort_unstable();
                let mut expected: Vec<_> = hrefs.iter().map(String::as_str).collect();
                expected.sort_unstable();
                assert_eq!(listed, expected, "{shape:?}: as the handler wrote them");
                for (path, href) in paths.iter().zip(&hrefs) {
                    let locks = found.locks(href);
                    let expected = match *path {
                        "/c" => Some((&token, "/c/", "0")),
                        "/c/m" => None,
                        _ => Some((&inner, "/c/d/", "infinity")),
                    };
                    assert_eq!(locks.len(), usize::from(expected.is_some()), "{shape:?} {path}");
                    if let Some((token, root, depth)) = expected {
                        let lock = &locks[0];
                        assert_eq!((lock.token.as_deref(), &*lock.root, &*lock.depth), (Some(token.as_str()), root, depth));
                    }
                    let (status, supported) = found.property(href, "supportedlock");
                    assert_eq!(status, 200, "{shape:?} {path}");
                    check_supported(supported);
                    if names != BOTH {
                        assert_eq!(found.property(href, "resourcetype").0, 200);
                        assert_eq!(found.property(href, "{urn:z}none").0, 404);
                    }
                }
            }
        }
    }
}

/// L-59: each property alone; the other is not added.
#[tokio::test]
async fn only_what_was_asked_for_is_added() {
    for shape in Shape::all() {
        let dav = Dav::shaped(shape.clone());
        dav.as_("ann").locked("/a", "0").await;
        let href = shape.href("/a", false);
        for (at, name) in DAV_BOTH.iter().enumerate() {
            let found = find(&dav.as_("ann"), "/a", "0", &wanted(&format!("<D:{name}/>"))).await;
            assert_eq!(found.property(&href, name).0, 200);
            assert_eq!(found.0[0].1.len(), 1, "{shape:?}: {name}, not {}", DAV_BOTH[1 - at]);
        }
        // Names that only look alike are the handler's.
        let alike = "<Z:lockdiscovery xmlns:Z=\"urn:z\"/><supportedlock xmlns=\"\"/>";
        let found = find(&dav.as_("ann"), "/a", "0", &wanted(alike)).await;
        assert_eq!(found.property(&href, "{urn:z}lockdiscovery").0, 404, "{shape:?}");
        assert!(found.0[0].1.iter().all(|(_, property)| !property.name.starts_with("{DAV:}")), "{shape:?}");
        let found = find(&dav.as_("ann"), "/a", "0", &wanted("<D:getcontentlength/>")).await;
        assert_eq!(found.0[0].1.len(), 1, "{shape:?}");
    }
}

/// L-59: allprop, an empty body and `include` have both; `propname` names both, empty.
#[tokio::test]
async fn allprop_and_no_body_have_both_and_propname_names_them() {
    for shape in Shape::all() {
        let dav = Dav::shaped(shape.clone());
        dav.as_("ann").locked("/c/", "infinity").await;
        for body in [
            "",
            "<propfind xmlns=\"DAV:\"><allprop/></propfind>",
            "<D:propfind xmlns:D=\"DAV:\"><D:allprop/><D:include><D:supportedlock/><D:lockdiscovery/></D:include></D:propfind>",
            "<x:propfind xmlns:x='DAV:'><x:allprop/><x:include><Z:colour xmlns:Z='urn:z'/></x:include></x:propfind>",
        ] {
            let found = find(&dav.as_("ann"), "/c/", "1", body).await;
            for href in found.hrefs() {
                assert_eq!(found.locks(href).len(), 1, "{shape:?} {body}");
                assert_eq!(found.property(href, "supportedlock").0, 200, "{shape:?} {body}");
                assert_eq!(found.property(href, "resourcetype").0, 200);
            }
            assert_eq!(found.0.len(), 3);
        }
        let found = find(&dav.as_("ann"), "/c/", "1", "<D:propfind xmlns:D=\"DAV:\"><D:propname/></D:propfind>").await;
        for href in found.hrefs() {
            for name in DAV_BOTH {
                let (status, property) = found.property(href, name);
                assert_eq!(status, 200);
                assert!(property.children.is_empty() && property.text.is_empty(), "{shape:?}: only a name");
            }
        }
    }
}

/// L-99: unlocked, it is there and empty.
#[tokio::test]
async fn lockdiscovery_of_what_is_unlocked_is_empty() {
    for shape in Shape::all() {
        let dav = Dav::shaped(shape.clone());
        let found = find(&dav.as_("ann"), "/a", "0", &wanted(BOTH)).await;
        let (status, property) = found.property(&shape.href("/a", false), "lockdiscovery");
        assert_eq!(status, 200);
        assert!(property.children.is_empty() && property.text.trim().is_empty());
    }
}

/// L-99: one `activelock` for each lock, direct or not.
#[tokio::test]
async fn every_lock_that_covers_a_resource_is_shown_once() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    for uri in ["/c/", "/c/d/", "/c/d/n", "/c/d/n"] {
        ann.share(uri).expect(200).await;
    }
    ann.share("/c/").depth("0").expect(200).await;
    let found = Found::of(&ann.propfind("/c/", "infinity").expect(207).await.xml());
    for (href, roots) in [
        ("/c/", &["/c/", "/c/"][..]),
        ("/c/d/", &["/c/", "/c/d/"]),
        ("/c/d/n", &["/c/", "/c/d/", "/c/d/n", "/c/d/n"]),
        ("/c/m", &["/c/"]),
    ] {
        let mut shown: Vec<_> = found.locks(href).into_iter().map(|lock| lock.root).collect();
        shown.sort();
        assert_eq!(shown, roots, "{href}");
    }
}

/// L-98: the seconds that are left.
#[tokio::test]
async fn the_timeout_is_what_is_left_of_it() {
    let dav = Dav::new();
    dav.as_("ann").lock("/a").timeout("Second-100").expect(200).await;
    for (span, left) in [(0, "Second-100"), (40, "Second-60"), (59, "Second-1")] {
        dav.clock.advance(Duration::from_secs(span));
        let found = Found::of(&dav.as_("ann").propfind("/a", "0").expect(207).await.xml());
        assert_eq!(found.locks("/a")[0].timeout.as_deref(), Some(left));
    }
    dav.clock.advance(Duration::from_secs(1));
    let found = Found::of(&dav.as_("ann").propfind("/a", "0").expect(207).await.xml());
    assert!(found.locks("/a").is_empty());
}

/// L-98: a lock without an end says `Infinite`.
#[tokio::test]
async fn an_endless_lock_says_infinite() {
    use tower_lock::{LockKind, LockRequest};
    let dav = Dav::new();
    dav.taken(LockRequest::exclusive("/a").kind(LockKind::Freeze)).await;
    let found = Found::of(&dav.as_("ann").propfind("/a", "0").expect(207).await.xml());
    assert_eq!(found.locks("/a")[0].timeout.as_deref(), Some("Infinite"));
}

/// Everything else in the answer stays to the byte.
#[tokio::test]
async fn what_is_not_about_locks_stays_as_the_handler_wrote_it() {
    for prefix in [Prefix::Usual, Prefix::Default, Prefix::Odd, Prefix::Everywhere] {
        let shape = Shape { prefix, lock_props: LockProps::Absent, ..Shape::default() };
        let dav = Dav::shaped(shape.clone());
        let body = "<D:propertyupdate xmlns:D=\"DAV:\"><D:set><D:prop><Z:c xmlns:Z=\"urn:z\">a &amp;lt; &#233;</Z:c></D:prop></D:set></D:propertyupdate>";
        dav.as_("ann").ask("PROPPATCH", "/a").body(body).expect(207).await;
        let plain = Client::through(super::kit::sender(dav.handler.clone()), None);
        let names = "<D:getetag/><Z:c xmlns:Z=\"urn:z\"/><D:nothing/>";
        for body in [wanted(names), wanted(&format!("{names}{BOTH}"))] {
            let bare = plain.ask("PROPFIND", "/a").depth("0").body(&body).expect(207).await;
            let ours = dav.as_("ann").ask("PROPFIND", "/a").depth("0").body(&body).expect(207).await;
            // What was put in, cut out again by its bounds.
            let mut rest = bare.text.as_str();
            let mut inserted = ours.text.clone();
            let mut common = String::new();
            while let (Some(a), Some(b)) = (rest.chars().next(), inserted.chars().next()) {
                if a != b {
                    break;
                }
                common.push(a);
                rest = &rest[a.len_utf8()..];
                inserted.remove(0);
            }
            assert!(inserted.ends_with(rest), "{prefix:?}: {} became {}", bare.text, ours.text);
            assert_eq!(ours.headers["content-type"], bare.headers["content-type"]);
            if body == wanted(names) {
                assert_eq!(ours.text, bare.text, "nothing to add");
            }
        }
    }
}

/// The handler is asked without an encoding that could not be read.
#[tokio::test]
async fn the_handler_is_not_offered_a_compressed_answer() {
    let dav = Dav::new();
    dav.as_("ann").propfind("/a", "0").header("accept-encoding", "gzip, br").expect(207).await;
    let seen = dav.handler.take_seen();
    let propfind = seen.iter().find(|seen| seen.method == "PROPFIND").unwrap();
    assert!(propfind.headers.get("accept-encoding").is_none_or(|value| value == "identity"), "{propfind:?}");
    assert_eq!(propfind.body, super::kit::LOCK_PROPS, "the body is passed on");
}

/// What is no multistatus is passed on.
#[tokio::test]
async fn an_answer_that_is_no_multistatus_is_passed_on() {
    let dav = Dav::new();
    dav.as_("ann").locked("/a", "0").await;
    for status in [401, 403, 404, 500, 503] {
        dav.handler.fail("PROPFIND", "/a", status);
        assert_eq!(dav.as_("ann").propfind("/a", "0").expect(status).await.text, format!("handler {status}"));
    }
    dav.as_("ann").propfind("/nothing", "0").expect(404).await;
}

/// L-99: the locks of one resource, not of one that only starts alike.
#[tokio::test]
async fn names_that_start_alike_are_two() {
    let dav = Dav::new();
    dav.handler.plant(["/c2/", "/c2/m"]);
    dav.as_("ann").locked("/c", "infinity").await;
    let found = Found::of(&dav.as_("ann").propfind("/c2/", "1").expect(207).await.xml());
    assert!(found.locks("/c2/").is_empty() && found.locks("/c2/m").is_empty());
}

/// L-17: after COPY, MOVE and DELETE it says what holds then.
#[tokio::test]
async fn lockdiscovery_depends_on_where_a_resource_is() {
    let dav = Dav::new();
    let ann = dav.as_("ann");
    let token = ann.locked("/c/", "infinity").await;
    ann.copy("/c/m", "/e/m").expect(201).await;
    ann.copy("/b", "/c/b").if_(&format!("</c/> (<{token}>)")).expect(201).await;
    let found = Found::of(&ann.propfind("/", "infinity").expect(207).await.xml());
    for (href, count) in [("/e/m", 0), ("/c/b", 1), ("/c/", 1), ("/c/d/n", 1), ("/b", 0), ("/", 0)] {
        assert_eq!(found.locks(href).len(), count, "{href}");
    }
}
