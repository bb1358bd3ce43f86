//! The hub from Rust: acquiring, holding, refreshing and releasing without HTTP, and what becomes of callers who leave.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tower_lock::{
    Caller, Depth, Limits, LockId, LockKind, LockRequest, LockScope, LockStore, LockToken, Locks, MemoryStore, Owner,
    Principal, RefusalCode, ResourceKey,
    lock::{Gone, LostCause, Target},
    request::Conditions,
    store::{
        Acquire, Acquired, FinalTerm, LockPage, LockQuery, ManualClock, Refresh, Refreshed, Release, Released, StoreError,
        StoreErrorKind, StoreFuture, Verdict, Watch, Write, WriteId,
    },
};

const MINUTE: Duration = Duration::from_secs(60);

fn on(clock: &ManualClock) -> Locks {
    Locks::new(MemoryStore::builder().clock(clock.clock()).build())
}

#[tokio::test]
async fn a_guard_holds_until_it_is_dropped_whatever_the_kind() {
    let locks = Locks::new(MemoryStore::new());
    for kind in [LockKind::User, LockKind::Job, LockKind::Freeze, LockKind::from("review")] {
        let guard = locks.hold(LockRequest::exclusive("/docs/7").kind(kind.clone())).await.unwrap();
        let refusal = locks.acquire(LockRequest::exclusive("/docs/7")).await.unwrap_err();
        let code = if kind == LockKind::Freeze { RefusalCode::Frozen } else { RefusalCode::Locked };
        assert_eq!((refusal.status().as_u16(), refusal.code()), (423, code));
        drop(guard);
        assert!(locks.covering(&ResourceKey::parse("/docs/7").unwrap()).await.unwrap().is_empty(), "{kind}");
    }
}

#[tokio::test]
async fn a_guard_can_be_kept_and_released() {
    let locks = Locks::new(MemoryStore::new());
    let kept = locks.hold(LockRequest::exclusive("/a")).await.unwrap().keep();
    assert!(locks.acquire(LockRequest::exclusive("/a")).await.is_err());
    assert_eq!(locks.release(kept.token()).await.unwrap().map(|lock| lock.id()), Some(kept.lock().id()));
    assert_eq!(locks.release(kept.token()).await.unwrap(), None, "gone already is as good as ended");
    let guard = locks.hold(LockRequest::exclusive("/a").and("/b")).await.unwrap();
    assert_eq!(guard.locks().len(), 2);
    guard.release().await.unwrap();
    assert!(locks.acquire(LockRequest::exclusive("/")).await.is_ok());
}

#[tokio::test]
async fn lifetimes_are_clamped_and_the_answer_says_so() {
    let clock = ManualClock::new();
    let locks = on(&clock);
    let granted = locks.acquire(LockRequest::exclusive("/a").lifetime(2 * 60 * MINUTE)).await.unwrap();
    assert!(granted.is_clamped());
    assert_eq!(granted.lock().expires_in(), Some(3_600));
    let granted = locks.acquire(LockRequest::exclusive("/b")).await.unwrap();
    assert!(!granted.is_clamped());
    assert_eq!(granted.lock().expires_in(), Some(300));
    let endless = locks.acquire(LockRequest::exclusive("/c").kind(LockKind::Freeze)).await.unwrap();
    assert_eq!((endless.is_clamped(), endless.lock().expires_in()), (false, None));
    let refusal = locks.acquire(LockRequest::exclusive("/d").lifetime(Duration::ZERO)).await.unwrap_err();
    assert_eq!(refusal.code(), RefusalCode::BadRequest);
}

#[tokio::test]
async fn a_refresh_restarts_the_lifetime_up_to_the_total() {
    let clock = ManualClock::new();
    let locks = on(&clock);
    let granted = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    clock.advance(4 * MINUTE);
    let refreshed = locks.refresh(granted.token(), None).await.unwrap();
    assert_eq!((refreshed.lock.expires_in(), refreshed.final_term), (Some(300), FinalTerm::No));
    assert_eq!(refreshed.lock.generation(), granted.lock().generation(), "the same lock");
    // Refreshed for an hour again and again, it still ends after its day.
    let mut refreshes = 0;
    loop {
        match locks.refresh(granted.token(), Some(60 * MINUTE)).await {
            Ok(refreshed) => {
                refreshes += 1;
                let final_term = refreshed.final_term == FinalTerm::Yes;
                assert_eq!(final_term, refreshed.lock.expires_in().unwrap() < 3_600 || refreshes == 24);
                clock.advance(Duration::from_secs(59 * 60 + 59));
            }
            Err(refusal) => {
                assert_eq!(refusal.code(), RefusalCode::LockLost);
                break;
            }
        }
    }
    assert!((23..=25).contains(&refreshes), "{refreshes}");
}

