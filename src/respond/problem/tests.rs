use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*, sample::select};
use uuid::Uuid;

use super::*;
use crate::{
    lock::{
        Claim, Depth, Lock, LockId, LockKind, LockLife, LockParts, LockScope, LockState, LostCause, LostLock, Owner,
        Principal, ResourceKey, Timestamp,
    },
    locks::{Access, Action, AuthorizeAsk, Caller, Locks},
    store::MemoryStore,
};

/// What somebody may have written.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9/ ]{0,30}", "[ -~\"\\\\\r\n\t\u{0}\u{7f}\u{85}ü\u{202e}\u{1f512}]{0,30}", any::<String>()]
}

fn key() -> impl Strategy<Value = ResourceKey<'static>> {
    prop_oneof![
        select(vec!["/", "/a", "/a/b", "/a/b/c"]).prop_map(ResourceKey::from_canonical),
        text().prop_map(|text| ResourceKey::from_canonical(format!("/{text}"))),
    ]
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![any::<u32>().prop_map(|seconds| u64::from(seconds) * 1_000_001), any::<u64>()]
        .prop_map(Timestamp::from_micros)
}

fn principal() -> impl Strategy<Value = Option<Principal>> {
    option::of(select(vec!["ann", "bob"]).prop_map(Principal::new))
}

fn owner() -> impl Strategy<Value = Owner> {
    vec(option::of(text()), 3).prop_map(|mut texts| {
        let mut next = || texts.pop().flatten().map(Arc::from);
        let mut owner = Owner::default();
        (owner.id, owner.name, owner.xml) = (next(), next(), next());
        owner
    })
}

fn parts() -> impl Strategy<Value = LockParts> {
    let kind = prop_oneof![
        select(vec![LockKind::User, LockKind::App, LockKind::Job, LockKind::Freeze]),
        text().prop_map(|text| LockKind::Other(text.into())),
    ];
    let scope = select(vec![LockScope::Exclusive, LockScope::Shared]);
    let depth = select(vec![Depth::Zero, Depth::Infinity]);
    let claim = select(vec![Claim::Made, Claim::Open]);
    let texts = (option::of(text()), option::of(text()));
    (any::<u128>(), key(), scope, depth, kind, principal(), owner(), texts, claim).prop_map(
        |(id, root, scope, depth, kind, principal, owner, (reason, client_ref), claim)| LockParts {
            id: LockId::from_uuid(Uuid::from_u128(id)),
            root,
            scope,
            depth,
            kind,
            principal,
            owner,
            reason: reason.map(Arc::from),
            client_ref: client_ref.map(Arc::from),
            claim,
        },
    )
}

fn lock() -> impl Strategy<Value = Lock> {
    let state = select(vec![LockState::Held, LockState::Pending, LockState::Breaking]);
    let life = (state, time(), option::of(time()), any::<u64>(), any::<bool>(), time());
    (parts(), life).prop_map(|(parts, (state, created_at, expires_at, generation, in_use, seen_at))| {
        let life = LockLife { state, created_at, expires_at, generation, in_use, seen_at };
        Lock::new(Arc::new(parts), life)
    })
}

fn lost() -> impl Strategy<Value = LostLock> {
    let causes = [LostCause::Expired, LostCause::Broken, LostCause::OutOfScope, LostCause::Unknown];
    (
        select(causes.to_vec()),
        option::of(any::<u128>()),
        option::of(key()),
        option::of(time()),
        principal(),
        option::of(text()),
    )
        .prop_map(|(cause, id, root, at, actor, reason)| {
            let mut lost = LostLock::new(cause);
            lost.id = id.map(|id| LockId::from_uuid(Uuid::from_u128(id)));
            (lost.root, lost.at, lost.actor, lost.reason) = (root, at, actor, reason.map(Arc::from));
            lost
        })
}

/// Locks of which the caller may see what their ids say.
fn locks(base: Option<String>) -> Locks {
    let builder = Locks::builder(MemoryStore::new()).authorizer(|ask: &AuthorizeAsk<'_>| {
        let bits = ask.lock.map_or(0, |lock| lock.id().as_uuid().as_u128());
        let three = [Access::Denied, Access::Limited, Access::Allowed, Access::Allowed];
        if ask.action == Action::See { three[(bits & 3) as usize] } else { three[(bits >> 2 & 3) as usize] }
    });
    match base {
        None => builder.build(),
        Some(base) => builder.problem_types(base).build(),
    }
}

fn refusal() -> impl Strategy<Value = (Refusal, Vec<Option<LockView>>)> {
    let codes = vec![
        RefusalCode::Locked,
        RefusalCode::LockLost,
        RefusalCode::LockRequired,
        RefusalCode::WriteInProgress,
        RefusalCode::ProposalConflict,
        RefusalCode::LockQuota,
        RefusalCode::StoreFull,
        RefusalCode::NoSuchLock,
    ];
    let caller = prop_oneof![principal().prop_map(Caller::remote), principal().prop_map(Caller::application)];
    let whom = (caller, option::of(text()));
    (select(codes), whom, option::of(key()), vec(lock(), 0..5), vec(lost(), 0..3), any::<bool>()).prop_map(
        |(code, (caller, base), key, blockers, lost, truncated)| {
            let locks = locks(base);
            let views = blockers.iter().map(|lock| locks.view(&caller, lock)).collect();
            let refusal = match code {
                RefusalCode::Locked => locks.locked(&caller, key.as_ref(), blockers, truncated),
                RefusalCode::LockLost => locks.lock_lost(&caller, key.as_ref(), lost, blockers, truncated),
                code => locks.over_locks(code, &caller, key.as_ref(), blockers, truncated),
            };
            (refusal, views)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_document_is_what_serde_makes_of_a_problem((refusal, views) in refusal()) {
        let problem = Problem::of(&refusal);
        let document = problem.document();
        let body = document.body();
        prop_assert_eq!(std::str::from_utf8(&body).unwrap(), serde_json::to_string(&problem).unwrap());
        let number = |field: &HeaderValue| field.to_str().unwrap().parse::<u64>().unwrap();
        prop_assert_eq!(document.seconds().as_ref().map(number), refusal.retry_after());
        prop_assert_eq!(number(&document.length()), body.len() as u64);
        // What is shown of each lock is what whoever asks for it is shown.
        let views: Vec<LockView> = views.into_iter().flatten().collect();
        prop_assert_eq!(refusal.locks(), views);
    }
}

#[test]
fn a_refusal_that_is_changed_leaves_its_clones_as_they_are() {
    let locks = locks(Some("https://example.org/".to_owned()));
    let refusal = locks.signed(Refusal::bad_request("no")).retry_in(3);
    let before = Problem::of(&refusal).to_json();
    let other = refusal.clone().retry_in(7).about(&ResourceKey::from_canonical("/a"));
    assert_eq!(Problem::of(&refusal).to_json(), before);
    assert_eq!((refusal.retry_after(), refusal.resource()), (Some(3), None));
    assert_eq!((other.retry_after(), other.resource()), (Some(7), Some("/a")));
}
