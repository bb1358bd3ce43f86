//! LOCK that makes a lock on a resource that is there: what it reads, what it grants, what it refuses, what it answers.

use std::collections::HashSet;

use tower_lock::LockToken;

use super::{
    kit::{Dav, EXCLUSIVE, SHARED},
    xml::{Active, Xml},
};

fn lockinfo(inside: &str) -> String {
    format!("<D:lockinfo xmlns:D=\"DAV:\">{inside}</D:lockinfo>")
}

const SCOPE: &str = "<D:lockscope><D:exclusive/></D:lockscope>";
const TYPE: &str = "<D:locktype><D:write/></D:locktype>";

/// L-13, L-31, L-50, L-54, L-95, L-96.
#[tokio::test]
async fn a_granted_lock_is_told_in_the_lock_token_header_and_in_full_in_the_body() {
    let dav = Dav::new();
    let body = lockinfo(&format!("{SCOPE}{TYPE}<D:owner>Ann</D:owner>"));
    let answer = dav.as_("ann").lock("/a").body(&body).depth("0").timeout("Second-600").expect(200).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.header("content-type").starts_with("application/xml"));
    let active = Active::only(&answer.xml());
    assert_eq!((active.scope.as_str(), active.depth.as_str(), active.root.as_str()), ("exclusive", "0", "/a"));
    assert_eq!(active.timeout.as_deref(), Some("Second-600"));
    assert_eq!(active.token, Some(answer.token()));
    assert_eq!(active.owner.unwrap().text, "Ann");
    let answer = dav.as_("ann").share("/c/").expect(200).await;
    let active = Active::only(&answer.xml());
    assert_eq!((active.scope.as_str(), active.depth.as_str(), active.root.as_str()), ("shared", "infinity", "/c/"));
    // Who gives none is shown by the name that the authentication knows.
    assert!(active.owner.is_none_or(|owner| owner.text == "ann"));
    assert_eq!(dav.roots().await, ["/a", "/c"]);
    assert!(dav.handler.take_writes().is_empty(), "nothing that is there is written");
}

/// L-41, L-96.
#[tokio::test]
async fn lockroot_is_the_url_that_was_locked_encoded_as_a_path() {
    for (locked, root) in [
        ("/c", "/c"),
        ("/c/", "/c/"),
        ("/c/d/", "/c/d/"),
        ("/e/x%20y", "/e/x%20y"),
        ("http://dav.example/a", "/a"),
        ("/a?version=2", "/a"),
        ("/e/%C3%BC", "/e/%C3%BC"),
        ("/e/a%26b%3C", "/e/a%26b%3C"),
    ] {
        let dav = Dav::new();
        let answer = dav.as_("ann").lock(locked).await;
        let found = Active::only(&answer.xml()).root;
        let decoded = |path: &str| percent_encoding::percent_decode_str(path).decode_utf8().unwrap().into_owned();
        assert_eq!(decoded(&found), decoded(root), "{locked}");
        assert!(found.is_ascii() && !found.contains([' ', '<']), "{found}");
    }
}

/// L-05, L-104.
#[tokio::test]
async fn every_lock_has_a_token_of_its_own_that_nobody_can_guess() {
    let dav = Dav::new();
    let mut tokens = HashSet::new();
    for at in 0..50 {
        let answer = dav.as_("ann").share("/a").timeout(&format!("Second-{}", 60 + at)).expect(200).await;
        let token = answer.token();
        assert!(token.parse::<LockToken>().is_ok() && token.starts_with("urn:uuid:"), "{token}");
        // RFC 9562: random, or of the maker's own; never from a time and a network address.
        assert!(["4", "8"].contains(&&token[23..24]), "{token}");
        assert!(tokens.insert(token));
    }
    // Nor is any of them in what others can see of the locks.
    let seen = dav.as_("bob").propfind("/a", "0").expect(207).await;
    for token in &tokens {
        assert!(!seen.text.contains(&token[9..]), "{}", seen.text);
    }
}

