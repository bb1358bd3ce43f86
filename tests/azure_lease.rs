//! A lease as Azure Blob Storage has it, over the crate's public extension points alone: acquire, renew, change, release and
//! break with their statuses and error codes, and writes to a leased blob behind a `LockLayer` with a responder of its own.
//!
//! The lease id is chosen by the client (or for it) and travels in a header with every write. It is the whole credential:
//! whoever knows it writes, renews and releases, whoever they are, which is what `HolderProof::Token` says. So it is as
//! secret as clients and their logs keep it, and as random as they made it. Here it is at least shown to nobody: it is kept
//! as the lock's `client_ref`, of which no answer tells. An id may be used again after its lease, and a token may not. So the
//! token is derived from the id of the lease and the id of the lock, and the adapter finds the lock by the resource.
//!
//! What is carried otherwise than there, or not at all:
//! - An acquire, a renewal of an expired lease, and a change wait for writes in flight that the new lease would refuse, the
//!   holder's own among them (G3): after five seconds they are 503 `ServerBusy`, which no table of Azure's has here.
//! - A lease does not end under a write that it answers for (G7). Azure looks when the write begins.
//! - A lease that is renewed after it had expired, or changed, is a new lock with a larger generation.
//! - Reads are not asked (G2): one that shows a wrong lease id is answered all the same, where Azure says 412.
//! - Leases on containers, and conditions by entity tag on lease operations, are left out.
//! - Which lease a blob had last is written down with the blob. Azure keeps both in one place; here they are two steps, in
//!   an order in which a crash between them takes at most the right to renew.

#[path = "azure_lease/adapter.rs"]
mod adapter;
mod support;

use std::sync::Arc;

use adapter::{Account, ID, Now, PROPOSED, Slow, TIME, key_of};
use http::Request;
use support::{Answer, SECOND, Text, by, request, with};
use tokio::sync::Semaphore;
use tower_lock::store::ManualClock;
use uuid::Uuid;

const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";
const C: &str = "cccccccc-0000-4000-8000-000000000003";

const BLOB: &str = "/photos/2026/a b.jpg";