#[tokio::test]
async fn a_lost_lock_is_told_apart_from_one_that_never_was() {
    let clock = ManualClock::new();
    let locks = on(&clock);
    let granted = locks.acquire(LockRequest::exclusive("/a")).await.unwrap();
    clock.advance(6 * MINUTE);
    let refusal = locks.refresh(granted.token(), None).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.lost()[0].cause), (RefusalCode::LockLost, LostCause::Expired));
    assert_eq!(refusal.to_string(), "Your lock on /a has expired at 2026-01-01T00:05:00Z.");
    let refusal = locks.refresh(LockToken::random(), None).await.unwrap_err();
    assert_eq!((refusal.code(), refusal.lost()[0].cause), (RefusalCode::LockLost, LostCause::Unknown));
}

#[tokio::test]
async fn a_refusal_says_where_the_lock_is() {
    let locks = Locks::new(MemoryStore::new());
    let request = LockRequest::exclusive("/a/b").kind(LockKind::Freeze).owner(Owner::id("ann")).reason("audit");
    let _guard = locks.hold(request).await.unwrap();
    for (path, sentence) in [
        ("/a/b", "/a/b is frozen by ann (audit) until further notice."),
        ("/a/b/c", "/a/b/c is frozen through /a/b by ann (audit) until further notice."),
        ("/a", "/a holds /a/b, which is frozen by ann (audit) until further notice."),
        ("/", "/ holds /a/b, which is frozen by ann (audit) until further notice."),
    ] {
        assert_eq!(locks.acquire(LockRequest::exclusive(path)).await.unwrap_err().to_string(), sentence);
    }
    let both = locks.acquire(LockRequest::exclusive("/x").and("/a/b")).await.unwrap_err();
    assert_eq!(both.to_string(), "/a/b is frozen by ann (audit) until further notice.");
    assert_eq!(both.resource(), Some("/a/b"), "of several roots, the one that is blocked");
}

#[tokio::test]
async fn an_upgrade_is_one_step() {
    let locks = Locks::new(MemoryStore::new());
    let shared = locks.acquire(LockRequest::shared("/a")).await.unwrap();
    assert_eq!(locks.acquire(LockRequest::exclusive("/a")).await.unwrap_err().code(), RefusalCode::Locked);
    let exclusive = locks.acquire(LockRequest::exclusive("/a").replacing(shared.token())).await.unwrap();
    assert!(exclusive.lock().generation() > shared.lock().generation());
    let refusal = locks.refresh(shared.token(), None).await.unwrap_err();
    assert_eq!(refusal.lost()[0].cause, LostCause::Replaced);

    let other = locks.acquire(LockRequest::shared("/b")).await.unwrap();
    let _second = locks.acquire(LockRequest::shared("/b")).await.unwrap();
    let refusal = locks.acquire(LockRequest::exclusive("/b").replacing(other.token())).await.unwrap_err();
    assert_eq!(refusal.code(), RefusalCode::Locked, "another holder is in the way");
    assert!(locks.refresh(other.token(), None).await.is_ok(), "a refused upgrade leaves the old lock");
}

#[tokio::test]
async fn breaking_in_an_acquire_tells_the_former_holder_who_and_why() {
    let locks = Locks::new(MemoryStore::new());
    let held = locks.acquire(LockRequest::exclusive("/a").principal("ann")).await.unwrap();
    let request = LockRequest::exclusive("/a").principal("admin").breaking(held.lock().id(), "ann is ill");
    let _ = locks.acquire(request).await.unwrap();
    let ann = Caller::remote(Some(Principal::new("ann")));
    let refusal = locks.refresh_for(&ann, held.token().into(), tower_lock::store::Span::Same).await.unwrap_err();
    let lost = &refusal.lost()[0];
    assert_eq!(
        (lost.cause, lost.by.as_deref(), lost.reason.as_deref()),
        (LostCause::Broken, Some("admin"), Some("ann is ill"))
    );
}

