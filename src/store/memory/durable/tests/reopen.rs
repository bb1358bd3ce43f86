//! Locks are back after a restart, as they were.

use super::*;
use crate::lock::{Claim, LockState, LostCause};

#[test]
fn everything_about_a_lock_comes_back() {
    let mut bench = Bench::new();
    let full = LockParts {
        id: LockId::random(),
        root: key("/a \"b\"/%00/ü\n*").in_namespace("tenant\0%"),
        scope: LockScope::Shared,
        depth: Depth::Zero,
        kind: LockKind::Other("audit".into()),
        principal: Some(who("ann\0")),
        owner: Owner::id("u-17").named("Legal \\ desk").xml("<D:href>x</D:href>"),
        reason: Some("nightly\u{0}export".into()),
        client_ref: Some("{\"json\":1}".into()),
        claim: Claim::Open,
    };
    let root = format!("/{}", "x".repeat(8 * 1024 - 1));
    let long = LockParts { root: key(&root), principal: None, ..full.clone() };
    let endless = LockParts { root: key("/endless"), kind: LockKind::Job, scope: LockScope::Exclusive, ..full.clone() };
    let life = |span: Option<u64>, most: Option<u64>, total: Option<u64>| {
        let [span, most, total] = [span, most, total].map(|nanos| nanos.map(Duration::from_nanos));
        Lifetime { span, most, total }
    };
    let cases = [
        (full, life(Some(60_000_000_123), Some(120_000_000_456), None)),
        (long, life(Some(u64::MAX), None, Some(3_600_000_000_789))),
        (endless, life(None, None, None)),
    ];
    for (parts, lifetime) in cases {
        let locks = [NewLock { parts: Arc::new(LockParts { id: LockId::random(), ..parts }), token: LockToken::random() }];
        let principal = locks[0].parts.principal.clone();
        let request = Acquire::new(&locks, principal.as_ref()).living(lifetime);
        assert!(matches!(wait(bench.store().acquire(&request)), Ok(Acquired::Granted(_))));
        let before = wait(bench.store().find(&LockQuery::id(locks[0].parts.id))).unwrap().locks;
        bench.restart();
        let after = wait(bench.store().find(&LockQuery::id(locks[0].parts.id))).unwrap().locks;
        assert_eq!(after, before);
        assert_eq!(after[0].parts(), &locks[0].parts);
        // And goes on as it would have.
        let asked = bench.refresh(&locks[0], Span::For(Duration::from_secs(100_000)));
        let Ok(Refreshed::Refreshed(lock, _)) = wait(asked) else { panic!("its token works") };
        let left = lifetime.most.or(lifetime.total).unwrap_or(Duration::from_secs(100_000));
        let left = Duration::from_micros(u64::try_from(left.as_micros()).unwrap());
        assert_eq!(lock.expires_at(), Some(bench.hand.clock().now().after(left)));
    }
}

#[test]
fn what_became_of_the_dead_comes_back() {
    let mut bench = Bench::new();
    let [released, broken, breaking, burnt, expired] = ["/1", "/2", "/3", "/4", "/5"].map(|path| new(path, "ann"));
    for lock in [&released, &broken, &expired] {
        bench.acquire(lock);
    }
    bench.hand.advance(MINUTE);
    bench.acquire(&breaking);
    assert!(wait(bench.refresh(&released, Span::Same)).is_ok());
    for lock in [&released, &broken] {
        bench.acquire(&NewLock { parts: new("/y", "ann").parts, token: LockToken::random() });
        assert!(matches!(wait(bench.release(lock)), Ok(Released::Lost(lost)) if lost.cause == LostCause::Expired));
        assert!(wait(bench.store().clear(&[gone("/y")], None)).is_ok_and(|ended| ended == 1));
    }
    let again = [new("/1", "ann"), new("/2", "ann")];
    for lock in &again {
        bench.acquire(lock);
    }
    assert!(matches!(wait(bench.release(&again[0])), Ok(Released::Released(_))));
    assert!(matches!(wait(bench.break_it(again[1].parts.id, Duration::ZERO)), Ok(Released::Released(_))));
    assert!(matches!(wait(bench.break_it(breaking.parts.id, MINUTE / 2)), Ok(Released::Breaking(_))));
    assert!(matches!(wait(bench.release(&burnt)), Ok(Released::Lost(lost)) if lost.cause == LostCause::Unknown));
    for _ in 0..2 {
        bench.restart();
        let told = |lock: &NewLock| match wait(bench.refresh(lock, Span::Same)).unwrap() {
            Refreshed::Lost(lost) => lost,
            other => panic!("{other:?}"),
        };
        assert_eq!(told(&again[0]).cause, LostCause::Released);
        assert_eq!(told(&expired).cause, LostCause::Expired);
        let lost = told(&again[1]);
        assert_eq!(
            (lost.cause, lost.actor, lost.reason.as_deref()),
            (LostCause::Broken, Some(who("admin")), Some("night work"))
        );
        assert_eq!(lost.root, Some(key("/2")));
        let lost = told(&breaking);
        assert_eq!((lost.cause, lost.actor), (LostCause::Broken, Some(who("admin"))), "a grace period goes on");
        assert_eq!(bench.all().iter().find(|lock| lock.id() == breaking.parts.id).unwrap().state(), LockState::Breaking);
        // Used once and for all: the burnt token, those of the dead, and their ids.
        for lock in [&burnt, &again[0], &again[1], &expired] {
            let (gone, free) = (wait(bench.try_acquire(std::slice::from_ref(lock))), new("/free", "ann"));
            assert!(matches!(gone, Ok(Acquired::Lost(_))), "{gone:?}");
            let same_id = [NewLock { parts: lock.parts.clone(), token: free.token }];
            let gone = wait(bench.try_acquire(&same_id));
            assert!(matches!(gone, Ok(Acquired::Lost(_))) || lock.token == burnt.token, "{gone:?}");
            if let Ok(Acquired::Granted(_)) = gone {
                assert!(wait(bench.release(&same_id[0])).is_ok());
            }
        }
    }
    bench.hand.advance(MINUTE);
    assert!(!bench.refused("/3"), "and ends when it should");
}

