//! The `If` header, in every form.

use super::{handler::Fault, kit::Dav, shape::Shape};

/// A site with an exclusive lock of ann's on `/a` and one on `/c/`, and what stands for what in a header: `T` and `C`
/// for their tokens, `E` for the entity tag of `/a`, `M` for that of `/c/m`, `X` for a lock token of nobody's.
async fn site(shape: Shape) -> (Dav, impl Fn(&str) -> String) {
    let dav = Dav::shaped(shape);
    let token = dav.as_("ann").locked("/a", "0").await;
    let collection = dav.as_("ann").locked("/c/", "infinity").await;
    let etag = |path| dav.handler.tree()[path].etag.clone().unwrap_or_else(|| "\"none\"".into());
    let (a, m) = (etag("/a"), etag("/c/m"));
    let write = move |form: &str| {
        form.replace("{T}", &format!("<{token}>"))
            .replace("{C}", &format!("<{collection}>"))
            .replace("{E}", &format!("[{a}]"))
            .replace("{M}", &format!("[{m}]"))
            .replace("{X}", "<urn:uuid:6f1e5b0a-2a7c-4d6e-9b1f-0c2d3e4f5a6b>")
            .replace("{W}", &format!("[W/{a}]"))
    };
    (dav, write)
}

/// Forms that are true, and those that are false, of a PUT to `/a` by the holder of the lock on it.
const TRUE: &[&str] = &[
    "({T})",
    "({T} {E})",
    "({E} {T})",
    "({E}) ({T})",
    "({E})(Not {T})",
    "([\"stale\"]) ({T})",
    "({X}) ({T} {E})",
    "(Not {X} {T})",
    "(Not [\"stale\"] {T})",
    "(Not <DAV:no-lock> {T})",
    "(<DAV:no-lock>) (Not <DAV:no-lock>) ({T})",
    "({T} Not <DAV:no-lock>)",
    "</a> ({T})",
    "</a> ({T} {E})",
    "</%61> ({T})",
    "</%2Fa/./> ({T})",
    "<http://dav.example/a> ({T})",
    "<HTTP://DAV.EXAMPLE:80/a> ({T})",
    "</b> ({T}) </a> ({T})",
    "</b> (Not {T})",
    "</a> ([\"stale\"]) ({T})",
    "</c/> ({C}) </a> (Not {T})",
    "</c/m> ({C} {M}) </b> ({T})",
    "</c/m> ({M}) </b> ({T})",
    "</b> ({E}) </c/m> ({M}) </e/> (Not {T} [\"x\"])",
    "</c/m> (Not {E} {M}) </b> ({T})",
    "</c/d/n> ({C}) </b> ({T})",
    // What is not there is there without any state (section 10.4.4).
    "</nothing> (Not {T} Not {E}) </a> ({X})",
    "</nothing/at/all> (Not [\"x\"]) </b> ({T})",
    "({T}\t{E} )  ",
    "\t({T})",
];

const FALSE: &[&str] = &[
    "({X})",
    "({T} {X})",
    "({T} [\"stale\"])",
    "({T} Not {E})",
    "(Not {T})",
    "(Not {E}) ({T} {X})",
    "(<DAV:no-lock>)",
    "({T} <DAV:no-lock>)",
    "(<DAV:NO-LOCK> {T})",
    "({C})",
    "</b> ({T})",
    "</c/> ({T}) </c/m> ({T})",
    "</b> ({E})",
    "</c/m> ({E} {C})",
    "</nothing> ({T})",
    "</nothing> ({E})",
    "</nothing/at/all> ([\"x\"])",
    "</c/m> (Not {C})",
    "</c/d/n> (Not {C})",
    "(<http://example.net/not-a-lock> {T})",
    "([\"\"] {T})",
];

const MALFORMED: &[&str] = &[
    "",
    " ",
    "()",
    "({T}",
    "{T})",
    "{T}",
    "</a> ({T}) ({T}) </b>",
    "({T}) </a> ({T})",
    "({T}) </a>",
    "</a>",
    "(({T}))",
    "(Not)",
    "(Not Not {T})",
    "(not-a-state)",
    "(<relative>)",
    "(<>)",
    "([stale])",
    "([\"open])",
    "({T}), ({T})",
    "<../a> ({T})",
    "Not ({T})",
];

