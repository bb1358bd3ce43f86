//! What a refused client gets, byte by byte: status, header fields in their order, and body, for every code, every stage of a
//! lock and every form, with texts in it that have to be escaped. `refusal_bytes/answers.txt` has the answers.
//!
//! Where an answer is meant to change, run this with `REFUSAL_BYTES=write`, and read what that changes in the file.

mod support;

use std::{convert::Infallible, fmt::Write as _, future::pending, pin::pin, time::Duration};

use http::{Request, Response, StatusCode};
use support::{
    Mode, Rigged, Text, by, holding, locks_of_users, poll_once, probe, request, send,
    stores::{Call, memory},
    with,
};
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_lock::{
    Access, AuthorizeAsk, Depth, Granted, Limits, LockKind, LockLayer, LockRequest, LockScope, Locks, Owner, Refusal,
    RefusalCode,
    lock::{LockId, LockToken},
    locks::LocksBuilder,
    respond::Problem,
    store::ManualClock,
};
use uuid::Uuid;

const MINUTES: Duration = Duration::from_secs(14 * 60);

/// What people write who mean no good, or no harm.
fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "nightly export",
        "\"quoted\" and \\ and / and 'single'",
        "</script><script>alert(1)</script>&amp;",
        "line\r\nline\ttab\u{8}\u{c}\u{0}",
        "\u{7f}delete\u{85}next\u{9f}",
        "Überarbeitung naïve \u{1f512}\u{1f469}\u{200d}\u{1f4bb}",
        "txt.\u{202e}exe\u{2066}\u{2028}\u{2029}\u{feff}\u{fffd}\u{10ffff}",
        "\"",
        "\\",
        "\\u0041",
        "ends with \"",
        "0123456\"0123456789abcde\\0123456789abcdef0123456789abcd\u{1f}",
    ]
    .map(str::to_owned)
    .into();
    texts.push((0_u8..=0x7f).map(char::from).collect());
    texts.push("x".repeat(700) + "\"" + &"ü".repeat(70));
    texts
}

/// Everything that was answered.
struct Book(String);

impl Book {
    /// A refused `request`, with what is left in the extensions.
    async fn refused(&mut self, what: &str, locks: &Locks, request: Request<Text>) {
        self.refused_by(what, &LockLayer::new(locks.clone()), request).await;
    }

    async fn refused_by(&mut self, what: &str, layer: &LockLayer, request: Request<Text>) {
        let mut service = layer.layer(probe(async |_: Request<Text>| Ok::<_, Infallible>(Response::new(Text::default()))));
        let answer = send(&mut service, request).await;
        assert_ne!(answer.status, StatusCode::OK, "{what}");
        let headers: String =
            answer.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
        let refusal = answer.extensions.get::<Refusal>().unwrap();
        writeln!(self.0, "=== {what}\n{}\n{headers}\n{}", answer.status, answer.text()).unwrap();
        if answer.header("content-type") == Some("application/problem+json") {
            self.told(refusal);
            assert_eq!(answer.body, Problem::of(refusal).to_json(), "{what}");
            // What is in the extensions serialises as the same.
            for part in [serde_json::to_string(refusal.locks()), serde_json::to_string(refusal.lost())].map(Result::unwrap) {
                assert!(part == "[]" || answer.text().contains(&part), "{what}: {part}");
            }
            assert_eq!(answer.body, serde_json::to_vec(&Problem::of(refusal)).unwrap(), "{what}");
        }
    }

    /// What a refusal is in Rust.
    fn told(&mut self, refusal: &Refusal) {
        writeln!(self.0, "--- {}", refusal.to_string().escape_debug()).unwrap();
        assert_eq!(format!("{refusal:?}"), format!("Refusal({} {}: {refusal})", refusal.status().as_u16(), refusal.code()));
        writeln!(
            self.0,
            "--- {:?} {:?} {} {} {:?} {:?}",
            refusal.resource(),
            refusal.retry_after(),
            refusal.is_bare(),
            refusal.is_truncated(),
            refusal.endpoint_url(),
            refusal.problem_type()
        )
        .unwrap();
    }

    /// A refusal that no response was made of.
    fn said(&mut self, what: &str, refusal: &Refusal) {
        writeln!(self.0, "=== {what}\n{}", std::str::from_utf8(&Problem::of(refusal).to_json()).unwrap()).unwrap();
        self.told(refusal);
    }
}

