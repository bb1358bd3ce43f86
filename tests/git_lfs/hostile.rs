//! Whatever is sent: an answer that the client can read, and nothing that is left behind.

use serde_json::{Value, json};

use super::kit::{Client, LFS, exchange, server};

#[test]
fn a_body_that_means_nothing_is_refused_in_words_that_the_client_can_read() {
    let server = server("memory:");
    let ann = Client::new(&server, "paint", "ann");
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let bodies: [(&[u8], u16); 23] = [
        (b"", 400),
        (b"{", 400),
        (b"null", 400),
        (b"[]", 400),
        (b"[\"a.bin\",null]", 400),
        (b"\"a.bin\"", 400),
        (b"{}", 400),
        (b"{\"path\":null}", 400),
        (b"{\"path\":7}", 400),
        (b"{\"path\":[\"a.bin\"]}", 400),
        (b"{\"path\":\"a.bin\"} {}", 400),
        (b"{\"path\":\"a.bin\",}", 400),
        (b"{\"path\":\"a.bin\",\"path\":\"b.bin\"}", 400),
        (b"{\"path\":\"a.bin\",\"ref\":\"refs/heads/main\"}", 400),
        (b"{\"path\":\"a.bin\",\"ref\":{}}", 400),
        (b"{\"path\":\"a.bin\",\"ref\":{\"name\":7}}", 400),
        (b"\xef\xbb\xbf{\"path\":\"a.bin\"}", 400),
        (b"{\"path\":\"\xff.bin\"}", 400),
        (b"{\"path\":\"\\ud800.bin\"}", 400),
        (b"{\"path\":\"a.bin\n\"}", 400),
        (b"path=a.bin", 400),
        (b"{\"path\":NaN}", 400),
        (deep.as_bytes(), 400),
    ];
    for (body, status) in bodies {
        let answer = ann.raw("locks", body);
        let told = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(answer.status, status, "{told}: {answer:?}");
        answer.failure(status);
    }
    let long = json!({ "path": "a.bin", "more": "x".repeat(3 * 1024 * 1024) });
    ann.post("locks", &long).failure(413);
    ann.post("locks", &json!({ "path": "a.bin", "ref": { "name": "r".repeat(2_000) } })).failure(400);
    assert_eq!(ann.list("").locks().0.len(), 0, "none of these has locked anything");

    // What it does not know it leaves alone.
    let granted = ann.post("locks", &json!({ "path": "a.bin", "ref": null, "id": "x", "owner": { "name": "ben" } }));
    assert_eq!((granted.status, &granted.json()["lock"]["owner"]["name"]), (201, &json!("ann")));
    assert_ne!(granted.json()["lock"]["id"], "x");
    let around = format!("{{\"more\":{deep},\"path\":\"a.bin\"}}");
    ann.raw("locks", around.as_bytes()).failure(409);
}

#[test]
fn a_query_or_a_cursor_that_means_nothing_is_refused() {
    let server = server("memory:");
    let ann = Client::new(&server, "paint", "ann");
    let id = ann.locked("a.bin");
    for (query, status) in [
        ("limit=x", 422),
        ("limit=-1", 422),
        ("limit=1.5", 422),
        ("limit=99999999999999999999999", 422),
        ("cursor=x", 422),
        ("cursor=%2Fa.bin", 422),
        ("cursor=00000000-0000-4000-8000-000000000000", 422),
        ("path=%2Fa.bin", 422),
        ("path=..%2Fa.bin", 422),
        ("path=a.bin&path=b.bin", 400),
        ("id=x&id=y", 400),
    ] {
        ann.list(query).failure(status);
    }
    for body in [json!({ "limit": -1 }), json!({ "limit": "7" }), json!({ "cursor": 7 }), json!([])] {
        ann.verify(&body).failure(400);
    }
    ann.verify(&json!({ "cursor": "nonsense" })).failure(422);
    // A cursor says where to go on, and may be anybody's: past the end there is nothing.
    let past = format!("{id}/zzz");
    assert_eq!(ann.verify(&json!({ "cursor": past })).json(), json!({ "ours": [], "theirs": [] }));
    // Octets that are no text become what no path is called.
    assert_eq!(ann.list("path=%ff").locks().0.len(), 0);
    for id in ["x", "%ff", "..", "%2e%2e", "a%00b", "urn:uuid:", &"7".repeat(4_000)] {
        ann.unlock(id, false).failure(404);
    }
    for body in ["{\"force\":\"yes\"}", "{\"force\":1}", "[]", ""] {
        ann.raw(&format!("locks/{id}/unlock"), body.as_bytes()).failure(400);
    }
    assert_eq!(ann.list("").locks().0.len(), 1, "it is still there");
    // Nothing of it need be said.
    assert_eq!(ann.post(&format!("locks/{id}/unlock"), &json!({})).status, 200);
}