/// L-02, L-08, L-25, L-53, L-55, L-90.
#[tokio::test]
async fn locks_that_overlap_live_together_only_when_both_are_shared() {
    for (first, first_depth, second, second_depth, overlap) in [
        ("/a", "0", "/a", "0", true),
        ("/a", "0", "/a", "infinity", true),
        ("/c", "infinity", "/c/m", "0", true),
        ("/c/", "infinity", "/c/d/n", "0", true),
        ("/c/m", "0", "/c", "infinity", true),
        ("/c/d/n", "0", "/c/", "infinity", true),
        ("/c", "0", "/c/m", "0", false),
        ("/c/m", "0", "/c", "0", false),
        ("/c/d", "infinity", "/c/m", "infinity", false),
        ("/a", "infinity", "/b", "infinity", false),
    ] {
        for (one, other) in [(EXCLUSIVE, EXCLUSIVE), (EXCLUSIVE, SHARED), (SHARED, EXCLUSIVE), (SHARED, SHARED)] {
            for user in ["ann", "bob"] {
                let dav = Dav::new();
                dav.as_("ann").ask("LOCK", first).body(one).depth(first_depth).expect(200).await;
                let answer = dav.as_(user).ask("LOCK", second).body(other).depth(second_depth).await;
                let what = format!("{first} {first_depth} {one}, {second} {second_depth} {other}, {user}");
                if overlap && (one == EXCLUSIVE || other == EXCLUSIVE) {
                    assert_eq!(answer.status, 423, "{what}");
                    assert_eq!(answer.blocked_by("no-conflicting-lock"), [first], "{what}");
                    assert_eq!(dav.state().await.len(), 1, "{what}");
                } else {
                    assert_eq!(answer.status, 200, "{what}: {answer:?}");
                    let locks = dav.state().await;
                    assert_eq!(locks.len(), 2, "{what}");
                    assert_ne!(locks[0].id(), locks[1].id());
                }
            }
        }
    }
}

/// L-02, L-55: nor does the holder's own token let it lock twice.
#[tokio::test]
async fn an_exclusive_lock_stands_in_the_way_of_its_own_holder_too() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/c/", "infinity").await;
    for (uri, scope) in [("/c/", EXCLUSIVE), ("/c/m", EXCLUSIVE), ("/c/m", SHARED)] {
        let answer = dav.as_("ann").ask("LOCK", uri).body(scope).tokens([&token]).expect(423).await;
        assert_eq!(answer.blocked_by("no-conflicting-lock"), ["/c/"]);
    }
}

/// L-02: all of one lock or nothing of it, and every member that is in the way is named.
#[tokio::test]
async fn an_infinite_lock_over_locked_members_names_them_all_and_locks_nothing() {
    let dav = Dav::new();
    dav.as_("ann").locked("/c/m", "0").await;
    dav.as_("bob").locked("/c/d/n", "0").await;
    let answer = dav.as_("cid").lock("/c/").expect(423).await;
    let mut blockers = answer.blocked_by("no-conflicting-lock");
    blockers.sort();
    assert_eq!(blockers, ["/c/d/n", "/c/m"]);
    dav.as_("cid").put("/c/new", "x").expect(201).await;
}

/// L-02.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_parallel_locks_one_wins() {
    for round in 0..20 {
        let dav = Dav::new();
        let uris = if round % 2 == 0 { ["/a"; 8] } else { ["/c", "/c/m", "/c", "/c", "/c/", "/c", "/c", "/c"] };
        let asks = uris.map(|uri| dav.as_("ann").lock(uri).spawn());
        let mut statuses = Vec::new();
        for ask in asks {
            statuses.push(ask.await.unwrap().status.as_u16());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 423, 423, 423, 423, 423, 423, 423]);
        assert_eq!(dav.state().await.len(), 1);
    }
}

/// L-53.
#[tokio::test]
async fn depth_is_zero_or_infinity_and_infinity_unless_said() {
    for (depth, expected) in
        [(None, "infinity"), (Some("0"), "0"), (Some("infinity"), "infinity"), (Some("Infinity"), "infinity")]
    {
        let dav = Dav::new();
        let ask = dav.as_("ann").lock("/c/");
        let answer = match depth {
            Some(depth) => ask.depth(depth).expect(200).await,
            None => ask.expect(200).await,
        };
        assert_eq!(Active::only(&answer.xml()).depth, expected);
        let member = dav.as_("bob").put("/c/d/n", "x").await.status;
        assert_eq!(member, if expected == "0" { 204 } else { 423 });
    }
    let dav = Dav::new();
    for depth in ["1", "1,noroot", "2", "", "-1", "infinite", "0, 0"] {
        dav.as_("ann").lock("/c/").depth(depth).expect(400).await;
    }
    dav.as_("ann").lock("/c/").depth("0").depth("infinity").expect(400).await;
    assert!(dav.state().await.is_empty());
}