#[test]
fn expiry_goes_by_the_clock_also_while_nobody_runs() {
    let mut bench = Bench::new();
    let lock = new("/a", "ann");
    bench.acquire(&lock);
    bench.hand.advance(MINUTE / 2);
    bench.restart();
    assert!(bench.refused("/a"));
    bench.hand.advance(MINUTE / 2);
    bench.restart();
    assert!(!bench.refused("/a"));
    assert!(matches!(wait(bench.refresh(&lock, Span::Same)), Ok(Refreshed::Lost(lost)) if lost.cause == LostCause::Expired));
}

#[test]
fn a_clock_behind_the_file_revives_nothing_and_ends_nothing_late() {
    let mut bench = Bench::new();
    let (short, long) = (new("/short", "ann"), new("/long", "ann"));
    bench.acquire(&short);
    bench.hand.advance(MINUTE);
    let before = bench.acquire(&long);
    // A day.
    bench.hand.step_back(1440 * MINUTE);
    bench.restart();
    assert!(!bench.refused("/short"), "it has ended once and for all");
    assert!(bench.refused("/long"));
    let after = bench.acquire(&new("/elsewhere", "bob"));
    assert!(after.generation() > before.generation());
    bench.hand.advance(MINUTE);
    assert!(!bench.refused("/long"), "what was left of it has passed");
}

#[test]
fn generations_grow_over_restarts() {
    let mut bench = Bench::new();
    let mut last = 0;
    for round in 0..10 {
        let lock = new("/a", "ann");
        let granted = bench.acquire(&lock);
        let permit = bench.put("/a/b", Some(&lock)).admitted().unwrap().permit.generation();
        assert!(granted.generation() > last && permit >= granted.generation());
        last = permit;
        assert!(wait(bench.release(&lock)).is_ok());
        bench.hand.step_back(MINUTE);
        if round % 2 == 0 {
            bench.restart();
        } else {
            // Without closing: what an earlier process left in the journal.
            let left = Arc::new(TestDisk::holding(bench.disk.bytes()));
            bench.store = Some(open(&left, &bench.hand, 100_000).unwrap());
            bench.disk = left;
        }
    }
}

#[test]
fn generations_grow_over_a_wall_clock_that_went_back() {
    let mut bench = Bench::new();
    // As if the machine had been ten years ahead.
    let ahead = crate::lock::Timestamp::system_now().as_micros() + 315_360_000_000_000;
    bench.store().core.generation.store(ahead, std::sync::atomic::Ordering::Release);
    assert!(bench.acquire(&new("/a", "ann")).generation() > ahead);
    // The next one is granted in memory, permits know of it, and the power goes before it is durable.
    bench.disk.shut();
    let lost = bench.try_acquire(&[new("/b", "ann")]);
    bench.disk.until_one_waits();
    let permit = bench.put("/c", None).admitted().unwrap().permit.generation();
    let disk = Arc::new(TestDisk::holding(bench.disk.power_loss(|| false)));
    bench.disk.open();
    drop(lost);
    let store = open(&disk, &bench.hand, 100_000).unwrap();
    let after = Bench { disk, hand: bench.hand.clone(), store: Some(store) };
    assert!(!after.refused("/b"), "it was not durable");
    assert!(after.put("/c", None).admitted().unwrap().permit.generation() > permit);
    assert!(after.acquire(&new("/b", "ann")).generation() > permit);
    bench.restart();
}

#[test]
fn the_journal_is_folded_and_nothing_is_lost_or_revived() {
    let mut bench = Bench::with(1 << 12, 50);
    let mut held: Vec<NewLock> = Vec::new();
    let mut random = 0x5EED_u64;
    for step in 0..400 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if held.len() > 20 || random >> 60 < 6 && !held.is_empty() {
            let lock = held.swap_remove(usize::try_from(random >> 33).unwrap() % held.len());
            assert!(matches!(wait(bench.release(&lock)), Ok(Released::Released(_))));
        } else {
            let lock = new(&format!("/a/{step}"), "ann");
            bench.acquire(&lock);
            held.push(lock);
        }
        if step % 57 == 0 {
            let before = bench.all();
            let left = Arc::new(TestDisk::holding(bench.disk.bytes()));
            bench.store = Some(open(&left, &bench.hand, 50).unwrap());
            bench.disk = left;
            assert_eq!(bench.all(), before);
            assert!(bench.store().stats().dead <= 50);
        }
    }
    bench.restart();
    assert_eq!(bench.all().len(), held.len());
    assert!(bench.store().stats().dead <= 60, "those forgotten are out of the file too");
}