/// A lease operation by ann, with these header fields after its action.
fn lease(action: &str, fields: &[(&'static str, &str)]) -> Request<Text> {
    let target = format!("{}?comp=lease", BLOB.replace(' ', "%20"));
    let request = with(by(request("PUT", &target), "ann"), "x-ms-lease-action", action);
    fields.iter().fold(request, |request, (name, value)| with(request, name, value))
}

fn acquire(id: &str, seconds: &str) -> Request<Text> {
    lease("acquire", &[(PROPOSED, id), ("x-ms-lease-duration", seconds)])
}

/// A request about the blob itself, under a lease or not.
fn blob(method: &str, id: &str) -> Request<Text> {
    let request = by(request(method, &BLOB.replace(' ', "%20")), "ben");
    if id.is_empty() { request } else { with(request, ID, id) }
}

/// One blob, and a clock.
struct Bench {
    account: Account,
    hand: ManualClock,
}

impl Bench {
    async fn new() -> Self {
        let hand = ManualClock::new();
        let bench = Self { account: Account::new(&hand), hand };
        bench.done(blob("PUT", ""), 201).await;
        bench
    }

    /// The blob in one of the five states, its lease called A.
    async fn in_state(state: &str) -> Self {
        let bench = Self::new().await;
        if state == "available" {
            return bench;
        }
        bench.done(acquire(A, "30"), 201).await;
        match state {
            "leased" => {}
            "expired" => bench.hand.advance(30 * SECOND),
            _ => _ = bench.done(lease("break", &[("x-ms-lease-break-period", "10")]), 202).await,
        }
        if state == "broken" {
            bench.hand.advance(10 * SECOND);
        }
        bench
    }

    async fn done(&self, request: Request<Text>, status: u16) -> Answer {
        let answer = self.account.answer(request).await;
        assert_eq!(answer.status, status, "{answer:?}");
        answer
    }

    /// The status and, where it failed, the code.
    async fn outcome(&self, request: Request<Text>) -> String {
        let answer = self.account.answer(request).await;
        assert!(answer.status.is_success() || !format!("{answer:?}").contains(A), "an id is shown: {answer:?}");
        format!("{} {}", answer.status.as_u16(), answer.header("x-ms-error-code").unwrap_or_default()).trim_end().to_owned()
    }

    async fn now(&self) -> &'static str {
        match self.account.now(&key_of(&BLOB.replace(' ', "%20")).unwrap()).await.unwrap() {
            Now::Available => "available",
            Now::Leased(_) => "leased",
            Now::Breaking(_) => "breaking",
            Now::Broken(_) => "broken",
            Now::Expired(_) => "expired",
        }
    }
}

const STATES: [&str; 5] = ["available", "leased", "breaking", "broken", "expired"];

#[tokio::test]
async fn every_operation_in_every_state_does_what_the_table_says() {
    const NONE: &str = "409 LeaseNotPresentWithLeaseOperation";
    const OTHER: &str = "409 LeaseIdMismatchWithLeaseOperation";
    const TAKEN: &str = "409 LeaseAlreadyPresent";
    const BREAKING: &str = "409 LeaseIsBreakingAndCannotBeAcquired";
    const LOST: &str = "409 LeaseIsBrokenAndCannotBeRenewed";
    const UNCHANGED: &str = "409 LeaseIsBreakingAndCannotBeChanged";
    let renew = |id| lease("renew", &[(ID, id)]);
    let change = |id, to| lease("change", &[(ID, id), (PROPOSED, to)]);
    let release = |id| lease("release", &[(ID, id)]);
    let break_it = |seconds| lease("break", &[("x-ms-lease-break-period", seconds)]);
    type Row = (&'static str, Box<dyn Fn() -> Request<Text>>, [&'static str; 5], [&'static str; 5]);
    // What is answered, and the state after a success.
    let table: [Row; 11] = [
        ("acquire A", Box::new(|| acquire(A, "30")), ["201", "201", BREAKING, "201", "201"], ["leased"; 5]),
        ("acquire B", Box::new(|| acquire(B, "-1")), ["201", TAKEN, TAKEN, "201", "201"], ["leased"; 5]),
        ("renew A", Box::new(move || renew(A)), [OTHER, "200", LOST, LOST, "200"], ["leased"; 5]),
        ("renew B", Box::new(move || renew(B)), [OTHER; 5], [""; 5]),
        ("change A to B", Box::new(move || change(A, B)), [NONE, "200", UNCHANGED, NONE, NONE], ["leased"; 5]),
        ("change B to A", Box::new(move || change(B, A)), [NONE, "200", OTHER, NONE, NONE], ["leased"; 5]),
        ("change B to C", Box::new(move || change(B, C)), [NONE, OTHER, OTHER, NONE, NONE], [""; 5]),
        ("release A", Box::new(move || release(A)), [NONE, "200", "200", "200", "200"], ["available"; 5]),
        ("release B", Box::new(move || release(B)), [NONE, OTHER, OTHER, OTHER, OTHER], [""; 5]),
        (
            "break at once",
            Box::new(move || break_it("0")),
            [NONE, "202", "202", "409 LeaseAlreadyBroken", "202"],
            ["broken"; 5],
        ),
        (
            "break later",
            Box::new(move || break_it("5")),
            [NONE, "202", "202", "409 LeaseAlreadyBroken", "202"],
            ["", "breaking", "breaking", "", "broken"],
        ),
    ];
    for (what, ask, answers, after) in &table {
        for (at, state) in STATES.into_iter().enumerate() {
            let bench = Bench::in_state(state).await;
            assert_eq!(bench.now().await, state);
            assert_eq!(bench.outcome(ask()).await, answers[at], "{what}, {state}");
            let wanted = if answers[at].starts_with('2') { after[at] } else { state };
            assert_eq!(bench.now().await, wanted, "after {what}, {state}");
        }
    }
}

#[tokio::test]
async fn a_write_in_every_state_is_told_apart_by_the_lease_that_it_shows() {
    const MISSING: &str = "412 LeaseIdMissing";
    const OTHER: &str = "412 LeaseIdMismatchWithBlobOperation";
    const GONE: &str = "412 LeaseNotPresentWithBlobOperation";
    for (state, none, held, other) in [
        ("available", "201", GONE, GONE),
        ("leased", MISSING, "201", OTHER),
        ("breaking", MISSING, "201", OTHER),
        ("broken", "201", GONE, GONE),
        ("expired", "201", GONE, GONE),
    ] {
        for (id, wanted) in [("", none), (A, held), (B, other), (&format!("{{{}}}", A.to_uppercase()), held)] {
            let bench = Bench::in_state(state).await;
            assert_eq!(bench.outcome(blob("PUT", id)).await, wanted, "{state}, {id:?}");
            let gone = if wanted == "201" { "202" } else { wanted };
            let bench = Bench::in_state(state).await;
            assert_eq!(bench.outcome(blob("DELETE", id)).await, gone, "{state}, {id:?}");
            // Reads go on, whatever they show.
            let there = if gone == "202" { "404 BlobNotFound" } else { "200" };
            assert_eq!(bench.outcome(blob("GET", id)).await, there, "{state}, {id:?}");
        }
        // Not a lease operation, and so a write.
        let bench = Bench::in_state(state).await;
        let target = format!("{}?comp=lease&x=1", BLOB.replace(' ', "%20"));
        assert_eq!(bench.outcome(by(request("PUT", &target), "ann")).await, none, "{state}");
    }
}

#[tokio::test]
async fn a_header_that_means_nothing_is_400_and_a_blob_that_is_not_there_is_404() {
    let bench = Bench::in_state("leased").await;
    let (bad, none) = ("400 InvalidHeaderValue", "400 MissingRequiredHeader");
    for seconds in ["0", "1", "14", "61", "-2", "1.5", "x", "", "99999999999999999999"] {
        assert_eq!(bench.outcome(acquire(A, seconds)).await, bad, "{seconds}");
    }
    for seconds in ["-1", "61", "x", ""] {
        assert_eq!(bench.outcome(lease("break", &[("x-ms-lease-break-period", seconds)])).await, bad, "{seconds}");
    }
    for id in ["", "x", "7", "{}", &A[1..], "é"] {
        assert_eq!(bench.outcome(acquire(id, "30")).await, bad, "{id}");
        assert_eq!(bench.outcome(lease("renew", &[(ID, id)])).await, bad, "{id}");
        assert_eq!(bench.outcome(with(blob("PUT", ""), ID, id)).await, bad, "{id}");
    }
    assert_eq!(bench.outcome(lease("acquire", &[(PROPOSED, A)])).await, none);
    assert_eq!(bench.outcome(lease("change", &[(ID, A)])).await, none);
    for action in ["renew", "release", "change"] {
        assert_eq!(bench.outcome(lease(action, &[(PROPOSED, B)])).await, none, "{action}");
    }
    assert_eq!(bench.outcome(lease("steal", &[(ID, A)])).await, bad);
    assert_eq!(bench.outcome(by(request("PUT", "/photos/b?comp=lease"), "ann")).await, none);
    let elsewhere = with(by(request("PUT", "/photos/b?comp=lease"), "ann"), "x-ms-lease-action", "break");
    assert_eq!(bench.outcome(elsewhere).await, "404 BlobNotFound");
    assert_eq!(bench.now().await, "leased", "none of these has changed anything");
}

#[tokio::test]
async fn a_lease_lives_as_long_as_was_asked_for_and_a_break_never_lengthens_it() {
    let bench = Bench::new().await;
    let renewed = || bench.outcome(lease("renew", &[(ID, A)]));
    bench.done(acquire(A, "15"), 201).await;
    bench.hand.advance(14 * SECOND);
    assert_eq!(renewed().await, "200");
    bench.hand.advance(14 * SECOND);
    // Changed, it has no longer to live than before; renewed, as long as was asked for first.
    bench.done(lease("change", &[(ID, A), (PROPOSED, B)]), 200).await;
    bench.done(lease("change", &[(ID, B), (PROPOSED, A)]), 200).await;
    bench.hand.advance(SECOND / 2);
    assert_eq!(bench.now().await, "leased");
    assert_eq!(renewed().await, "200");
    bench.hand.advance(14 * SECOND);
    assert_eq!(bench.now().await, "leased");
    bench.hand.advance(SECOND);
    assert_eq!(bench.now().await, "expired");
    // Acquired again under the same id, for another time.
    assert_eq!(renewed().await, "200");
    bench.done(acquire(A, "-1"), 201).await;
    bench.hand.advance(365 * 24 * 3_600 * SECOND);
    assert_eq!((bench.now().await, renewed().await.as_str()), ("leased", "200"));
    bench.done(acquire(A, "60"), 201).await;

    let break_it = |period: &'static [(&'static str, &str)]| async {
        let answer = bench.done(lease("break", period), 202).await;
        answer.header(TIME).expect("how long it goes on").parse::<u64>().unwrap()
    };
    const PERIOD: &str = "x-ms-lease-break-period";
    bench.hand.advance(20 * SECOND);
    assert_eq!(break_it(&[(PERIOD, "60")]).await, 40, "no longer than it had");
    assert_eq!(break_it(&[(PERIOD, "30")]).await, 30, "a second one may shorten that");
    assert_eq!(break_it(&[(PERIOD, "60")]).await, 30);
    bench.hand.advance(10 * SECOND + SECOND / 2);
    assert_eq!(break_it(&[]).await, 20, "in whole seconds, never fewer than are left");
    bench.hand.advance(20 * SECOND);
    assert_eq!(bench.now().await, "broken");

    bench.done(acquire(B, "60"), 201).await;
    bench.hand.advance(50 * SECOND);
    assert_eq!(break_it(&[]).await, 10, "as long as it would have gone on");
    bench.hand.advance(10 * SECOND);
    bench.done(acquire(C, "-1"), 201).await;
    assert_eq!(break_it(&[(PERIOD, "60")]).await, 60);
    assert_eq!(break_it(&[]).await, 60);
    bench.done(lease("release", &[(ID, C)]), 200).await;
    bench.done(acquire(A, "-1"), 201).await;
    assert_eq!(break_it(&[]).await, 0, "one without an end ends at once");
    assert_eq!(bench.now().await, "broken");
}