/// L-80, L-98.
#[tokio::test]
async fn of_the_timeouts_the_first_acceptable_one_counts_and_more_than_allowed_is_clamped() {
    for (asked, granted) in [
        ("Second-600", 600),
        ("Infinite", 3600),
        ("Infinite, Second-60", 3600),
        ("Second-4100000000", 3600),
        ("Second-99999999999999999999999", 3600),
        ("Second-0", 300),
        ("Second-0, Second-60", 60),
        ("Extend, Second-60", 60),
        ("Second-, Second--1, Second-1.5, Second-60", 60),
        ("whenever", 300),
        ("", 300),
        ("Second-1", 1),
    ] {
        let dav = Dav::new();
        let answer = dav.as_("ann").lock("/a").timeout(asked).expect(200).await;
        assert_eq!(Active::only(&answer.xml()).timeout, Some(format!("Second-{granted}")), "{asked}");
        let lock = &dav.state().await[0];
        assert_eq!(lock.expires_at().unwrap().since(dav.clock.clock().now()).as_secs(), granted, "{asked}");
    }
    let dav = Dav::new();
    let answer = dav.as_("ann").lock("/a").expect(200).await;
    assert_eq!(Active::only(&answer.xml()).timeout.as_deref(), Some("Second-300"), "without a word");
}

/// L-49, L-97, L-101.
#[tokio::test]
async fn the_owner_comes_back_as_it_was_given() {
    for owner in [
        "<D:owner>Ann</D:owner>",
        "<D:owner/>",
        "<D:owner><D:href>http://ann.example/?a=1&amp;b=2</D:href></D:owner>",
        "<D:owner xml:lang=\"de\">\n  Frau <b xmlns=\"urn:html\" class='x &quot;y&quot;'>Ann</b> &lt;ann@h&gt; \n</D:owner>",
        // A prefix that is bound further out, one that is bound to something else inside, and none.
        "<D:owner><O:who O:kind=\"x\" kind=\"y\">a<D:z/>b<D:z xmlns:D=\"urn:not-dav\"/>c</O:who></D:owner>",
        "<owner xmlns=\"DAV:\"><href>mailto:ann@h</href><plain xmlns=\"\"/></owner>",
        "<D:owner><![CDATA[<not> & markup]]></D:owner>",
        "<D:owner>\u{fc}\u{1f600}&#xA0;&#10;&#9;&#13;</D:owner>",
        "<D:owner><O:a O:v=\"&#10;&#9;&amp;&lt;\"/></D:owner>",
    ] {
        let body = format!("<D:lockinfo xmlns:D=\"DAV:\" xmlns:O=\"urn:o\">{SCOPE}{TYPE}{owner}</D:lockinfo>");
        let given = Xml::parse(&body)["owner"].clone();
        let dav = Dav::new();
        let answer = dav.as_("ann").lock("/a").body(&body).expect(200).await;
        let found = Active::only(&answer.xml()).owner;
        assert_eq!(found.as_ref().unwrap_or(&given), &given, "{owner}: {}", answer.text);
        assert!(
            found.is_some() || (given.children.is_empty() && given.text.is_empty()),
            "only an empty one may go: {owner}"
        );
        let found = dav.as_("ann").propfind("/a", "0").expect(207).await;
        let discovered = found.xml().deep("owner").first().map(|owner| (*owner).clone());
        assert_eq!(discovered.as_ref().unwrap_or(&given), &given, "{owner}: {}", found.text);
        // And through a refresh.
        let refreshed = dav.as_("ann").refresh("/a", &answer.token()).expect(200).await;
        assert_eq!(Active::only(&refreshed.xml()).owner.as_ref().unwrap_or(&given), &given, "{owner}");
    }
}

/// L-97: there is a limit, and past it nothing is locked rather than half an owner kept.
#[tokio::test]
async fn an_owner_past_the_limit_is_refused() {
    let dav = Dav::new();
    let body = |length| lockinfo(&format!("{SCOPE}{TYPE}<D:owner>{}</D:owner>", "x".repeat(length)));
    let answer = dav.as_("ann").lock("/a").body(&body(9 * 1024)).await;
    assert!(answer.status == 400 || answer.status == 413, "{answer:?}");
    assert!(dav.state().await.is_empty());
    dav.as_("ann").lock("/a").body(&body(4 * 1024)).expect(200).await;
}