struct Desk {
    hand: ManualClock,
    locks: Locks,
    ids: u128,
}

impl Desk {
    fn new(build: impl FnOnce(LocksBuilder) -> LocksBuilder) -> Self {
        let hand = ManualClock::new();
        let locks = build(locks_of_users(memory(hand.clock())).clock(hand.clock()).authorizer(seeing_all)).build();
        Self { hand, locks, ids: 0 }
    }

    async fn set(&mut self, request: LockRequest) {
        _ = self.lock(request).await;
    }

    async fn lock(&mut self, request: LockRequest) -> Granted {
        // So that a retry after a lock that was gone meanwhile shows another number.
        self.hand.advance(Duration::from_millis(1_500));
        self.ids += 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;
        self.locks.acquire(request.propose_id(LockId::from_uuid(Uuid::from_u128(self.ids)))).await.unwrap()
    }
}

fn seeing_all(_: &AuthorizeAsk<'_>) -> Access {
    Access::Allowed
}

fn legal(path: &str) -> LockRequest {
    let owner = Owner::id("u-17").named("Legal desk");
    LockRequest::exclusive(path)
        .kind(LockKind::Job)
        .principal("u-17")
        .owner(owner)
        .reason("nightly export")
        .lifetime(MINUTES)
}

fn put(path: &str) -> Request<Text> {
    by(request("PUT", path), "ann")
}

async fn places(book: &mut Book) {
    let mut desk = Desk::new(|locks| locks);
    desk.set(legal("/cases/4711")).await;
    desk.set(legal("/cases/4712").depth(Depth::Zero).client_ref("{\"ref\": 7}")).await;
    desk.set(legal("/deep/er/and/deeper/still")).await;
    for path in
        ["/cases/4711", "/cases/4711/", "/cases/4711/exhibits/a.pdf", "/cases/4712", "/cases/4711/%22%5C%0A%7F%C3%BC%20"]
    {
        book.refused(&format!("PUT {path}"), &desk.locks, put(path)).await;
    }
    book.refused("a member of a depth-zero lock", &desk.locks, put("/cases/4712/new")).await;
    for path in ["/", "/deep", "/cases"] {
        book.refused(&format!("DELETE {path}"), &desk.locks, by(request("DELETE", path), "ann")).await;
    }
    for method in ["COPY", "MOVE", "BREW"] {
        let there = with(by(request(method, "/free"), "ann"), "destination", "/cases/4711/there");
        book.refused(&format!("{method} to what is locked"), &desk.locks, there).await;
    }
    book.refused("the holder without its token", &desk.locks, by(request("PUT", "/cases/4711"), "u-17")).await;
    book.refused("nobody", &desk.locks, request("PUT", "/cases/4711")).await;
    for accept in [
        "*/*",
        "application/json",
        "application/problem+json",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "text/plain",
        "image/png",
        "",
    ] {
        book.refused(&format!("accept {accept}"), &desk.locks, with(put("/cases/4711"), "accept", accept)).await;
    }
    desk.hand.advance(Duration::from_millis(500));
    book.refused("later", &desk.locks, put("/cases/4711")).await;
    desk.hand.advance(MINUTES - Duration::from_secs(6));
    book.refused("almost over", &desk.locks, put("/cases/4711")).await;
    // A holder that nothing is told of.
    desk.set(LockRequest::exclusive("/anonymous").lifetime(MINUTES)).await;
    book.refused("an anonymous lock", &desk.locks, put("/anonymous")).await;
    desk.set(LockRequest::exclusive("/mine").principal("ann").owner(Owner::default()).lifetime(MINUTES)).await;
    book.refused("one's own, without an owner", &desk.locks, put("/mine")).await;
}