#[tokio::test]
async fn an_expired_lease_is_renewed_unless_somebody_has_written_or_leased_since() {
    let mismatch = "409 LeaseIdMismatchWithLeaseOperation";
    let renew = || lease("renew", &[(ID, A)]);
    let bench = Bench::in_state("expired").await;
    // Longer than the store remembers how it ended.
    bench.hand.advance(3 * 3_600 * SECOND);
    assert_eq!(bench.outcome(blob("PUT", A)).await, "412 LeaseNotPresentWithBlobOperation");
    assert_eq!(bench.outcome(renew()).await, "200");
    bench.done(blob("PUT", A), 201).await;
    bench.hand.advance(30 * SECOND);
    assert_eq!(bench.outcome(renew()).await, "200", "who wrote was the holder");
    bench.hand.advance(30 * SECOND);
    bench.done(blob("PUT", ""), 201).await;
    assert_eq!(bench.outcome(renew()).await, mismatch);

    let bench = Bench::in_state("expired").await;
    bench.done(acquire(B, "30"), 201).await;
    assert_eq!(bench.outcome(renew()).await, mismatch);
    bench.done(lease("release", &[(ID, B)]), 200).await;
    assert_eq!(bench.outcome(renew()).await, mismatch);

    let bench = Bench::in_state("expired").await;
    bench.done(blob("DELETE", ""), 202).await;
    bench.done(blob("PUT", ""), 201).await;
    assert_eq!(bench.outcome(renew()).await, mismatch, "it is another blob");
}