/// L-101, L-105.
#[tokio::test]
async fn a_lockinfo_without_or_with_an_unknown_scope_or_type_locks_nothing() {
    let dav = Dav::new();
    for (inside, status) in [
        (String::new(), 400),
        (SCOPE.into(), 400),
        (TYPE.into(), 400),
        (format!("<D:lockscope/>{TYPE}"), 400),
        (format!("{SCOPE}<D:locktype/>"), 400),
        (format!("<D:lockscope><D:mine/></D:lockscope>{TYPE}"), 422),
        (format!("<D:lockscope><exclusive xmlns=\"urn:x\"/></D:lockscope>{TYPE}"), 422),
        (format!("{SCOPE}<D:locktype><D:read/></D:locktype>"), 422),
        (format!("<lockscope xmlns=\"urn:x\"><D:exclusive/></lockscope>{TYPE}"), 400),
    ] {
        dav.as_("ann").lock("/a").body(&lockinfo(&inside)).expect(status).await;
    }
    assert!(dav.state().await.is_empty());
    // What is unknown beside is nothing to the layer.
    let odd = format!("<x/>{SCOPE}<y xmlns='urn:y'><D:lockscope><D:shared/></D:lockscope></y>{TYPE}<D:future z='1'/>");
    let answer = dav.as_("ann").lock("/a").body(&lockinfo(&odd)).expect(200).await;
    assert_eq!(Active::only(&answer.xml()).scope, "exclusive");
}

/// L-30, L-49: without a body it is a refresh, and never makes a lock.
#[tokio::test]
async fn a_lock_without_a_body_never_makes_one() {
    let dav = Dav::new();
    let token = dav.as_("ann").locked("/b", "0").await;
    for uri in ["/a", "/e/new", "/nowhere/new"] {
        dav.as_("ann").ask("LOCK", uri).expect(400).await;
        dav.as_("ann").refresh(uri, &token).expect(412).await;
        dav.as_("ann").ask("LOCK", uri).if_("(Not <DAV:no-lock>)").expect(412).await;
    }
    assert_eq!(dav.roots().await, ["/b"]);
    assert!(dav.handler.take_writes().is_empty());
}

/// L-71: `If` of a LOCK with a body is a condition like any other.
#[tokio::test]
async fn a_lock_whose_if_is_false_is_not_granted() {
    let dav = Dav::new();
    dav.as_("ann").lock("/a").if_("([\"stale\"])").expect(412).await;
    dav.as_("ann").lock("/a").if_("(<DAV:no-lock>)").expect(412).await;
    dav.as_("ann").lock("/e/new").if_("([\"stale\"])").expect(412).await;
    assert!(dav.state().await.is_empty() && dav.handler.take_writes().is_empty());
    let etag = dav.handler.etag("/a");
    dav.as_("ann").lock("/a").if_(&format!("([{etag}])")).expect(200).await;
    dav.as_("ann").lock("/e/new").if_("(Not [\"stale\"])").expect(201).await;
}

/// L-16: an expired lock is in nobody's way.
#[tokio::test]
async fn an_expired_lock_is_gone_from_locks_writes_and_properties_at_once() {
    let dav = Dav::new();
    let token = dav.as_("ann").lock("/a").timeout("Second-60").expect(200).await.token();
    dav.clock.advance(std::time::Duration::from_secs(59));
    dav.as_("bob").put("/a", "x").expect(423).await;
    dav.as_("bob").lock("/a").expect(423).await;
    dav.clock.advance(std::time::Duration::from_secs(1));
    dav.as_("bob").put("/a", "x").expect(204).await;
    assert!(dav.as_("ann").propfind("/a", "0").await.xml().deep("activelock").is_empty());
    dav.as_("bob").lock("/a").expect(200).await;
    dav.as_("ann").refresh("/a", &token).expect(412).await;
    dav.as_("ann").put("/a", "x").if_(&format!("(<{token}>)")).expect(412).await;
    dav.as_("ann").unlock("/a", &token).expect(409).await;
}

/// RFC 9110 section 13: a LOCK is conditional as any other request is. `If-None-Match: *` makes and locks in one.
#[tokio::test]
async fn a_lock_heeds_the_conditions_that_every_request_may_have() {
    let dav = Dav::new();
    let etag = dav.handler.etag("/a");
    let ann = dav.as_("ann");
    for (uri, name, value, status) in [
        ("/a", "if-none-match", "*", 412),
        ("/a", "if-none-match", &*etag, 412),
        ("/a", "if-match", "\"other\"", 412),
        ("/e/new", "if-match", "*", 412),
        ("/e/new", "if-match", &*etag, 412),
        ("/a", "if-match", &*etag, 200),
        ("/a", "if-match", "*", 200),
        ("/a", "if-none-match", "\"other\"", 200),
        ("/e/new", "if-none-match", "*", 201),
    ] {
        let answer = ann.lock(uri).depth("0").header(name, value).expect(status).await;
        if status == 412 {
            assert!(
                dav.roots().await.is_empty() && dav.handler.content("/e/new").is_none(),
                "{name}: {value} leaves nothing"
            );
        } else {
            ann.unlock(uri, &answer.token()).expect(204).await;
        }
    }
}