/// L-27, L-71, L-72, L-73, L-74, L-75.
#[tokio::test]
async fn a_true_if_header_lets_the_holder_write() {
    for form in TRUE {
        for shape in [Shape::default(), Shape { head: false, ..Shape::default() }] {
            let (dav, write) = site(shape).await;
            let value = write(form);
            let answer = dav.as_("ann").put("/a", "x").header("host", "dav.example").if_(&value).await;
            assert_eq!(answer.status, 204, "{form}: {answer:?}");
        }
    }
}

/// L-71, L-73, L-74, L-75, L-79: 412, and nothing reaches the handler but questions.
#[tokio::test]
async fn a_false_if_header_is_412_on_writes_and_on_reads() {
    for form in FALSE {
        for shape in [Shape::default(), Shape { head: false, ..Shape::default() }] {
            let (dav, write) = site(shape).await;
            let value = write(form);
            let before = dav.handler.tree();
            let ann = dav.as_("ann");
            for ask in [
                ann.put("/a", "x"),
                ann.delete("/a"),
                ann.proppatch("/a"),
                ann.move_("/a", "/e/a"),
                ann.copy("/a", "/e/a"),
                ann.get("/a"),
                ann.ask("HEAD", "/a"),
                ann.propfind("/a", "0"),
            ] {
                ask.if_(&value).expect(412).await;
            }
            assert_eq!(dav.handler.tree(), before, "{form}");
            assert!(dav.handler.take_seen().iter().all(|seen| seen.method != "GET"), "{form}");
            dav.assert_nothing_left(&["/a", "/c"], form).await;
        }
    }
}

/// L-71: and a true one, on reads, is stripped and the read goes on.
#[tokio::test]
async fn a_true_if_header_on_a_read_is_evaluated_and_taken_off() {
    for form in TRUE {
        let (dav, write) = site(Shape::default()).await;
        let value = write(form);
        let get = dav.as_("ann").get("/a").header("host", "dav.example").if_(&value).await;
        assert_eq!((get.status.as_u16(), get.text.as_str()), (200, "/a"), "{form}");
        let found = dav.as_("bob").ask("OPTIONS", "/a").header("host", "dav.example").if_(&value).await;
        assert!(found.status == 200 || found.status == 412, "{form}");
    }
}

/// L-72.
#[tokio::test]
async fn a_malformed_if_header_or_two_of_them_are_400() {
    let (dav, write) = site(Shape::default()).await;
    let ann = dav.as_("ann");
    for form in MALFORMED {
        let value = write(form);
        for ask in [ann.put("/a", "x"), ann.get("/a"), ann.lock("/b"), ann.propfind("/a", "0")] {
            ask.if_(&value).expect(400).await;
        }
    }
    for ask in [ann.put("/a", "x"), ann.get("/a"), ann.lock("/b"), ann.ask("LOCK", "/a"), ann.delete("/a")] {
        ask.if_(&write("({T})")).if_(&write("({T})")).expect(400).await;
    }
    assert!(dav.handler.take_writes().is_empty());
    assert_eq!(dav.roots().await, ["/a", "/c"]);
}

/// L-73: entity tags are told apart as the client wrote them: weak is not strong.
#[tokio::test]
async fn weak_and_strong_entity_tags() {
    for (actual, asked, matches) in [
        ("\"x\"", "\"x\"", true),
        ("\"x\"", "\"X\"", false),
        ("\"x\"", "\"y\"", false),
        ("W/\"x\"", "W/\"x\"", true),
        ("\"\"", "\"\"", true),
        ("\"a]b\"", "\"a]b\"", true),
        ("\"a)b<c>\"", "\"a)b<c>\"", true),
    ] {
        let dav = Dav::new();
        dav.handler.tag("/a", actual);
        dav.handler.tag("/c/m", actual);
        let expected = |holds: bool| if holds { 200 } else { 412 };
        dav.as_("ann").get("/a").if_(&format!("([{asked}])")).expect(expected(matches)).await;
        dav.as_("ann").get("/a").if_(&format!("(Not [{asked}])")).expect(expected(!matches)).await;
        dav.as_("ann").get("/b").if_(&format!("</c/m> ([{asked}])")).expect(expected(matches)).await;
    }
}