/// A lease goes with its blob, and no blob has anything to do with another whose name begins like its own.
#[tokio::test]
async fn a_lease_is_that_of_one_blob() {
    let bench = Bench::in_state("leased").await;
    for other in [
        "/photos/2026/a%20b.jpg/x",
        "/photos/2026",
        "/photos/2026/",
        "/photos/2026//a%20b.jpg",
        "/photos/2026%252Fa%20b.jpg",
    ] {
        bench.done(by(request("PUT", other), "ben"), 201).await;
        bench.done(by(request("DELETE", other), "ben"), 202).await;
    }
    for same in ["/photos/2026%2Fa%20b.jpg", "/%70hotos/2026/a%20b.jpg?comp=block"] {
        assert_eq!(bench.outcome(by(request("PUT", same), "ben")).await, "412 LeaseIdMissing", "{same}");
    }
    bench.done(blob("DELETE", A), 202).await;
    bench.done(blob("PUT", ""), 201).await;
    assert_eq!(bench.outcome(blob("PUT", A)).await, "412 LeaseNotPresentWithBlobOperation");
    assert_eq!(bench.now().await, "available");
    assert_eq!(bench.outcome(acquire(A, "15")).await, "201", "an id may be used again");
}

#[tokio::test]
async fn a_lease_waits_for_the_write_that_it_would_refuse_and_outlives_the_write_of_its_holder() {
    let bench = Bench::in_state("expired").await;
    let slow = Slow { begun: Arc::new(Semaphore::new(0)), go_on: Arc::new(Semaphore::new(0)) };
    let write = |id: &str| {
        let (account, mut request) = (bench.account.clone(), blob("PUT", id));
        request.extensions_mut().insert(slow.clone());
        tokio::spawn(async move { account.answer(request).await.status.as_u16() })
    };
    // It was let in while nobody held the blob. Whoever held it last must not believe that nobody has written.
    let writing = write("");
    slow.begun.acquire().await.unwrap().forget();
    let account = bench.account.clone();
    let renewing = tokio::spawn(async move { account.answer(lease("renew", &[(ID, A)])).await });
    let locks = &bench.account.locks;
    let key = key_of(&BLOB.replace(' ', "%20")).unwrap();
    while locks.covering(&key).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!renewing.is_finished());
    assert_eq!(bench.outcome(blob("PUT", "")).await, "412 LeaseIdMissing", "nobody overtakes what is about to come");
    assert_eq!(bench.outcome(acquire(B, "15")).await, "503 ServerBusy");
    slow.go_on.add_permits(1);
    assert_eq!(writing.await.unwrap(), 201);
    let renewed = renewing.await.unwrap();
    assert_eq!(renewed.header("x-ms-error-code"), Some("LeaseIdMismatchWithLeaseOperation"), "{renewed:?}");
    assert_eq!(bench.now().await, "available", "nothing is left of it");

    bench.done(acquire(A, "15"), 201).await;
    let writing = write(A);
    slow.begun.acquire().await.unwrap().forget();
    bench.hand.advance(60 * SECOND);
    assert_eq!(bench.now().await, "leased", "not while its holder writes");
    assert_eq!(bench.outcome(acquire(B, "15")).await, "409 LeaseAlreadyPresent");
    // A new id is a new lock, for which the write under the old one does not answer.
    let account = bench.account.clone();
    let changing = tokio::spawn(async move { account.answer(lease("change", &[(ID, A), (PROPOSED, B)])).await });
    while locks.covering(&key).await.unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(!changing.is_finished());
    slow.go_on.add_permits(1);
    assert_eq!(writing.await.unwrap(), 201);
    assert_eq!(changing.await.unwrap().header(ID), Some(B));
    assert_eq!(bench.outcome(blob("PUT", B)).await, "201");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_one_has_the_lease() {
    async fn all(account: &Account, requests: impl IntoIterator<Item = Request<Text>>) -> Vec<Answer> {
        let asking: Vec<_> = requests.into_iter().map(|request| (account.clone(), request)).collect();
        let asking: Vec<_> =
            asking.into_iter().map(|(it, request)| tokio::spawn(async move { it.answer(request).await })).collect();
        let mut answers = Vec::new();
        for each in asking {
            answers.push(each.await.unwrap());
        }
        answers
    }
    let done = |answers: &[Answer]| answers.iter().filter(|answer| answer.status.is_success()).count();
    for round in 0..60 {
        let bench = Bench::new().await;
        // Those who propose no id are given one each.
        let anybody = || lease("acquire", &[("x-ms-lease-duration", "30")]);
        let answers = all(&bench.account, (0..16).map(|_| anybody())).await;
        assert_eq!(done(&answers), 1, "{answers:?}");
        let id = answers.iter().find_map(|answer| answer.header(ID)).unwrap().to_owned();
        for answer in answers.iter().filter(|answer| !answer.status.is_success()) {
            assert_eq!(answer.header("x-ms-error-code"), Some("LeaseAlreadyPresent"));
            assert!(!format!("{answer:?}").contains(&id));
        }

        let ids: Vec<String> = (0..8).map(|_| Uuid::new_v4().to_string()).collect();
        let answers = all(&bench.account, ids.iter().map(|to| lease("change", &[(ID, &id), (PROPOSED, to)]))).await;
        assert_eq!(done(&answers), 1, "{answers:?}");
        let id = answers.iter().find_map(|answer| answer.header(ID)).unwrap().to_owned();
        assert_eq!(bench.outcome(blob("PUT", &id)).await, "201");

        // Who has held it, who wants it, and who just writes.
        bench.hand.advance(30 * SECOND);
        let answers = all(&bench.account, [lease("renew", &[(ID, &id)]), acquire(B, "30"), blob("PUT", "")]).await;
        let [renewed, acquired, written] = [0, 1, 2].map(|at| answers[at].status.is_success());
        assert!(renewed as u8 + acquired as u8 <= 1, "{round}: {answers:?}");
        assert!(!(renewed && written), "{round}: it was not as its holder had left it: {answers:?}");
        assert!(renewed || acquired || written, "{round}: {answers:?}");
        let held = if acquired || renewed { "leased" } else { "available" };
        assert_eq!(bench.now().await, held, "{round}: {answers:?}");
    }
}
