//! XML that means harm, or none at all.

use super::kit::{Client, Dav};

fn ask_all(client: &Client, body: &str) -> Vec<(&'static str, super::kit::Ask)> {
    vec![
        ("LOCK", client.ask("LOCK", "/a").body(body)),
        ("LOCK of an unmapped URL", client.ask("LOCK", "/e/new").body(body)),
        ("PROPFIND", client.ask("PROPFIND", "/a").depth("0").body(body)),
        ("PROPPATCH", client.ask("PROPPATCH", "/a").body(body)),
    ]
}

/// Bodies that are no XML document, or not the one of the method, whatever the method is.
const MALFORMED: &[&str] = &[
    "not xml",
    "<",
    " ",
    "<D:lockinfo",
    "<D:lockinfo xmlns:D=\"DAV:\">",
    "<D:lockinfo xmlns:D=\"DAV:\"></D:lockinfo><D:lockinfo xmlns:D=\"DAV:\"/>",
    "<D:lockinfo xmlns:D=\"DAV:\"><D:lockscope></D:locktype></D:lockinfo>",
    "<D:lockinfo><D:lockscope/></D:lockinfo>",
    "<D:propfind><D:allprop/></D:propfind>",
    "<x a=\"1\" a=\"2\"/>",
    "<x>&undeclared;</x>",
    "<x>&#0;</x>",
    "<x>\u{1}</x>",
    "<x>]]></x><!--",
    "<?xml version=\"1.0\" encoding=\"utf-16\"?><x",
    "{\"lockscope\":\"exclusive\"}",
];

/// L-101.
#[tokio::test]
async fn malformed_xml_is_400_and_does_nothing() {
    let dav = Dav::new();
    let before = dav.handler.tree();
    for body in MALFORMED {
        for (how, ask) in ask_all(&dav.as_("ann"), body) {
            let answer = ask.await;
            assert_eq!(answer.status, 400, "{how} {body:?}: {answer:?}");
        }
    }
    assert_eq!(dav.handler.tree(), before);
    dav.assert_nothing_left(&[], "malformed").await;
}

/// L-101: the right element of another namespace is the wrong one.
#[tokio::test]
async fn another_root_element_is_no_lockinfo() {
    let dav = Dav::new();
    for body in [
        "<lockinfo><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>",
        "<lockinfo xmlns=\"urn:x\"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>",
        "<D:propfind xmlns:D=\"DAV:\"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:propfind>",
        "<lockinfo xmlns=\"DAV:x\"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>",
    ] {
        let answer = dav.as_("ann").lock("/a").body(body).await;
        assert!(answer.status == 400 || answer.status == 422, "{body}: {answer:?}");
    }
    assert!(dav.roots().await.is_empty());
}

/// L-101: any prefix, or none, is right.
#[tokio::test]
async fn any_prefix_will_do() {
    for body in [
        "<lockinfo xmlns=\"DAV:\"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>",
        "<a:lockinfo xmlns:a=\"DAV:\"><b:lockscope xmlns:b='DAV:'><exclusive xmlns='DAV:'/></b:lockscope><a:locktype><a:write/></a:locktype></a:lockinfo>",
        "\u{feff}<?xml version='1.0'?><!-- c --><?p i?>\n<D:lockinfo xmlns:D=\"DAV:\" x='1'><!-- c --><D:lockscope>\n<D:exclusive/>\n</D:lockscope><D:locktype><D:write/></D:locktype></D:lockinfo>\n<!-- c -->",
    ] {
        let dav = Dav::new();
        dav.as_("ann").lock("/a").body(body).expect(200).await;
    }
}

/// L-102.
#[tokio::test]
async fn a_document_type_is_refused_and_no_entity_is_expanded() {
    let dav = Dav::new();
    let before = dav.handler.tree();
    let lockinfo = "<D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype>\
        <D:owner>&e;</D:owner></D:lockinfo>";
    let laughs: String = (1..12).map(|at| format!("<!ENTITY l{at} \"{}\">", format!("&l{};", at - 1).repeat(10))).collect();
    for (doctype, external) in [
        ("<!DOCTYPE x>".to_owned(), false),
        ("<!DOCTYPE x [<!ENTITY e \"boo\">]>".into(), false),
        (format!("<!DOCTYPE x [<!ENTITY l0 \"ha\">{laughs}<!ENTITY e \"&l11;\">]>"), false),
        ("<!DOCTYPE x SYSTEM \"http://127.0.0.1:9/x.dtd\">".into(), true),
        ("<!DOCTYPE x PUBLIC \"-//X\" \"file:///etc/passwd\">".into(), true),
        ("<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>".into(), true),
        ("<!DOCTYPE x [<!ENTITY % p SYSTEM \"http://127.0.0.1:9/p\"> %p;]>".into(), true),
    ] {
        for root in [lockinfo, "<D:propfind xmlns:D=\"DAV:\"><D:allprop/></D:propfind>"] {
            for (how, ask) in ask_all(&dav.as_("ann"), &format!("<?xml version=\"1.0\"?>{doctype}{root}")) {
                let answer = ask.await;
                if external {
                    assert_eq!(answer.status, 403, "{how} {doctype}: {answer:?}");
                    answer.refused("no-external-entities");
                } else {
                    assert_eq!(answer.status, 400, "{how} {doctype}: {answer:?}");
                }
                assert!(!answer.text.contains("root:") && !answer.text.contains("haha"));
            }
        }
    }
    assert_eq!(dav.handler.tree(), before);
    dav.assert_nothing_left(&[], "DTD").await;
}