/// L-73: a handler without entity tags matches none.
#[tokio::test]
async fn where_there_is_no_entity_tag_none_matches() {
    let dav = Dav::shaped(Shape { etags: false, ..Shape::default() });
    dav.as_("ann").put("/a", "x").if_("([\"x\"])").expect(412).await;
    dav.as_("ann").put("/a", "x").if_("(Not [\"x\"])").expect(204).await;
    dav.as_("ann").get("/c/").if_("([\"x\"])").expect(412).await;
}

/// L-12, L-71: the questions inside are asked as the caller, and only those that matter.
#[tokio::test]
async fn entity_tags_are_asked_for_as_the_caller() {
    let dav = Dav::new();
    let etag = dav.handler.etag("/c/m");
    let ask = dav.as_("ann").put("/a", "content").if_(&format!("</c/m> ([{etag}])")).carrying(7_u8);
    ask.header("content-length", "7")
        .header("authorization", "Basic eA==")
        .header("cookie", "s=1")
        .header("range", "bytes=0-1")
        .header("if-match", "*")
        .expect(204)
        .await;
    let seen = dav.handler.take_seen();
    let question = seen.iter().find(|seen| seen.uri.ends_with("/c/m")).expect("a question inside");
    assert_eq!((question.method.as_str(), question.body.len(), question.user), ("HEAD", 0, Some("ann")));
    assert_eq!(
        (&question.headers["authorization"], &question.headers["cookie"]),
        (&"Basic eA==".parse().unwrap(), &"s=1".parse().unwrap())
    );
    for name in ["range", "if-match", "if-none-match", "content-length", "expect"] {
        assert!(!question.headers.contains_key(name), "{name} is about the PUT");
    }
    assert!(seen.last().unwrap().headers.contains_key("if-match"), "which has it");
    // A header that asks for no entity tag costs no question.
    dav.as_("ann").put("/a", "x").if_("(Not <DAV:no-lock>)").expect(204).await;
    assert_eq!(dav.handler.take_seen().len(), 1);
}

/// L-40, L-74: what the caller may not see has no state for it; that the handler fails is no truth either.
#[tokio::test]
async fn an_entity_tag_that_the_handler_will_not_tell_matches_nothing() {
    for fault in [Fault::Status(403), Fault::Status(401), Fault::Status(404), Fault::Status(500)] {
        let dav = Dav::new();
        let etag = dav.handler.etag("/c/m");
        let failed_hard = matches!(fault, Fault::Status(500));
        dav.handler.fault("HEAD", "/c/m", fault.clone());
        dav.handler.fault("PROPFIND", "/c/m", fault);
        let answer = dav.as_("ann").put("/a", "x").if_(&format!("</c/m> ([{etag}])")).await;
        assert!(answer.status == 412 || (failed_hard && answer.status.is_server_error()), "{answer:?}");
        assert_eq!(dav.handler.content("/a").as_deref(), Some("/a"));
    }
    let dav = Dav::new();
    dav.handler.fault("HEAD", "/c/m", Fault::Error);
    dav.handler.fault("PROPFIND", "/c/m", Fault::Error);
    let sent = dav.as_("ann").put("/a", "x").if_("</c/m> ([\"x\"])").sending().await;
    assert!(sent.is_err() || sent.is_ok_and(|answer| answer.status == 412 || answer.status.is_server_error()));
    dav.assert_nothing_left(&[], "failed").await;
}

/// L-72, G10: conditions and tokens are limited.
#[tokio::test]
async fn too_many_conditions_are_400() {
    let dav = Dav::new();
    let many = "(Not <DAV:no-lock>) ".repeat(300);
    dav.as_("ann").put("/a", "x").if_(&many).expect(400).await;
    let etags: String = (0..300).map(|at| format!("</x{at}> ([\"x\"]) ")).collect();
    dav.as_("ann").put("/a", "x").if_(&etags).expect(400).await;
    assert!(dav.handler.take_seen().is_empty());
}

