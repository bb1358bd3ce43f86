//! Nothing is broken while all is well; and without registered writes, the same clients find that it is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    audit::{Findings, audit},
    book::Book,
    client::{Clients, Faults, Load, Mix},
    engine::{Engine, Guard, Kind, StoreConfig},
    http::{Http, ask},
    nodes::Nodes,
    run, soak,
};

/// How long a fleet may take to show what it must.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many nodes a fleet has.
const NODES: usize = 3;

/// Lets clients loose on a fleet for a while, and looks the history through.
async fn race(store: &StoreConfig, mix: Mix, span: Duration) -> (Findings, Book) {
    let nodes = Nodes::start(NODES, store, Duration::from_millis(300));
    let book = Arc::new(Book::default());
    let load = Load { clients: 8, mix, seed: 7, faults: Faults::None };
    let clients = Clients::start(&load, &nodes.ports(), &book);
    tokio::time::sleep(span).await;
    // A machine that is busy with other things takes longer to show as much.
    let start = Instant::now();
    while mix == Mix::Everything && start.elapsed() < PATIENCE && !missed(&book).is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    clients.stop().await;
    nothing_is_left(&nodes, Duration::from_secs(10)).await;
    let found = audit(&book.pages(), nodes.traces());
    println!("{mix:?} for {span:?} on {}: {found:#?}\n{:?}", store.url, book.pages().tally);
    (found, Arc::into_inner(book).expect("the clients have ended"))
}

/// What the clients have not met often enough yet, and how often.
fn missed(book: &Book) -> Vec<(&'static str, u16, u64)> {
    let all = [
        ("write", 204),
        ("write", 423),
        ("acquire", 201),
        ("acquire", 423),
        ("refresh", 200),
        ("release", 204),
        ("hung up", 0),
    ];
    let pages = book.pages();
    let counted = all.map(|(what, status)| (what, status, pages.tally.get(&(what, status)).copied().unwrap_or_default()));
    counted.into_iter().filter(|(_, _, count)| *count < 30).collect()
}

/// Once all is given back, everything can be locked: nobody is stuck for longer than `within`.
pub(crate) async fn nothing_is_left(nodes: &Nodes, within: Duration) {
    let auditor = Http::new("auditor", nodes.ports());
    let start = Instant::now();
    loop {
        let body = serde_json::json!({ "timeout": 1 });
        let answer = auditor.send(0, ask("PUT", "/locks/t").json(&body)).await.expect("a node answers");
        if answer.status == 201 {
            let token = answer.json()["token"].as_str().expect("a token").to_owned();
            let release = ask("DELETE", "/locks/t").header("lock-token", format!("<{token}>"));
            assert_eq!(auditor.send(0, release).await.expect("a node answers").status, 204);
            return;
        }
        assert!(start.elapsed() < within, "somebody is stuck: {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) fn nothing_is_broken(kind: Kind) {
    run(async {
        let engine = Engine::start(kind);
        let (found, book) = race(&StoreConfig::new(&engine), Mix::Everything, Duration::from_secs(6) * soak()).await;
        assert_eq!(found.broken(), 0, "{found:#?}");
        let logged = engine.errors();
        assert!(!logged.keys().any(|error| error.contains("deadlock")), "{logged:?}");
        assert_eq!(missed(&book), [], "clients that hit nothing prove nothing");
        assert!(found.unlinked >= 20, "{found:?}");
    });
}

/// The negative control: a fleet that passes the above for want of looking would pass this too.
pub(crate) fn check_only_is_found_out(kind: Kind) {
    run(async {
        let engine = Engine::start(kind);
        let store = StoreConfig { guard: Guard::CheckOnly, ..StoreConfig::new(&engine) };
        let (found, _) = race(&store, Mix::Crowded, Duration::from_secs(4)).await;
        assert!(found.trespassing >= 100, "in four seconds: {found:#?}");
        assert_eq!((found.conflicting, found.lost, found.wrong), (0, 0, 0), "G4 holds all the same: {found:#?}");
    });
}