/// L-102, G10: depth and size end before the machine does.
#[tokio::test]
async fn documents_that_are_too_deep_or_too_long_are_refused() {
    let dav = Dav::new();
    for depth in [300, 5_000] {
        let deep = format!("<D:x xmlns:D=\"DAV:\">{}{}</D:x>", "<y>".repeat(depth), "</y>".repeat(depth));
        for (how, ask) in ask_all(&dav.as_("ann"), &deep) {
            assert_eq!(ask.await.status, 400, "{how} {depth}");
        }
        let owner = format!(
            "<D:lockinfo xmlns:D=\"DAV:\"><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype><D:owner>{}{}</D:owner></D:lockinfo>",
            "<y>".repeat(depth),
            "</y>".repeat(depth)
        );
        assert_eq!(dav.as_("ann").lock("/a").body(&owner).await.status, 400);
    }
    let long = |bytes: usize| format!("<D:x xmlns:D=\"DAV:\"><!--{}--></D:x>", "x".repeat(bytes));
    dav.as_("ann").lock("/a").body(&long(64 * 1024)).expect(413).await;
    for method in ["PROPFIND", "PROPPATCH"] {
        dav.as_("ann").ask(method, "/a").body(&long(1024 * 1024)).expect(413).await;
    }
    // Attributes and namespaces in heaps are only bytes.
    let attributes: String = (0..3_000).map(|at| format!(" a{at}=\"\"")).collect();
    let answer = dav.as_("ann").lock("/a").body(&format!("<D:x xmlns:D=\"DAV:\"{attributes}/>")).await;
    assert!(answer.status.is_client_error(), "{answer:?}");
    dav.assert_nothing_left(&[], "too much").await;
}

/// L-102: a limit holds for what comes, not for what the client says will come.
#[tokio::test]
async fn an_announced_length_past_the_limit_is_refused_unread() {
    let dav = Dav::new();
    for (method, length) in [("LOCK", "70000"), ("PROPFIND", "2000000"), ("PROPPATCH", "2000000")] {
        let ask = dav.as_("ann").ask(method, "/a").header("content-length", length);
        let answer = ask.body("<x/>").await;
        assert!(answer.status == 413 || answer.status == 400, "{method}: {answer:?}");
    }
}

/// L-101: UTF-16 is XML too; whoever does not read it says so and does nothing.
#[tokio::test]
async fn utf_16_and_broken_utf_8_are_refused_or_read_right() {
    use bytes::Bytes;
    use http_body_util::Full;
    let dav = Dav::new();
    let mut utf16 = vec![0xff, 0xfe];
    utf16.extend(super::kit::EXCLUSIVE.replace("utf-8", "utf-16").encode_utf16().flat_map(u16::to_le_bytes));
    let answer = dav.as_("ann").ask("LOCK", "/a").stream(Full::new(Bytes::from(utf16))).await;
    assert!([200, 400, 415].contains(&answer.status.as_u16()), "{answer:?}");
    assert_eq!(dav.roots().await.len(), usize::from(answer.status == 200));
    let broken =
        [b"<D:lockinfo xmlns:D=\"DAV:\"><D:owner>\xff\xfe</D:owner>".as_slice(), b"\xc3\x28", b"\xed\xa0\x80", b"\0\0"];
    for body in broken {
        for method in ["LOCK", "PROPFIND", "PROPPATCH"] {
            let answer = dav.as_("ann").ask(method, "/b").stream(Full::new(Bytes::from_static(body))).await;
            assert_eq!(answer.status, 400, "{method} {body:?}: {answer:?}");
        }
    }
}

/// Whatever a handler answers to PROPFIND, the client gets it or an error, and nobody falls over.
#[tokio::test]
async fn a_multistatus_that_is_none_is_not_made_worse() {
    use http::{Request, Response};
    use tower_layer::Layer;
    for text in [
        "",
        "not xml",
        "<D:multistatus xmlns:D=\"DAV:\">",
        "<multistatus/>",
        "<D:multistatus xmlns:D=\"DAV:\"/>",
        "<D:multistatus xmlns:D=\"DAV:\"><D:response/></D:multistatus>",
        "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href/></D:response></D:multistatus>",
        "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/x/../y</D:href><D:propstat><D:prop/></D:propstat></D:response></D:multistatus>",
        "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>%zz</D:href><D:propstat/></D:response></D:multistatus>",
        "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/gone</D:href><D:status>HTTP/1.1 404 Not Found</D:status></D:response></D:multistatus>",
        "<!DOCTYPE x [<!ENTITY e \"x\">]><D:multistatus xmlns:D=\"DAV:\">&e;</D:multistatus>",
    ] {
        let inner = tower::service_fn(move |_: Request<tower_lock::webdav::RequestBody<super::kit::Sent>>| async move {
            let mut response = Response::new(http_body_util::Full::new(bytes::Bytes::from(text)));
            *response.status_mut() = http::StatusCode::MULTI_STATUS;
            response.headers_mut().insert("content-type", "application/xml".parse().unwrap());
            Ok::<_, super::handler::Broken>(response)
        });
        let service = tower_lock::DavLayer::new(tower_lock::MemoryStore::new()).layer(inner);
        let client = Client::through(super::kit::sender(service), Some("ann"));
        let answer = client.propfind("/a", "1").await;
        assert!([207, 500, 502].contains(&answer.status.as_u16()), "{text}: {answer:?}");
    }
}