/// L-73, L-76.
#[tokio::test]
async fn a_token_matches_every_resource_in_the_scope_of_its_lock_and_no_other() {
    let dav = Dav::new();
    let deep = dav.as_("ann").locked("/c/", "infinity").await;
    let shallow = dav.as_("ann").locked("/e/", "0").await;
    dav.handler.plant(["/e/m"]);
    for (uri, token, matches) in [
        ("/c", &deep, true),
        ("/c/", &deep, true),
        ("/c/m", &deep, true),
        ("/c/d/n", &deep, true),
        ("/a", &deep, false),
        ("/", &deep, false),
        ("/e", &shallow, true),
        ("/e/m", &shallow, false),
    ] {
        let expected = if matches { 200 } else { 412 };
        dav.as_("ann").get(uri).if_(&format!("(<{token}>)")).expect(expected).await;
        dav.as_("ann").get("/b").if_(&format!("<{uri}> (<{token}>)")).expect(expected).await;
        dav.as_("ann").get("/b").if_(&format!("<{uri}> (Not <{token}>)")).expect(if matches { 412 } else { 200 }).await;
    }
}

/// L-27, L-71: the `cond_put` tests of the neutral suite, in one place.
#[tokio::test]
async fn the_conditional_puts_of_litmus() {
    let (dav, write) = site(Shape::default()).await;
    let ann = dav.as_("ann");
    for (form, status) in [
        ("(<DAV:no-lock> {E})", 412),
        ("({T}) (Not <DAV:no-lock>)", 204),
        ("({X}) (Not <DAV:no-lock>)", 423),
        ("({T} [\"wrong\"]) (Not <DAV:no-lock> [\"wrong\"])", 412),
    ] {
        ann.put("/a", "x").if_(&write(form)).expect(status).await;
    }
    let etag = dav.handler.etag("/a");
    let (dav, write) = site(Shape::default()).await;
    assert_ne!(dav.handler.etag("/a"), etag);
    dav.as_("ann").put("/a", "x").if_(&write("({T} {E}) (Not <DAV:no-lock> {E})")).expect(204).await;
    dav.as_("ann").put("/b", "x").if_("(<DAV:no-lock>)").expect(412).await;
}

/// `If-Match` and its kin are the handler's own.
#[tokio::test]
async fn other_conditional_headers_reach_the_handler() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/a", "0").await;
    dav.as_("ann").put("/a", "x").tokens([&token]).header("if-match", "\"stale\"").expect(412).await;
    dav.as_("ann").put("/a", "x").tokens([&token]).header("if-none-match", "*").expect(412).await;
    dav.as_("ann").put("/a", "x").tokens([&token]).header("if-match", &dav.handler.etag("/a")).expect(204).await;
    dav.as_("ann").get("/a").header("if-none-match", &dav.handler.etag("/a")).expect(304).await;
}

/// A `Lock-Token` on a write is a condition of the core's: live, the caller's, and about what is written.
#[tokio::test]
async fn a_lock_token_header_on_a_write_submits_its_token() {
    let (dav, _) = site(Shape::default()).await;
    let other = dav.as_("ann").locked("/b", "0").await;
    let token = dav.as_("ann").lock("/e/").depth("0").expect(200).await.token();
    dav.as_("ann").proppatch("/e/").header("lock-token", &format!("<{token}>")).expect(207).await;
    dav.as_("ann").proppatch("/e/").header("lock-token", &format!("<{other}>")).expect(412).await;
    dav.as_("bob").proppatch("/e/").header("lock-token", &format!("<{token}>")).expect(412).await;
}

/// L-71: the tag of a `COPY`'s list is not the destination unless it says so.
#[tokio::test]
async fn untagged_lists_of_a_copy_are_about_its_source() {
    let (dav, write) = site(Shape::default()).await;
    let ann = dav.as_("ann");
    ann.copy("/a", "/e/x").if_(&write("({T} {E})")).expect(201).await;
    ann.copy("/b", "/a").if_(&write("({T})")).expect(412).await;
    ann.copy("/b", "/a").if_(&write("</a> ({T})")).expect(204).await;
    ann.copy("/b", "/c/new").if_(&write("</c/> ({C})")).expect(201).await;
}
