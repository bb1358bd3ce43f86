//! `find`: covering, below, by id, by holder; in order, in pages, with hostile keys.

use super::{fixture::Fixture, kit::*};
use crate::{
    lock::{Depth, LockId, LockKind, LockScope, ResourceKey},
    store::{Cursor, LockQuery, LockStore},
};

/// Which locks cover a resource, and which are rooted at or below it.
pub async fn covering_and_below<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let deep = Ask::shared(ANN, "/a").one(&store).await;
    let flat = Ask::new(ANN, "/a", LockScope::Shared, Depth::Zero).one(&store).await;
    let inner = Ask::shared(BOB, "/a/b").one(&store).await;
    let near = Ask::exclusive(BOB, "/ab").one(&store).await;
    let ids = |held: &[&Held]| held.iter().map(|held| held.lock.id()).collect::<Vec<_>>();
    let covering: [(&str, &[&Held]); 5] =
        [("/a", &[&deep, &flat]), ("/a/b/c", &[&deep, &inner]), ("/a/x", &[&deep]), ("/ab/c", &[&near]), ("/", &[])];
    for (path, expected) in covering {
        let found = find(&store, LockQuery::covering(key(path))).await;
        same_ids(&found, ids(expected), &format!("the locks that cover {path}"));
    }
    let below: [(&str, &[&Held]); 5] = [
        ("/", &[&deep, &flat, &inner, &near]),
        ("/a", &[&deep, &flat, &inner]),
        ("/a/b", &[&inner]),
        ("/ab", &[&near]),
        ("/a/b/c", &[]),
    ];
    for (path, expected) in below {
        let found = find(&store, LockQuery::at_or_below(key(path))).await;
        same_ids(&found, ids(expected), &format!("the locks at or below {path}"));
    }
    for lock in [&deep, &flat, &inner, &near] {
        same_ids(&find(&store, LockQuery::id(lock.lock.id())).await, ids(&[lock]), "the lock by its id");
    }
    assert!(find(&store, LockQuery::id(LockId::random())).await.is_empty(), "an unknown id finds nothing");
}

/// Filters: whose, what for, how old; all must fit.
pub async fn filters_narrow_down<F: Fixture>(fixture: &F) {
    let (store, grain) = (fixture.fresh().await, fixture.grain());
    let old = Ask::exclusive(ANN, "/a/1").one(&store).await;
    let job = Ask::exclusive(ANN, "/a/2").kind(LockKind::Job).one(&store).await;
    fixture.advance(grain * 10).await;
    let young = Ask::exclusive(BOB, "/a/3").one(&store).await;
    let nobodys = Ask::exclusive(NOBODY, "/a/4").kind(LockKind::Other("job".to_owned().into())).one(&store).await;
    let (ann, bob, eve) = (principal(ANN), principal(BOB), principal(EVE));
    let all = || LockQuery::at_or_below(key("/a"));
    let cases = [
        ("held by ann", all().held_by(ann.as_ref()), vec![&old, &job]),
        ("held by bob", all().held_by(bob.as_ref()), vec![&young]),
        ("held by eve", all().held_by(eve.as_ref()), vec![]),
        ("held by nobody", all().held_by(None), vec![&nobodys]),
        ("for users", all().kind(&LockKind::User), vec![&old, &young]),
        ("old", all().older_than(grain * 10), vec![&old, &job]),
        ("too old", all().older_than(grain * 1_000), vec![]),
        ("ann's jobs", all().held_by(ann.as_ref()).kind(&LockKind::Job), vec![&job]),
        ("bob's old ones", all().held_by(bob.as_ref()).older_than(grain * 10), vec![]),
        ("covering, ann's", LockQuery::covering(key("/a/3")).held_by(ann.as_ref()), vec![]),
        ("by id, bob's", LockQuery::id(young.lock.id()).held_by(bob.as_ref()), vec![&young]),
        ("by id, not ann's", LockQuery::id(young.lock.id()).held_by(ann.as_ref()), vec![]),
    ];
    for (what, query, expected) in cases {
        let expected: Vec<LockId> = expected.iter().map(|held| held.lock.id()).collect();
        same_ids(&find(&store, query).await, expected, what);
    }
}