#[tokio::test]
async fn several_roots_are_all_or_nothing() {
    let locks = Locks::new(MemoryStore::new());
    let _other = locks.acquire(LockRequest::exclusive("/b")).await.unwrap();
    let refusal = locks.acquire(LockRequest::exclusive("/a").and("/b")).await.unwrap_err();
    assert_eq!(refusal.code(), RefusalCode::Locked);
    assert!(locks.acquire(LockRequest::exclusive("/a")).await.is_ok(), "nothing is left of it");
    for (first, second) in [("/x", "/x"), ("/x", "/x/y"), ("/x/y", "/x"), ("/", "/x"), ("/x", "/%78/")] {
        let refusal = locks.acquire(LockRequest::exclusive(first).and(second)).await.unwrap_err();
        assert_eq!(refusal.code(), RefusalCode::BadRequest, "{first} {second}");
    }
    assert!(
        locks.acquire(LockRequest::exclusive("/x").and("/x/y").depth(Depth::Zero)).await.is_ok(),
        "these do not overlap"
    );
}

#[tokio::test]
async fn a_repeat_is_answered_with_the_same_lock() {
    let clock = ManualClock::new();
    let locks = on(&clock);
    let token = LockToken::random();
    let request = || LockRequest::exclusive("/a").principal("ann").propose_token(token);
    let first = locks.acquire(request()).await.unwrap();
    clock.advance(MINUTE);
    let again = locks.acquire(request()).await.unwrap();
    assert!(again.is_repeated() && !first.is_repeated());
    assert_eq!((again.lock().id(), again.lock().expires_at()), (first.lock().id(), first.lock().expires_at()));
    for other in [
        LockRequest::exclusive("/a").principal("bob").propose_token(token),
        LockRequest::exclusive("/b").principal("ann").propose_token(token),
        LockRequest::shared("/a").principal("ann").propose_token(token),
        LockRequest::exclusive("/a").principal("ann").depth(Depth::Zero).propose_token(token),
        LockRequest::exclusive("/b").propose_id(first.lock().id()),
    ] {
        assert_eq!(locks.acquire(other).await.unwrap_err().code(), RefusalCode::ProposalConflict);
    }
    locks.release(token).await.unwrap();
    assert_eq!(locks.acquire(request()).await.unwrap_err().code(), RefusalCode::LockLost, "a token is used once");
}

#[tokio::test]
async fn a_release_may_overtake_its_acquire() {
    let locks = Locks::new(MemoryStore::new());
    let token = LockToken::random();
    locks.release(token).await.unwrap();
    let refusal = locks.acquire(LockRequest::exclusive("/a").propose_token(token)).await.unwrap_err();
    assert_eq!(refusal.code(), RefusalCode::LockLost);
    assert!(locks.acquire(LockRequest::exclusive("/a")).await.is_ok());
}

#[tokio::test]
async fn limits_are_refusals_that_name_what_is_too_much() {
    let mut limits = Limits::default();
    limits.locks_per_principal = 2;
    limits.locks_in_store = 3;
    limits.roots_per_request = 2;
    let locks = Locks::builder(MemoryStore::new()).limits(limits).build();
    let ann = |path: &str| LockRequest::exclusive(path).principal("ann");
    let _ = locks.acquire(ann("/a").and("/b")).await.unwrap();
    let refusal = locks.acquire(ann("/c")).await.unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.code()), (429, RefusalCode::LockQuota));
    let bob = |path: &str| LockRequest::exclusive(path).principal("bob");
    let _ = locks.acquire(bob("/c")).await.unwrap();
    let refusal = locks.acquire(bob("/d")).await.unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.code()), (503, RefusalCode::StoreFull));

    for (request, culprit) in [
        (bob("/x").and("/y").and("/z"), "resources"),
        (bob("/x").reason("r".repeat(8 * 1024 + 1)), "reason"),
        (bob("/x").owner(Owner::id("o").named("n".repeat(8 * 1024))), "owner"),
        (bob("/x").client_ref("c".repeat(1025)), "client_ref"),
        (bob(&format!("/{}", "x".repeat(8 * 1024))), "resource"),
        (bob("/x").kind(LockKind::from("")), "kind"),
    ] {
        let refusal = locks.acquire(request).await.unwrap_err();
        assert_eq!(refusal.code(), RefusalCode::BadRequest);
        assert!(refusal.to_string().starts_with(culprit), "{refusal}");
    }
    assert_eq!(locks.acquire(bob("/x/../y")).await.unwrap_err().code(), RefusalCode::AmbiguousPath);
}

