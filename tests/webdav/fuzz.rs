//! Damaged requests: whatever is sent is answered, not with an error of ours, and leaves nothing behind.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full};

use super::{
    kit::{Client, Dav, EXCLUSIVE, LOCK_PROPS, SET_COLOUR, SHARED},
    model::Dice,
};
use crate::support::User;

const METHODS: &[&str] =
    &["LOCK", "LOCK", "UNLOCK", "PROPFIND", "PROPPATCH", "PUT", "DELETE", "COPY", "MOVE", "MKCOL", "GET", "OPTIONS", "POST"];
const TARGETS: &[&str] = &[
    "/a",
    "/c/",
    "/c/m",
    "/e/new",
    "/nowhere/x",
    "/",
    "//a",
    "/%61",
    "/a%2F..",
    "/%",
    "/%00",
    "/a?b",
    "http://h/a",
    "/..",
    "/%ff",
];
const BODIES: &[&str] =
    &["", EXCLUSIVE, SHARED, LOCK_PROPS, SET_COLOUR, "<D:propfind xmlns:D=\"DAV:\"><D:allprop/></D:propfind>"];
const FIELDS: &[(&str, &[&str])] = &[
    (
        "if",
        &[
            "(<T>)",
            "(<T> [\"v1\"])",
            "</a> (<T>) (Not [W/\"x\"])",
            "(Not <DAV:no-lock>)",
            "<http://h/c/> (<T>) (<U>)",
            "([\"v1\"])",
        ],
    ),
    ("lock-token", &["<T>", "<U>", "T", "<opaquelocktoken:x>"]),
    ("depth", &["0", "1", "infinity", "1,noroot"]),
    ("timeout", &["Second-60", "Infinite, Second-1", "Second-99999999999999999999"]),
    ("destination", &["/e/z", "http://h/c/m", "/c/", "/%2e%2e/a", "//h/a"]),
    ("overwrite", &["F", "T", "f"]),
    ("accept", &["application/json", "text/html", "*/*;q=0", "application/xml;q=0.1, text/plain"]),
    ("content-type", &["application/xml", "text/plain", "application/xml; charset=utf-16"]),
    ("host", &["h", "H:80", "[::1]:8080", "h h"]),
    ("content-length", &["0", "7", "99999999999999999999", "x"]),
];

/// Changes some bytes, drops or repeats a piece.
fn damaged(text: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for _ in 0..dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        match dice.roll(5) {
            0 if at < bytes.len() => bytes[at] = u8::try_from(dice.roll(256)).expect("a byte"),
            1 => drop(bytes.drain(at..(at + dice.roll(9)).min(bytes.len()).max(at))),
            2 => {
                let piece = bytes[at..(at + dice.roll(30)).min(bytes.len()).max(at)].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => bytes.insert(at, *dice.pick(b"<>()[]\"'&;:/%# \t,=!?-\xff\xc3\x00")),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

async fn holder(dav: &Dav) -> (String, String) {
    (dav.as_("ann").locked("/c/", "0").await, dav.as_("ann").locked("/a", "0").await)
}

/// L-58, L-72, L-101, L-102, G10.
#[tokio::test]
async fn no_request_is_answered_with_an_error_of_ours_or_leaves_anything_behind() {
    let mut dice = Dice::new(7);
    let (mut done, mut refused) = (0, 0);
    for _ in 0..40 {
        let dav = Dav::new();
        let (collection, token) = holder(&dav).await;
        for _ in 0..150 {
            let body = dice.pick(BODIES).as_bytes();
            let body = if dice.roll(3) == 0 { damaged(body, &mut dice) } else { body.to_vec() };
            let sound = std::str::from_utf8(&body).is_ok();
            let mut request =
                Request::builder().method(*dice.pick(METHODS)).uri(*dice.pick(TARGETS)).body(Bytes::from(body)).unwrap();
            for (name, values) in FIELDS {
                if dice.roll(3) != 0 {
                    continue;
                }
                let value = dice.pick(values).replace('T', &token).replace('U', &collection);
                let value = if dice.roll(3) == 0 { damaged(value.as_bytes(), &mut dice) } else { value.into_bytes() };
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    request.headers_mut().append(HeaderName::from_static(name), value);
                }
            }
            let user: &'static str = ["ann", "ann", "bob"][dice.roll(3)];
            request.extensions_mut().insert(User(user));
            let what = format!("{request:?}");
            let before = dav.state().await.len();
            let sent = dav.through(request.map(|body| Full::new(body).boxed_unsync()));
            let answer = sent.await.expect("the handler fails at nothing");
            assert!(answer.status.as_u16() < 500, "{what}: {answer:?}");
            let grew = dav.state().await.len() > before;
            assert!(
                !grew || (answer.headers.contains_key("lock-token") && answer.status.is_success()),
                "{what}: {answer:?}"
            );
            assert!(!grew || sound, "{what}: locked by what is no text");
            assert_eq!(dav.memory.stats().in_flight, 0, "{what}");
            if answer.status.is_success() { done += 1 } else { refused += 1 }
        }
        // And the site still works.
        let client: Client = dav.as_("cid");
        let answer = client.put("/fresh", "x").await;
        assert!(answer.status.is_success(), "{answer:?} {:?}", dav.handler.paths());
    }
    assert!(done > 500 && refused > 500, "{done} {refused}");
}