/// Pages come in the order of roots and ids, each lock once, also while others come and go.
pub async fn pages_show_each_lock_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let mut locks = Vec::new();
    for at in 0..20 {
        locks.push(Ask::shared(ANN, &format!("/a/{}", at % 5)).one(&store).await.lock);
        locks.push(Ask::shared(ANN, &format!("/a-/{at}")).one(&store).await.lock);
    }
    let order = |lock: &crate::lock::Lock| (lock.root().path().to_owned(), lock.id());
    locks.sort_by_key(order);
    for limit in [1, 3, 7, 39, 40, 41] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let mut query = LockQuery::at_or_below(key("/")).limit(limit);
            query.after = after;
            let page = answer(store.find(&query)).await;
            assert!(page.locks.len() <= limit, "at most {limit} a page (G10)");
            assert!(page.next.is_none() || page.locks.len() == limit, "a page is full unless it is the last");
            seen.extend(page.locks);
            let Some(next) = page.next else { break };
            // A cursor goes through a client and comes back as text.
            after = Some(next.to_string().parse::<Cursor>().expect("a cursor reads back from its text"));
            assert!(seen.len() <= locks.len(), "pages of {limit} come to an end");
        }
        assert_eq!(seen.iter().map(order).collect::<Vec<_>>(), locks.iter().map(order).collect::<Vec<_>>(), "limit {limit}");
    }
    let first = answer(store.find(&LockQuery::at_or_below(key("/")).limit(10))).await;
    let next = first.next.expect("there are more");
    Ask::exclusive(BOB, "/a!/new").one(&store).await;
    let late = Ask::exclusive(BOB, "/z").one(&store).await;
    let rest = answer(store.find(&LockQuery::at_or_below(key("/")).limit(100).after(next))).await;
    assert!(rest.locks.iter().any(|lock| lock.id() == late.lock.id()), "what comes after the cursor is seen");
    assert!(!rest.locks.iter().any(|lock| first.locks.iter().any(|seen| seen.id() == lock.id())), "no lock comes twice");
}

fn hostile() -> Vec<ResourceKey<'static>> {
    let longest = format!("/{}", "k".repeat(ResourceKey::MAX_ROOT - 1));
    let deep = "/d".repeat(ResourceKey::MAX_ROOT / 2);
    let mut paths: Vec<String> = [
        "/'",
        "/\"",
        "/`",
        "/\\",
        "/%00",
        "/%25",
        "/%2500",
        "/*",
        "/?",
        "/[a]",
        "/{a}",
        "/_",
        "/a_",
        "/%25_",
        "/--",
        "/;",
        "/$1",
        "/\u{1}",
        "/\n",
        "/\r\n",
        "/\t",
        "/ ",
        "/a b",
        "/:",
        "/a:b",
        "/|",
        "/#",
        "/~",
        "/.a",
        "/ä",
        "/a\u{308}",
        "/é",
        "/日本/語",
        "/\u{1F512}",
        "/\u{FFFD}",
        "/\u{10FFFF}",
        "/\u{E000}",
        "/A",
        "/a",
        "/ſ",
        "/ß",
        "/İ",
        "/\u{200D}",
        "/nil",
        "/null",
        "/0",
        "/-1",
        "/a'; DROP TABLE locks; --",
        "/{tag}:x",
        "/a,b",
        "/(a)",
        "/^",
        "/+",
        "/=",
        "/&",
        "/<a>",
        "/!",
        "/\u{7F}",
    ]
    .map(str::to_owned)
    .to_vec();
    paths.extend([longest, deep]);
    let mut keys: Vec<ResourceKey<'static>> = paths.into_iter().map(ResourceKey::from_canonical).collect();
    for namespace in ["", "n", "n:", "n/", "n%", "n_", "n'", "/", "日本", "\u{1}", "n\n"] {
        keys.push(key("/a").in_namespace(namespace));
        keys.push(key("/n/a").in_namespace(namespace));
    }
    keys
}

/// Quotes, escapes, wildcards, control characters, long and deep paths, namespaces like prefixes: all are names.
pub async fn hostile_keys_are_only_names<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let keys = hostile();
    let mut locks = Vec::new();
    for root in &keys {
        let ask = Ask::exclusive(ANN, "/x").with(|parts| parts.root = root.clone());
        locks.push(ask.one(&store).await);
    }
    for (root, lock) in keys.iter().zip(&locks) {
        let rule = format!("{root:.60} is a name like any other");
        same_ids(&find(&store, LockQuery::covering(root.borrowed())).await, [lock.lock.id()], &rule);
        same_ids(&find(&store, LockQuery::at_or_below(root.borrowed())).await, [lock.lock.id()], &rule);
        let found = seen(&store, lock).await.unwrap_or_else(|| panic!("{rule}"));
        assert_eq!(found.root(), root, "a key comes back as it went in");
        let below = ResourceKey::from_canonical(format!("{}/x%25'_*", root.path()));
        let below = match root.namespace() {
            Some(namespace) => below.in_namespace(namespace.to_owned()),
            None => below,
        };
        Wr::of(BOB, [crate::lock::Target::write(below.clone())]).blocked(&store, &[lock], &rule).await;
        Wr::of(ANN, [crate::lock::Target::write(below)]).with(lock).admitted(&store, &rule).await;
        Wr::of(BOB, [crate::lock::Target::unlink(root.clone())]).blocked(&store, &[lock], &rule).await;
    }
    for lock in &locks[..locks.len() / 2] {
        lock.end(&store).await;
    }
    let (mut rest, mut after) = (0, None);
    loop {
        let mut query = LockQuery::at_or_below(key("/")).limit(7);
        query.after = after;
        let page = answer(store.find(&query)).await;
        rest += page.locks.len();
        let Some(next) = page.next else { break };
        after = Some(next.to_string().parse().expect("a cursor reads back from its text"));
    }
    let expected = keys[keys.len() / 2..].iter().filter(|key| key.namespace().is_none()).count();
    assert_eq!(rest, expected, "pages over hostile keys show each lock once");
}