async fn hostile(book: &mut Book) {
    let mut desk = Desk::new(|locks| locks);
    for (at, text) in texts().iter().enumerate() {
        let path = format!("/hostile/{at}");
        let owner = match at % 3 {
            0 => Owner::id(text).named(text),
            1 => Owner::id(text),
            _ => Owner::default().named(text).xml(text),
        };
        let kind = if (1..=64).contains(&text.len()) { LockKind::Other(text.clone().into()) } else { LockKind::App };
        let request = LockRequest::exclusive(&path).owner(owner).reason(text).client_ref(text).kind(kind).lifetime(MINUTES);
        desk.set(request).await;
        book.refused(&format!("text {at}"), &desk.locks, put(&path)).await;
        for accept in ["text/html", "text/plain"] {
            book.refused(&format!("text {at} as {accept}"), &desk.locks, with(put(&path), "accept", accept)).await;
        }
        let key = tower_lock::ResourceKey::from_canonical(format!("/{text}"));
        book.said(&format!("text {at} as a detail"), &Refusal::bad_request(text.clone()).about(&key).retry_in(at as u64));
    }
}

async fn several(book: &mut Book) {
    for named in [1, 3, 100] {
        let mut limits = Limits::default();
        limits.blockers_named = named;
        let mut desk = Desk::new(|locks| locks.limits(limits).endpoint_url("https://example.org/locks/"));
        for count in 1..=11 {
            let name = format!("u-{count}");
            let reader = LockRequest::shared("/shared").principal(&*name).owner(Owner::id(&name));
            desk.set(reader.lifetime(MINUTES + Duration::from_secs(count))).await;
            if matches!(count, 1..=3 | 11) {
                book.refused(&format!("{count} readers, {named} named"), &desk.locks, put("/shared/7")).await;
            }
        }
    }
}

async fn stages(book: &mut Book) {
    let mut desk = Desk::new(|locks| locks);
    desk.set(LockRequest::exclusive("/frozen").kind(LockKind::Freeze).reason("release 7")).await;
    book.refused("frozen", &desk.locks, put("/frozen")).await;
    book.refused("frozen, from below", &desk.locks, put("/frozen/7")).await;
    desk.set(LockRequest::exclusive("/iced").kind(LockKind::Freeze).lifetime(MINUTES)).await;
    book.refused("frozen for a while", &desk.locks, put("/iced")).await;
    book.refused("two of them", &desk.locks, by(request("DELETE", "/"), "ann")).await;

    let layer = LockLayer::new(desk.locks.clone());
    let mut service = layer.layer(probe(async |_: Request<Text>| pending::<Result<Response<Text>, Infallible>>().await));
    let used = desk.lock(legal("/used")).await;
    let holder = holding(by(request("PUT", "/used"), "u-17"), used.token());
    let mut writing = pin!(service.ready().await.unwrap().call(holder));
    assert!(poll_once(writing.as_mut()).is_pending());
    book.refused("in use", &desk.locks, put("/used")).await;

    let locks = desk.locks.clone();
    let mut plain = pin!(service.ready().await.unwrap().call(put("/plain/a")));
    assert!(poll_once(plain.as_mut()).is_pending());
    let mut acquiring = pin!(locks.acquire(legal("/plain").propose_id(LockId::from_uuid(Uuid::from_u128(100)))));
    assert!(poll_once(acquiring.as_mut()).is_pending());
    book.refused("pending", &desk.locks, put("/plain")).await;
    book.refused("pending, from below", &desk.locks, put("/plain/b")).await;

    // Broken with a grace, and handed over.
    let broken = desk.lock(legal("/broken")).await;
    _ = desk.locks.break_lock(broken.lock().id(), "a \"fire\" drill", Duration::from_secs(60)).await.unwrap();
    book.refused("breaking", &desk.locks, put("/broken")).await;
    let offered = desk.lock(legal("/offered")).await;
    let offered = desk.locks.transfer(offered.lock().id(), "eve").await.unwrap();
    book.refused("offered", &desk.locks, put("/offered")).await;
    book.refused("offered to oneself", &desk.locks, by(request("PUT", "/offered"), "eve")).await;
    book.0 = book.0.replace(&offered.id().to_string(), "a-new-id");
}