#[tokio::test]
async fn namespaces_have_nothing_to_do_with_each_other() {
    let locks = Locks::builder(MemoryStore::new()).namespace(|_| None).build();
    let one = locks.hold(LockRequest::exclusive("/a").namespace("one")).await.unwrap();
    assert!(locks.hold(LockRequest::exclusive("/a").namespace("two")).await.is_ok());
    assert!(locks.hold(LockRequest::exclusive("/a")).await.is_ok());
    assert!(locks.hold(LockRequest::exclusive("/").namespace("one")).await.is_err());
    assert_eq!(one.lock().root().namespace(), Some("one"));
    let elsewhere = Caller::remote(None).in_namespace(Some(String::from("two")));
    assert!(locks.inspect_id(&elsewhere, one.lock().id()).await.unwrap().is_none(), "an id of another tenant names nothing");
}

#[tokio::test]
async fn a_cursor_never_names_a_lock_that_the_caller_may_not_see() {
    use tower_lock::{Access, Action, AuthorizeAsk, locks::LockFilter};
    let locks = Locks::builder(MemoryStore::new())
        .authorizer(|ask: &AuthorizeAsk<'_>| match ask.action {
            Action::See if ask.key.path().starts_with("/secret") => Access::Denied,
            _ => Access::Allowed,
        })
        .build();
    for path in ["/a", "/b", "/secret/1", "/secret/2", "/secret/3", "/z"] {
        let _ = locks.acquire(LockRequest::exclusive(path)).await.unwrap();
    }
    let caller = Caller::remote(Some(Principal::new("ann")));
    let mut filter = LockFilter::default();
    filter.limit = Some(2);
    let mut seen = Vec::new();
    loop {
        let listing = locks.list(&caller, &filter).await.unwrap();
        seen.extend(listing.locks.into_iter().map(|lock| lock.resource));
        let Some(next) = listing.next else { break };
        assert!(!next.to_string().contains("secret"));
        filter.after = Some(next);
    }
    assert_eq!(seen, ["/a", "/b", "/z"]);
}

/// A store that answers late: everything waits until it is let go.
struct Slow {
    inner: MemoryStore,
    gate: Arc<tokio::sync::Semaphore>,
    releases: AtomicUsize,
}

impl Slow {
    fn late<T: Send + 'static>(&self, answer: StoreFuture<T>) -> StoreFuture<T> {
        let gate = self.gate.clone();
        StoreFuture::new(async move {
            let answer = answer.await;
            gate.acquire().await.map_err(|_| StoreError::new(StoreErrorKind::Other, "closed"))?.forget();
            answer
        })
    }
}

impl LockStore for Slow {
    fn admit(&self, write: &Write<'_>) -> StoreFuture<Verdict> {
        self.inner.admit(write)
    }

    fn acquire(&self, request: &Acquire<'_>) -> StoreFuture<Acquired> {
        self.late(self.inner.acquire(request))
    }

    fn refresh(&self, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        self.inner.refresh(refresh)
    }

    fn release(&self, release: &Release<'_>) -> StoreFuture<Released> {
        self.releases.fetch_add(1, Ordering::Relaxed);
        self.inner.release(release)
    }