#[test]
fn nobody_gets_in_without_a_name_or_into_what_is_not_there() {
    let server = server("memory:");
    let address = server.address();
    let target = "/paint/info/lfs/locks";
    let basic = |text: &[u8]| {
        use base64::prelude::{BASE64_STANDARD, Engine};
        format!("Basic {}", BASE64_STANDARD.encode(text))
    };
    let none = exchange(address, "GET", target, &[], b"");
    none.failure(401);
    assert!(none.header("lfs-authenticate").unwrap().starts_with("Basic "), "{none:?}");
    assert!(none.header("www-authenticate").unwrap().starts_with("Basic "), "{none:?}");
    for credentials in [
        "Basic".to_owned(),
        "Basic !!!".to_owned(),
        "Bearer YW5uOng=".to_owned(),
        basic(b"ann"),
        basic(b":x"),
        basic(b"\xff:x"),
        basic(b"a\nb:x"),
        basic(&[b"a".repeat(101).as_slice(), b":x"].concat()),
    ] {
        exchange(address, "GET", target, &[("Authorization", &credentials)], b"").failure(401);
    }
    let ann = basic(b"ann:x");
    for target in
        ["/", "/paint", "/nothing/info/lfs/locks", "/paint.git.git/info/lfs/locks", "/paint/info/lfs", "/paint/info/lfs/x"]
    {
        exchange(address, "GET", target, &[("Authorization", &ann)], b"").failure(404);
    }
    for method in ["PUT", "DELETE", "PATCH", "LOCK"] {
        exchange(address, method, target, &[("Authorization", &ann)], b"").failure(405);
    }
    // Another site's form sends other types.
    let client = Client::new(&server, "paint", "ann");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"] {
        client.send("POST", "locks", &[("Content-Type", kind)], br#"{"path":"a.bin"}"#).failure(415);
    }
    client.send("POST", "locks", &[], br#"{"path":"a.bin"}"#).failure(415);
    assert_eq!(client.list("").locks().0, [] as [Value; 0]);
    for kind in [LFS, "application/json", "Application/JSON; charset=utf-8"] {
        let path = format!("{{\"path\":\"{}\"}}", kind.replace(['/', '.'], "-"));
        assert_eq!(client.send("POST", "locks", &[("Content-Type", kind)], path.as_bytes()).status, 201, "{kind}");
    }
}

#[test]
fn a_guest_reads_and_changes_nothing() {
    let server = server("memory:");
    let [ann, guest] = ["ann", "guest"].map(|user| Client::new(&server, "paint", user));
    let id = ann.locked("a.bin");
    assert_eq!(guest.list("").locks().0.len(), 1);
    guest.lock("b.bin").failure(403);
    guest.unlock(&id, false).failure(403);
    guest.unlock(&id, true).failure(403);
    guest.verify(&json!({})).failure(403);
    let object = json!({ "oid": "0".repeat(64), "size": 1 });
    guest.post("objects/batch", &json!({ "operation": "upload", "objects": [object] })).failure(403);
    assert_eq!(guest.post("objects/batch", &json!({ "operation": "download", "objects": [object] })).status, 200);
    assert_eq!(guest.send("PUT", &format!("objects/{}", "0".repeat(64)), &[], b"x").status, 403);
}

#[test]
fn a_name_says_nothing_to_the_terminal_of_who_is_told_of_it() {
    let server = server("memory:");
    let [ann, ben] = ["ann", "ben"].map(|user| Client::new(&server, "paint", user));
    let path = "a\u{1b}]0;owned\u{7}\nb.bin is locked by nobody\r\u{9b}2J\u{202e}ä";
    let id = ann.locked(path);
    let told = [ben.lock(path).failure(409), ben.unlock(&id, false).failure(403), ben.may_push(&[path, "b.bin"]).text()];
    for text in told {
        let odd = |letter: char| letter.is_control() || letter == '\u{202e}';
        assert!(!text.trim_end_matches('\n').contains(odd), "{text:?}");
        assert!(
            text.contains("a\\u{1b}]0;owned\\u{7}\\nb.bin is locked by nobody\\r\\u{9b}2J\\u{202e}ä is locked by ann"),
            "{text:?}"
        );
    }
    // Programs are told it as it is.
    assert_eq!(ben.list("").locks().0[0]["path"], path);
}