async fn conditions(book: &mut Book) {
    let mut desk = Desk::new(|locks| locks);
    let ann = |path: &str| LockRequest::exclusive(path).principal("ann").lifetime(MINUTES);
    let unknown = unknown_token();
    book.refused("a token nobody knows", &desk.locks, holding(put("/free"), unknown)).await;
    let [expired, released, broken, replaced, elsewhere] = [
        desk.lock(ann("/expired").lifetime(Duration::from_secs(30))).await,
        desk.lock(ann("/released")).await,
        desk.lock(ann("/broken")).await,
        desk.lock(ann("/replaced")).await,
        desk.lock(ann("/elsewhere")).await,
    ];
    desk.locks.release(released.token()).await.unwrap();
    _ = desk.locks.break_lock(broken.lock().id(), "said \\ \"so\"\n", Duration::ZERO).await.unwrap();
    desk.set(ann("/replaced").replacing(replaced.token())).await;
    desk.hand.advance(Duration::from_secs(31));
    desk.set(legal("/expired")).await;
    for (path, granted) in [
        ("/expired", &expired),
        ("/released", &released),
        ("/broken", &broken),
        ("/replaced", &replaced),
        ("/replaced", &elsewhere),
        ("/else", &elsewhere),
    ] {
        book.refused(&format!("lost, {path}"), &desk.locks, holding(put(path), granted.token())).await;
        let token = format!("<{}>", granted.token().urn());
        book.refused(&format!("lost by Lock-Token, {path}"), &desk.locks, with(put(path), "lock-token", token)).await;
        let stranger = holding(by(request("PUT", path), "bob"), granted.token());
        book.refused(&format!("another's, {path}"), &desk.locks, stranger).await;
    }
    let page = with(holding(put("/broken"), broken.token()), "accept", "text/html");
    book.refused("lost, as a page", &desk.locks, page).await;
    let layer = LockLayer::new(desk.locks.clone()).require_lock();
    book.refused_by("a lock is required", &layer, put("/free")).await;
    book.refused_by("a lock is required, and another has one", &layer, put("/expired")).await;
    for target in ["/a/%2e%2e/b", "/ok"] {
        let malformed = with(put(target), "if", "(<urn:uuid:nonsense>");
        book.refused(&format!("malformed, {target}"), &desk.locks, malformed).await;
    }
    let long = format!("/{}", "x".repeat(9_000));
    book.said("too long a root", &desk.locks.acquire(ann(&long)).await.unwrap_err());
}

async fn strangers(book: &mut Book) {
    /// Sees what is under `/seen`.
    fn some(ask: &AuthorizeAsk<'_>) -> Access {
        match ask.key.path() {
            path if path.contains("/limited") => Access::Limited,
            path if path.contains("/seen") => Access::Allowed,
            _ => Access::Denied,
        }
    }
    let mut desk = Desk::new(|locks| locks.authorizer(some).problem_types("https://example.org/problems/"));
    for path in ["/a/hidden", "/b/limited", "/c/seen"] {
        desk.set(legal(path).client_ref("ref")).await;
        book.refused(path, &desk.locks, put(path)).await;
        for accept in ["text/html", "text/plain"] {
            book.refused(&format!("{path} as {accept}"), &desk.locks, with(put(path), "accept", accept)).await;
        }
    }
    desk.set(LockRequest::exclusive("/d/hidden").kind(LockKind::Freeze)).await;
    desk.set(LockRequest::exclusive("/d/limited").kind(LockKind::Freeze)).await;
    for path in ["/d/hidden", "/d/limited", "/d", "/"] {
        book.refused(&format!("DELETE {path}"), &desk.locks, by(request("DELETE", path), "ann")).await;
    }
    let mut desk = Desk::new(|locks| locks.authorizer(tower_lock::DefaultAuthorizer));
    desk.set(legal("/cases/4711").client_ref("ref")).await;
    for user in ["ann", "u-17"] {
        book.refused(&format!("by default, {user}"), &desk.locks, by(request("PUT", "/cases/4711"), user)).await;
    }
    let unknown = unknown_token();
    let layer = LockLayer::new(Desk::new(|locks| locks.authorizer(|_: &AuthorizeAsk<'_>| Access::Denied)).locks);
    book.refused_by("a lost lock where nothing may be seen", &layer, holding(put("/free"), unknown)).await;
}

async fn failures(book: &mut Book) {
    let rigged = Rigged::new(memory(ManualClock::new().clock()));
    rigged.set(Call::Admit, Mode::Fail);
    let locks = locks_of_users(rigged).endpoint_url("https://example.org/\"locks").build();
    book.refused("the store fails", &locks, put("/a")).await;
    book.refused("the store fails, for a person", &locks, with(put("/a"), "accept", "text/html")).await;

    // A store that answers later: the request is out of reach by then.
    let hand = ManualClock::new();
    let rigged = Rigged::new(memory(hand.clock()));
    rigged.set(Call::Admit, Mode::Later);
    let later = locks_of_users(rigged).clock(hand.clock()).namespace(|_| Some("tenant \"7\"".into())).build();
    let frozen = LockRequest::exclusive("/a/b").kind(LockKind::Freeze).namespace("tenant \"7\"");
    let _frozen = later.acquire(frozen.propose_id(LockId::from_uuid(Uuid::from_u128(3)))).await.unwrap();
    book.refused("later, in a namespace", &later, put("/a/b/c")).await;

    let mut limits = Limits::default();
    limits.locks_per_principal = 1;
    let mut desk = Desk::new(|locks| locks.limits(limits));
    desk.set(legal("/one")).await;
    book.said("quota", &desk.locks.acquire(legal("/two")).await.unwrap_err());
    book.said("conflict", &desk.locks.acquire(legal("/one/below")).await.unwrap_err());
    book.said("conflict, above", &desk.locks.acquire(LockRequest::on(LockScope::Shared, root())).await.unwrap_err());
    for code in CODES {
        book.said(code.as_str(), &Refusal::new(code, "What a \"sentence\" says."));
        let key = tower_lock::ResourceKey::from_canonical("/docs/\u{1b}7");
        book.said(code.as_str(), &Refusal::new(code, "").about(&key).retry_in(u64::MAX));
    }
}

/// The same text with 42 for every generation: the first one comes of the wall clock.
fn steady(text: &str) -> String {
    let mut steady = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, word)) = rest.match_indices("generation").next() {
        let (before, after) = rest.split_at(at + word.len());
        let number = after.find(|letter: char| letter.is_ascii_digit()).unwrap();
        let length = after[number..].find(|letter: char| !letter.is_ascii_digit()).unwrap();
        steady += &format!("{before}{}42", &after[..number]);
        rest = &after[number + length..];
    }
    steady + rest
}

fn unknown_token() -> LockToken {
    LockToken::from_uuid(Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef)).unwrap()
}