    fn clear(&self, gone: &[Gone<'_>], under: Option<WriteId>) -> StoreFuture<usize> {
        self.inner.clear(gone, under)
    }

    fn find(&self, query: &LockQuery<'_>) -> StoreFuture<LockPage> {
        self.inner.find(query)
    }

    fn watch(&self, query: &LockQuery<'_>) -> Watch {
        self.inner.watch(query)
    }
}

#[tokio::test]
async fn a_lock_granted_to_a_caller_who_left_is_undone_unless_they_can_repeat_it() {
    let store = Arc::new(Slow {
        inner: MemoryStore::new(),
        gate: Arc::new(tokio::sync::Semaphore::new(0)),
        releases: AtomicUsize::new(0),
    });
    let locks = Locks::new(store.clone());
    let poll_once_and_leave = async |request: LockRequest| {
        let mut acquire = Box::pin(locks.acquire(request));
        assert!(futures_util::poll!(acquire.as_mut()).is_pending());
    };
    poll_once_and_leave(LockRequest::exclusive("/a")).await;
    assert_eq!(store.releases.load(Ordering::Relaxed), 1);
    assert!(locks.covering(&ResourceKey::parse("/a").unwrap()).await.unwrap().is_empty());

    let token = LockToken::random();
    poll_once_and_leave(LockRequest::exclusive("/a").propose_token(token)).await;
    assert_eq!(store.releases.load(Ordering::Relaxed), 1, "who proposed the token can repeat the acquire");
    store.gate.add_permits(1);
    assert!(locks.acquire(LockRequest::exclusive("/a").propose_token(token)).await.unwrap().is_repeated());
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_the_store_never_answers_is_503_and_undone() {
    let store = Arc::new(Slow {
        inner: MemoryStore::new(),
        gate: Arc::new(tokio::sync::Semaphore::new(0)),
        releases: AtomicUsize::new(0),
    });
    let locks = Locks::new(store.clone());
    let refusal = locks.acquire(LockRequest::exclusive("/a")).await.unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.code()), (503, RefusalCode::StoreUnavailable));
    assert_eq!(refusal.store_error().unwrap().kind(), StoreErrorKind::TimedOut);
    assert!(locks.covering(&ResourceKey::parse("/a").unwrap()).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_acquire_waits_for_the_writes_that_it_would_refuse() {
    let clock = ManualClock::new();
    let store = MemoryStore::builder().clock(clock.clock()).build();
    let locks = Locks::new(store.clone());
    let targets = [Target::write_member(ResourceKey::parse("/a/b").unwrap())];
    let write = store.admit(&Write::new(&targets, &Conditions::NONE)).await.unwrap().admitted().unwrap();

    let mut acquire = Box::pin(locks.acquire(LockRequest::exclusive("/a")));
    assert!(futures_util::poll!(acquire.as_mut()).is_pending());
    let refused = store.admit(&Write::new(&targets, &Conditions::NONE)).await.unwrap();
    assert!(refused.refused().is_some(), "what the mark refuses");
    drop(write);
    let granted = acquire.await.unwrap();
    assert_eq!(granted.lock().scope(), LockScope::Exclusive);
    locks.release(granted.token()).await.unwrap();

    let write = store.admit(&Write::new(&targets, &Conditions::NONE)).await.unwrap().admitted().unwrap();
    let mut acquire = Box::pin(locks.acquire(LockRequest::exclusive("/a")));
    assert!(futures_util::poll!(acquire.as_mut()).is_pending());
    clock.advance(Duration::from_secs(5));
    let refusal = acquire.await.unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.code()), (409, RefusalCode::WriteInProgress));
    assert!(refusal.retry_after().is_some());
    let busy = locks.acquire(LockRequest::exclusive("/a")).await.unwrap_err();
    assert_eq!(busy.code(), RefusalCode::WriteInProgress, "at once: repeated acquires cannot starve writers");
    drop(write);
    assert!(locks.acquire(LockRequest::exclusive("/a").propose_id(LockId::random())).await.is_ok());
}

#[tokio::test]
async fn ones_own_lost_lock_is_told_where_the_lock_in_the_way_may_not_be_seen() {
    use tower_lock::{
        Access, Action, AuthorizeAsk, RequestView,
        locks::{Demand, Judgement},
    };
    let locks = Locks::builder(MemoryStore::new())
        .principal(|_| Some(Principal::new("ann")))
        .authorizer(|ask: &AuthorizeAsk<'_>| match ask.action {
            Action::See if !ask.is_own() => Access::Denied,
            _ => Access::Allowed,
        })
        .build();
    let ann = locks.acquire(LockRequest::exclusive("/a").principal("ann")).await.unwrap();
    locks.release(ann.token()).await.unwrap();
    let _bob = locks.hold(LockRequest::exclusive("/a").principal("bob")).await.unwrap();
    let request = http::Request::put("/a").header("if", format!("(<{}>)", ann.token().urn())).body(()).unwrap();
    let Judgement::Ready(Err(refusal)) = locks.judge(RequestView::of(&request), Demand::None) else { panic!("admitted") };
    assert_eq!((refusal.code(), refusal.lost()[0].cause), (RefusalCode::LockLost, LostCause::Released));
    assert!(!refusal.is_bare() && refusal.locks().is_empty(), "what became of her lock, and nothing of his");
}
