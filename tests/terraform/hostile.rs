//! What no Terraform sends: it is refused, and locks and changes nothing.

use serde_json::{Value, json};

use crate::http::{Backend, info};

#[test]
fn a_body_that_is_no_lock_info_is_400_and_locks_nothing() {
    let backend = Backend::over("memory:");
    let bodies: [&[u8]; 25] = [
        b" ",
        b"null",
        b"[]",
        b"\"one\"",
        b"{",
        b"{}",
        b"{\"ID\":\"\"}",
        b"{\"ID\":null}",
        b"{\"ID\":7}",
        b"{\"ID\":[\"a\"]}",
        b"{\"ID\":{\"ID\":\"a\"}}",
        b"{\"ID\":\"a\",\"ID\":\"b\"}",
        b"{\"ID\":\"a\",\"id\":\"b\"}",
        b"{\"ID\":\"a\",\"Id\":\"a\"}",
        b"{\"ID\":\"a\",\"Who\":\"x\",\"who\":\"y\"}",
        b"{\"ID\":\"a\",\"Who\":7}",
        b"{\"ID\":\"a\",\"Created\":1700000000}",
        b"{\"ID\":\"a\\u0000\"}",
        b"{\"ID\":\"a\\r\\nX: y\"}",
        b"{\"ID\":\"\\ud800\"}",
        b"{\"ID\":\"\xff\"}",
        b"\xef\xbb\xbf{\"ID\":\"a\"}",
        b"{\"ID\":\"a\"} {\"ID\":\"b\"}",
        b"{\"ID\":NaN}",
        b"<ID>a</ID>",
    ];
    for body in bodies.into_iter().chain([format!("{{\"ID\":\"{}\"}}", "a".repeat(129)).as_bytes()]) {
        for method in ["LOCK", "PUT", "UNLOCK", "DELETE"] {
            backend.ask("ann", method, "/state/demo/lock", body).refusal(400, "bad_request");
        }
        assert_eq!(backend.holder("demo"), None, "{}", String::from_utf8_lossy(body));
    }
    // A broken one is not the empty one that means force.
    assert_eq!(backend.lock("ann", "demo", "one").status, 200);
    for body in [" ", "null", "{}"] {
        backend.ask("admin", "UNLOCK", "/state/demo/lock", body).refusal(400, "bad_request");
    }
    let other = [("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
    for method in ["LOCK", "UNLOCK"] {
        backend.ask_with("ann", method, "/state/demo/lock", &other, info("one")).refusal(400, "bad_request");
    }
    assert_eq!(backend.holder("demo").as_deref(), Some("one"));
}

#[test]
fn a_lock_info_of_a_megabyte_is_413() {
    let backend = Backend::over("memory:");
    let body = json!({ "ID": "one", "Info": "x".repeat(1_000_000) }).to_string();
    for method in ["LOCK", "UNLOCK"] {
        backend.ask("ann", method, "/state/demo/lock", &body).refusal(413, "content_too_large");
    }
    assert_eq!(backend.holder("demo"), None);
}

#[test]
fn odd_members_do_no_harm() {
    let backend = Backend::over("memory:");
    // Lower case, members of somebody else's, a time that is none; an ID that a query has to spell.
    let id = "a+b & c=d/é%41\"\\";
    let body = json!({ "id": id, "CREATED": "yesterday", "who": "\u{202e}\"<b>", "mine": [1, {}], "Path": "../../etc" });
    assert_eq!(backend.ask("ann", "LOCK", "/state/demo/lock", body.to_string()).status, 200);
    assert_eq!(backend.lock("ben", "demo", "two").holder(), id, "and no Created, which would have to be one");
    let query: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    assert_eq!(backend.save("ann", "demo", &query, "{}").status, 200);
    assert_eq!(backend.ask("ann", "UNLOCK", "/state/demo/lock", json!({ "ID": id }).to_string()).status, 200);
    assert_eq!(backend.holder("demo"), None);

    let deep = format!("{{\"x\":{}{},\"ID\":\"deep\"}}", "[".repeat(30_000), "]".repeat(30_000));
    assert_eq!(backend.ask("ann", "LOCK", "/state/demo/lock", deep).status, 200);
    assert_eq!(backend.holder("demo").as_deref(), Some("deep"));
}

#[test]
fn a_lock_info_that_is_longer_than_a_client_ref_is_cut_short_but_for_its_id() {
    let backend = Backend::over("memory:");
    let id = "i".repeat(128);
    for (number, text) in ["x".repeat(9_000), "é".repeat(4_000), "\u{1}".repeat(900), "\"".repeat(3_000)].iter().enumerate()
    {
        let state = format!("long-{number}");
        let body = json!({
            "ID": id, "Operation": text, "Info": text, "Who": format!("ann@home {text}"), "Version": "1.11.4",
            "Created": "2026-11-21T03:08:58.521279637Z", "Path": text,
        });
        let lock = format!("/state/{state}/lock");
        for _ in 0..2 {
            assert_eq!(backend.ask("ann", "LOCK", &lock, body.to_string()).status, 200);
        }
        let refused = backend.lock("ben", &state, "two");
        assert_eq!(refused.holder(), id);
        let body = refused.refusal(423, "locked");
        let kept = body["locks"][0]["client_ref"].as_str().expect("its lock info");
        assert!(kept.len() <= 1024 && body["Who"].as_str().is_some_and(|who| who.starts_with("ann@home")), "{body}");
        assert_eq!((&body["Version"], serde_json::from_str::<Value>(kept).is_ok()), (&"1.11.4".into(), true), "{body}");
        assert_eq!(backend.save("ann", &state, &id, "{}").status, 200);
        assert_eq!(backend.ask("ann", "UNLOCK", &lock, json!({ "ID": id }).to_string()).status, 200);
    }
}

#[test]
fn a_state_has_a_name_that_nothing_reads_in_two_ways() {
    let backend = Backend::over("memory:");
    let long = "a".repeat(129);
    for name in [
        "..",
        ".",
        ".hidden",
        "%2e%2e",
        "..%2fdemo",
        "%2e%2e%2fdemo",
        "demo%2f..%2fother",
        "demo%2Flock",
        "a%5Cb",
        "a%00b",
        "a%20b",
        "%C3%A9",
        "%FF",
        "a%252e",
        "demo;v=1",
        "~root",
        "a:b",
        &long,
    ] {
        for (method, target) in [
            ("LOCK", format!("/state/{name}/lock")),
            ("LOCK", format!("/state/{name}")),
            ("UNLOCK", format!("/state/{name}/lock")),
            ("GET", format!("/state/{name}")),
            ("POST", format!("/state/{name}?ID=one")),
            ("DELETE", format!("/state/{name}?ID=one")),
        ] {
            let status = backend.ask("admin", method, &target, info("one")).status;
            assert!([400, 404, 412].contains(&status), "{method} {target}: {status}");
        }
    }
    for path in
        ["/state/", "/state", "/state//demo", "/state/demo/", "/state/demo/lock/", "/state/demo/lock/more", "//state/demo"]
    {
        for method in ["LOCK", "POST"] {
            assert_eq!(backend.ask("ann", method, path, info("one")).status, 404, "{method} {path}");
        }
    }
    let listed = backend.ask("admin", "GET", "/locks", "");
    assert_eq!(listed.json()["locks"], json!([]), "nothing was locked");
}

#[test]
fn nobody_gets_in_without_a_name() {
    let backend = Backend::over("memory:");
    for user in ["", "line\nbreak"] {
        for (method, target) in [
            ("LOCK", "/state/demo/lock"),
            ("UNLOCK", "/state/demo"),
            ("GET", "/state/demo"),
            ("POST", "/state/demo?ID=a"),
            ("GET", "/locks"),
        ] {
            assert_eq!(backend.ask(user, method, target, info("a")).status, 401, "{user:?} {method}");
        }
    }
    assert_eq!(backend.holder("demo"), None);
}

#[test]
fn nobody_says_at_the_endpoint_to_be_an_apply() {
    let backend = Backend::over("memory:");
    let forged = json!({"kind": "terraform", "client_ref": info("one")}).to_string();
    let json = [("content-type", "application/json")];
    let answer = backend.ask_with("ben", "PUT", "/locks/state/demo", &json, forged);
    answer.refusal(403, "forbidden");
    assert_eq!(backend.lock("ann", "demo", "one").status, 200);
}
