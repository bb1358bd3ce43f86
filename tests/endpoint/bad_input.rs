//! What cannot be read is refused, says what is wrong, and changes nothing.

use serde_json::json;

use crate::kit::{Ask, Site, delete, get, patch, post, put};

/// A site with a lock of Ann's on `/held`, and its token.
async fn site() -> (Site, String) {
    let site = Site::new();
    let token = site.held("ann", "/held").await;
    (site, token)
}

async fn refused_each(cases: Vec<(Ask, u16, &str, &str)>) {
    let (site, _) = site().await;
    let before = site.state().await;
    for (at, (request, status, code, culprit)) in cases.into_iter().enumerate() {
        let shown = format!("case {at}: {} {} {}", request.0.method(), request.0.uri(), request.0.body());
        let answer = site.send(request.user("ann")).await;
        assert_eq!(answer.status, status, "{shown}: {}", answer.text);
        let problem = answer.expect(status, code).json();
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(culprit), "{shown}: `{detail}` does not name `{culprit}`");
        assert_eq!(site.state().await, before, "{shown}");
    }
}

#[tokio::test]
async fn json_that_says_something_else_names_the_field() {
    let acquires = [
        ("{", "not JSON"),
        ("nonsense", "not JSON"),
        (r#"{"scope": "shared",}"#, "not JSON"),
        (r#"{"scope": "shared"} x"#, "not JSON"),
        ("\u{feff}{}", "not JSON"),
        ("[]", "an object"),
        (r#"["exclusive", "0"]"#, "an object"),
        ("null", "an object"),
        ("7", "an object"),
        (r#""text""#, "an object"),
        (r#"{"scop": "shared"}"#, "unknown field `scop`, expected one of `scope`"),
        (r#"{"principal": "bob"}"#, "principal"),
        (r#"{"scope": "shared", "scope": "exclusive"}"#, "duplicate field `scope`"),
        (r#"{"scope": "both"}"#, "scope: "),
        (r#"{"scope": 1}"#, "scope: "),
        (r#"{"depth": 1}"#, "depth: "),
        (r#"{"depth": "1"}"#, "depth: "),
        (r#"{"depth": []}"#, "depth: "),
        (r#"{"timeout": 0}"#, "timeout: "),
        (r#"{"timeout": -1}"#, "timeout: "),
        (r#"{"timeout": 1.5}"#, "timeout: "),
        (r#"{"timeout": 1e300}"#, "timeout: "),
        (r#"{"timeout": 18446744073709551616}"#, "timeout: "),
        (r#"{"timeout": "600"}"#, "timeout: "),
        (r#"{"timeout": "Second-600"}"#, "timeout: "),
        (r#"{"timeout": true}"#, "timeout: "),
        (r#"{"timeout": {}}"#, "timeout: "),
        (r#"{"kind": 5}"#, "kind: "),
        (r#"{"kind": ""}"#, "kind: "),
        (r#"{"owner": "ann"}"#, "owner: "),
        (r#"{"owner": ["ann", "Ann"]}"#, "owner: "),
        (r#"{"owner": {"name": 5}}"#, "owner: name: "),
        (r#"{"owner": {"xml": "<a/>"}}"#, "xml"),
        (r#"{"reason": ["x"]}"#, "reason: "),
        (r#"{"client_ref": false}"#, "client_ref: "),
        (r#"{"token": "guess"}"#, "token: "),
        (r#"{"token": "f81d4fae-7dec-41d0-a765-00a0c91e6bf6"}"#, "token: "),
        (r#"{"token": "urn:uuid:00000000-0000-0000-0000-000000000000"}"#, "token: "),
        (r#"{"token": 7}"#, "token: "),
        (r#"{"lock_id": "7"}"#, "lock_id: "),
        (r#"{"replaces": "urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6"}"#, "replaces: "),
        (r#"{"replaces": ["x"]}"#, "replaces: "),
        (r#"{"replaces": [{}]}"#, "lock_id"),
        (r#"{"replaces": [{"lock_id": "x"}]}"#, "replaces: lock_id: "),
        (r#"{"replaces": [{"lock_id": "f81d4fae-7dec-41d0-a765-00a0c91e6bf6", "reason": 1}]}"#, "reason: "),
        (r#"{"replaces": [["f81d4fae-7dec-41d0-a765-00a0c91e6bf6", "why"]]}"#, "replaces: "),
        (r#"{"drain": -1}"#, "drain: "),
        (r#"{"drain": "5"}"#, "drain: "),
        (r#"{"resources": ["/b"]}"#, "resources: "),
        (r#"{"reason": "\ud800"}"#, "reason: unexpected end of hex escape"),
    ];
    let nested = format!("{{\"reason\": {}", "[".repeat(10_000));
    let mut cases: Vec<_> =
        acquires.into_iter().map(|(body, culprit)| (put("/new").json(body), 400, "bad_request", culprit)).collect();
    cases.push((put("/new").json(&nested), 400, "bad_request", "reason"));
    refused_each(cases).await;
}

#[tokio::test]
async fn texts_and_roots_have_limits() {
    let long = |field: &str, length: usize| json!({field: "x".repeat(length)}).to_string();
    let many: Vec<_> = (0..101).map(|number| format!("/many/{number}")).collect();
    let replaces = vec!["urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6"; 101];
    let owner = json!({"owner": {"name": "x".repeat(8 * 1024)}}).to_string();
    let deep = format!("/{}", "a".repeat(8 * 1024));
    let big = "x".repeat(64 * 1024);
    refused_each(vec![
        (put("/new").json(&long("reason", 8 * 1024 + 1)), 400, "bad_request", "reason"),
        (put("/new").json(&long("client_ref", 1025)), 400, "bad_request", "client_ref"),
        (put("/new").json(&long("kind", 65)), 400, "bad_request", "kind"),
        (put("/new").json(&owner), 400, "bad_request", "owner"),
        (put(&deep), 400, "bad_request", "8192"),
        (post("/").json(&json!({"resources": many}).to_string()), 400, "bad_request", "resources"),
        (put("/new").json(&json!({"replaces": replaces}).to_string()), 400, "bad_request", "replaces"),
        (put("/new").json(&long("reason", 64 * 1024)), 413, "content_too_large", "65536"),
        (post("/held").body("text/plain", &big.repeat(2)), 413, "content_too_large", "65536"),
    ])
    .await;
}

#[tokio::test]
async fn other_bodies_are_refused_too() {
    refused_each(vec![
        (patch("/held").json(r#"{"timeout": 0}"#), 400, "bad_request", "timeout: "),
        (patch("/held").json(r#"{"tiemout": 1}"#), 400, "bad_request", "expected `timeout` or `token`"),
        (patch("/held").json(r#"{"token": "x"}"#), 400, "bad_request", "token: "),
        (patch("/held").json("[]"), 400, "bad_request", "an object"),
        (patch("/held").body("text/plain", "{}"), 415, "unsupported_media_type", "application/json"),
        (patch("/held").body("application/merge-patch+json", "{}"), 415, "unsupported_media_type", "application/json"),
        (put("/new").body("text/plain", "{}"), 415, "unsupported_media_type", "application/json"),
        (put("/new").body("", "{}"), 415, "unsupported_media_type", "application/json"),
        (put("/new").body("application/json/x", "{}"), 415, "unsupported_media_type", "application/json"),
        (put("/new").json("{}").header("content-type", "text/plain"), 415, "unsupported_media_type", "Content-Type"),
        (put("/new").json("{}").header("content-encoding", "gzip"), 415, "unsupported_media_type", "Content-Encoding"),
        (put("/new").bytes("content-type", b"application/\xff").body("", "{}"), 415, "unsupported_media_type", "json"),
        (delete("/held").json(r#"{"timeout": 5}"#), 400, "bad_request", "unknown field `timeout`"),
        (delete("/held").json(r#"{"token": null, "x": 1}"#), 400, "bad_request", "unknown field `x`"),
        (post("/held").json("{}"), 400, "bad_request", "action"),
        (post("/held").json(""), 400, "bad_request", "action"),
        (post("/held").json(r#"{"action": 5}"#), 400, "bad_request", "action: "),
        (post("/held").json(r#"{"action": "release", "reason": "x"}"#), 400, "bad_request", "unknown field `reason`"),
        (post("/held").json(r#"{"action": "release", "action": "x"}"#), 400, "bad_request", "duplicate field `action`"),
        (post("/held").json("urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6"), 400, "bad_request", "not JSON"),
        (post("/held").body("text/plain", "let me go"), 400, "bad_request", "token: "),
        (post("/").json("{}"), 400, "bad_request", "resources: "),
        (post("/").json(r#"{"resources": []}"#), 400, "bad_request", "resources: "),
        (post("/").json(r#"{"resources": "/b"}"#), 400, "bad_request", "resources: "),
        (post("/").json(r#"{"resources": ["b"]}"#), 400, "bad_request", "resources: "),
        (post("/").json(r#"{"resources": [""]}"#), 400, "bad_request", "resources: "),
        (post("/").json(r#"{"resources": ["/b/../c"]}"#), 400, "ambiguous_path", ".."),
        (post("/").json(r#"{"resources": [{"token": null}]}"#), 400, "bad_request", "resource"),
        (post("/").json(r#"{"resources": [{"resource": "/b", "x": 1}]}"#), 400, "bad_request", "unknown field `x`"),
        (post("/").json(r#"{"resources": ["/b", "/b"]}"#), 400, "bad_request", "overlap"),
        (
            post("/").json(r#"{"resources": ["/b"], "token": "urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6"}"#),
            400,
            "bad_request",
            "token: ",
        ),
    ])
    .await;
}

#[tokio::test]
async fn headers_that_say_something_else_are_refused() {
    let none = "urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6";
    let two = format!("(<{none}>) (<urn:uuid:6ba7b810-9dad-41d1-80b4-00c04fd430c8>)");
    let negated = format!("(Not <{none}>)");
    let mut cases = Vec::new();
    for of in [patch as fn(&str) -> Ask, delete] {
        cases.extend([
            (of("/held").bytes("if", b"(<\xff>)"), 400, "bad_request", "If"),
            (of("/held").header("if", ""), 400, "bad_request", "If"),
            (of("/held").header("if", "(<guess>)"), 400, "bad_request", "If"),
            (of("/held").header("if", "(<urn:x>"), 400, "bad_request", "If"),
            (of("/held").holding(none).holding(none), 400, "bad_request", "If"),
            (of("/held").header("if", &two), 400, "bad_request", "several lock tokens"),
            (
                of("/held").holding(none).json(r#"{"token": "urn:uuid:6ba7b810-9dad-41d1-80b4-00c04fd430c8"}"#),
                400,
                "bad_request",
                "several",
            ),
            (of("/held").header("lock-token", "guess"), 400, "bad_request", "Lock-Token"),
            (of("/held").bytes("lock-token", b"<urn:uuid:\xff>"), 400, "bad_request", "Lock-Token"),
            (of("/held").header("lock-token", "<opaquelocktoken:x>"), 400, "bad_request", "Lock-Token"),
            (of("/held").header("lock-token", "<DAV:no-lock>"), 400, "bad_request", "Lock-Token"),
            (of("/held").header("if", "(<DAV:no-lock>)"), 412, "lock_lost", "condition"),
            (of("/held").header("if", "(<opaquelocktoken:x>)"), 412, "lock_lost", "condition"),
            (of("/held").header("if", &negated), 412, "lock_lost", "condition"),
        ]);
    }
    cases.push((patch("/held").holding(none), 412, "lock_lost", "not known"));
    cases.push((put("/new").holding(none), 400, "bad_request", "If"));
    cases.push((put("/new").header("lock-token", &format!("<{none}>")), 400, "bad_request", "Lock-Token"));
    refused_each(cases).await;
}

#[tokio::test]
async fn paths_and_parameters_that_say_something_else_are_refused() {
    refused_each(vec![
        (put("/../x"), 400, "ambiguous_path", ".."),
        (put("/a/%2e%2E/x"), 400, "ambiguous_path", ".."),
        (get("/a/..%2fx"), 400, "ambiguous_path", ".."),
        (delete("/held/.."), 400, "ambiguous_path", ".."),
        (put("/?resource=/a/../b"), 400, "ambiguous_path", ".."),
        (put("/?resource=b"), 400, "bad_request", "resource"),
        (put("/?resource="), 400, "bad_request", "resource"),
        (put("/?resource=/a&resource=/b"), 400, "bad_request", "resource"),
        (delete("/?id=7"), 400, "bad_request", "id"),
        (delete("/?id=f81d4fae-7dec-41d0-a765-00a0c91e6bf6"), 404, "no_such_lock", "id"),
        (get("/?limit=0"), 400, "bad_request", "limit"),
        (get("/?limit=-1"), 400, "bad_request", "limit"),
        (get("/?limit=%2B1"), 400, "bad_request", "limit"),
        (get("/?limit=ten"), 400, "bad_request", "limit"),
        (get("/?limit=1&limit=2"), 400, "bad_request", "limit"),
        (get("/?older_than=99999999999999999999"), 400, "bad_request", "older_than"),
        (get("/?older_than="), 400, "bad_request", "older_than"),
        (get("/?cursor=nonsense"), 400, "bad_request", "cursor"),
        (get("/?cursor=%FF"), 400, "bad_request", "cursor"),
        (get("/?prefix=docs"), 400, "bad_request", "prefix"),
        (get("/?prefix=/a/.."), 400, "ambiguous_path", ".."),
    ])
    .await;
}

#[tokio::test]
async fn a_malformed_secret_is_not_repeated() {
    let (site, token) = site().await;
    let nearly = &token[..token.len() - 1];
    let body = json!({"token": nearly}).to_string();
    for request in [
        patch("/held").json(&body),
        put("/new").json(&body),
        post("/held").body("text/plain", nearly),
        patch("/held").header("lock-token", nearly),
        patch("/held").holding(nearly),
    ] {
        let answer = site.send(request.user("ann")).await;
        assert!(answer.status.is_client_error());
        assert!(!answer.text.contains(&token[9..20]), "{}", answer.text);
    }
}
