//! Random requests, half of them nearly right: nothing panics, nothing is the server's fault, and what is refused changes
//! nothing.

use std::cell::Cell;

use http::Request;
use proptest::{prelude::*, sample::select, test_runner::TestRunner};

use tower_lock::{
    Access, Action, AuthorizeAsk,
    locks::{Authorizer, DefaultAuthorizer},
};

use crate::kit::{Ask, Site, ask};

const TOKEN: &str = "urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6";
const ID: &str = "0e8ba3a5-2d37-4c53-9b11-4d0f0f2e9c11";

fn value() -> impl Strategy<Value = String> {
    let words = select(vec![
        "null",
        "true",
        "0",
        "1",
        "-1",
        "1.5",
        "1e400",
        "\"\"",
        "\"0\"",
        "\"infinity\"",
        "\"infinite\"",
        "\"shared\"",
        "\"release\"",
        "\"freeze\"",
        "\"/a\"",
        "\"/a/..\"",
        "\"x\"",
        "[]",
        "{}",
        "[[]]",
        "\"\\u0000\"",
        "[\"/a\", \"/b\"]",
        "{\"name\": \"Ann\"}",
        "{\"id\": \"bob\"}",
        "[{\"resource\": \"/c\"}]",
        "\u{202e}",
        "",
    ])
    .prop_map(str::to_owned);
    let secrets = select(vec![TOKEN, ID]).prop_map(|text| format!("\"{text}\""));
    let lists = select(vec![TOKEN, ID]).prop_map(|text| format!("[\"{text}\", {{\"lock_id\": \"{text}\"}}]"));
    prop_oneof![4 => words, 2 => secrets, 1 => lists, 1 => any::<String>()]
}

fn body() -> impl Strategy<Value = String> {
    let names = select(vec![
        "scope",
        "depth",
        "timeout",
        "kind",
        "owner",
        "reason",
        "client_ref",
        "token",
        "lock_id",
        "replaces",
        "drain",
        "resources",
        "action",
        "to",
        "grace",
        "x",
    ]);
    let actions = select(vec!["release", "break", "transfer", "claim", "check"]).prop_map(|action| format!("\"{action}\""));
    let act = (actions, value(), value(), proptest::option::of(value())).prop_map(|(action, reason, to, id)| {
        let id = id.map(|id| format!(", \"lock_id\": {id}")).unwrap_or_default();
        match &*action {
            "\"break\"" => format!("{{\"action\": {action}, \"reason\": {reason}, \"grace\": {to}{id}}}"),
            "\"transfer\"" => format!("{{\"action\": {action}, \"reason\": {reason}, \"to\": {to}{id}}}"),
            "\"check\"" => format!("{{\"action\": {action}, \"resources\": [{reason}, {to}]}}"),
            "\"claim\"" => format!("{{\"action\": {action}, \"timeout\": {to}{id}}}"),
            _ => format!("{{\"action\": {action}, \"token\": {to}}}"),
        }
    });
    let object = proptest::collection::vec((names, value()), 0..4).prop_map(|fields| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        format!("{{{}}}", fields.join(", "))
    });
    prop_oneof![6 => object, 3 => act, 1 => Just(TOKEN.to_owned()), 1 => Just(String::new()), 1 => any::<String>()]
}

fn uri() -> impl Strategy<Value = String> {
    let paths = select(vec!["/", "/a", "/a/b", "//a", "/a/../b", "/%2e%2e", "/%", "/%FF", "/held", "/a%00", "*"]);
    let queries = select(vec![
        String::new(),
        "?resource=/".to_owned(),
        "?resource=/a%2520b".to_owned(),
        "?resource=%00".to_owned(),
        "?resource=/held&resource=/a".to_owned(),
        format!("?id={ID}"),
        "?limit=1&older_than=0&prefix=/a".to_owned(),
        "?cursor=%FF%00".to_owned(),
        format!("?cursor={ID}/"),
        "?&&==&%".to_owned(),
    ]);
    (paths, queries).prop_map(|(path, query)| if path == "*" { path.to_owned() } else { format!("{path}{query}") })
}

fn request() -> impl Strategy<Value = Request<String>> {
    let methods =
        select(vec!["GET", "HEAD", "PUT", "PATCH", "DELETE", "POST", "OPTIONS", "LOCK", "X"]).prop_map(str::to_owned);
    let media = prop_oneof![
        6 => Just("application/json".to_owned()),
        2 => Just("text/plain".to_owned()),
        1 => Just(String::new()),
        1 => "[ -~]{1,20}",
    ];
    let raw = proptest::collection::vec(
        prop_oneof![Just(b'<'), Just(b'('), Just(b')'), Just(b'>'), 0x20..=0x7e_u8, 0x80..=0xff_u8],
        0..24,
    );
    let held = prop_oneof![Just(format!("(<{TOKEN}>)").into_bytes()), Just(format!("<{TOKEN}>").into_bytes()), raw];
    let names = select(vec!["if", "lock-token", "if-none-match", "accept", "content-length", "content-encoding"]);
    let headers = proptest::collection::vec((names, held), 0..2);
    (methods, uri(), media, body(), headers).prop_map(|(method, uri, media, body, headers)| {
        let asked = ask(&method, &uri).user("ann").body(&media, &body);
        headers.into_iter().fold(asked, |asked, (name, value)| asked.bytes(name, &value)).0
    })
}

#[test]
fn random_requests_do_no_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (done, refused) = (Cell::new(0_usize), Cell::new(0_usize));
    let site = Site::with(|locks| {
        locks.authorizer(|ask: &AuthorizeAsk<'_>| match ask.action {
            Action::Break | Action::Transfer => Access::Allowed,
            _ => DefaultAuthorizer.authorize(ask),
        })
    });
    runtime.block_on(site.held("ann", "/held"));
    let config = ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&request(), |request| {
        runtime.block_on(async {
            let before = site.state().await;
            let answer = site.send(Ask(request)).await;
            prop_assert!(answer.status.as_u16() < 500, "{}", answer.text);
            if answer.status.is_client_error() {
                prop_assert_eq!(site.state().await, before, "{}", answer.text);
                refused.set(refused.get() + 1);
            } else {
                done.set(done.get() + 1);
            }
            Ok(())
        })
    });
    outcome.unwrap();
    // Enough of both kinds, or the test shows nothing.
    assert!(done.get() > 200 && refused.get() > 200, "{} done, {} refused", done.get(), refused.get());
}