fn root() -> tower_lock::ResourceKey<'static> {
    tower_lock::ResourceKey::from_canonical("/")
}

const CODES: [RefusalCode; 22] = [
    RefusalCode::Locked,
    RefusalCode::Frozen,
    RefusalCode::LockLost,
    RefusalCode::ConditionFailed,
    RefusalCode::WriteInProgress,
    RefusalCode::ProposalConflict,
    RefusalCode::NotCovered,
    RefusalCode::Forbidden,
    RefusalCode::AmbiguousPath,
    RefusalCode::BadRequest,
    RefusalCode::NoSuchLock,
    RefusalCode::MethodNotAllowed,
    RefusalCode::ContentTooLarge,
    RefusalCode::UnsupportedMediaType,
    RefusalCode::Unprocessable,
    RefusalCode::FailedDependency,
    RefusalCode::LockRequired,
    RefusalCode::LockQuota,
    RefusalCode::TooManyWaiting,
    RefusalCode::UnreadableAnswer,
    RefusalCode::StoreFull,
    RefusalCode::StoreUnavailable,
];

#[tokio::test]
async fn every_refusal_is_answered_with_these_bytes() {
    let mut book = Book(String::new());
    places(&mut book).await;
    hostile(&mut book).await;
    several(&mut book).await;
    stages(&mut book).await;
    conditions(&mut book).await;
    strangers(&mut book).await;
    failures(&mut book).await;
    if std::env::var_os("REFUSAL_BYTES").is_some_and(|what| what == "write") {
        std::fs::write("tests/refusal_bytes/answers.txt", steady(&book.0)).unwrap();
    }
    let told = steady(&book.0);
    let expected = include_str!("refusal_bytes/answers.txt");
    let mut chapter = "";
    for (at, (line, known)) in told.lines().zip(expected.lines()).enumerate() {
        chapter = if known.starts_with("=== ") { known } else { chapter };
        assert_eq!(line, known, "line {} of answers.txt, in {chapter}", at + 1);
    }
    assert_eq!(told.len(), expected.len());
}
