//! Random histories of WebDAV requests, against an oracle that is written from RFC 4918 alone; and writers that run
//! beside one another, against a handler that knows what is certainly locked. `TOWER_LOCK_SOAK=n` runs `n` times as many.
#![cfg(feature = "webdav")]

mod support;

#[path = "webdav/handler.rs"]
#[allow(dead_code, reason = "the other WebDAV tests use the rest")]
mod handler;
#[path = "webdav/handler_props.rs"]
#[allow(dead_code, reason = "the other WebDAV tests use the rest")]
mod handler_props;
#[path = "webdav/kit.rs"]
#[allow(dead_code, reason = "the other WebDAV tests use the rest")]
mod kit;
#[path = "fleet/rng.rs"]
mod rng;
#[path = "webdav/shape.rs"]
#[allow(dead_code, reason = "the other WebDAV tests use the rest")]
mod shape;
#[path = "webdav/xml.rs"]
#[allow(dead_code, reason = "the other WebDAV tests use the rest")]
mod xml;

#[path = "webdav_histories/history.rs"]
mod history;
#[path = "webdav_histories/oracle.rs"]
mod oracle;
#[path = "webdav_histories/overtaking.rs"]
mod overtaking;
#[path = "webdav_histories/site.rs"]
mod site;
#[path = "webdav_histories/steps.rs"]
mod steps;
#[path = "webdav_histories/tally.rs"]
mod tally;

use self::{history::History, kit::Dav, site::Site, tally::Tally};

fn soak() -> u64 {
    std::env::var("TOWER_LOCK_SOAK").ok().and_then(|times| times.parse().ok()).unwrap_or(1).max(1)
}

/// Where the seeds begin: `TOWER_LOCK_SEED` tries others, or one that failed.
fn first_seed() -> u64 {
    std::env::var("TOWER_LOCK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

const STEPS: usize = 80;

/// What has to happen in [`HISTORIES`] histories, so that they prove something.
const FLOORS: [(&str, u64); 39] = [
    ("COPY allowed", 100),
    ("COPY refused", 60),
    ("DELETE allowed", 80),
    ("DELETE refused", 50),
    ("GET allowed", 30),
    ("GET refused", 5),
    ("LOCK allowed", 250),
    ("LOCK refused", 150),
    ("MKCOL allowed", 100),
    ("MKCOL refused", 70),
    ("MOVE allowed", 80),
    ("MOVE refused", 80),
    ("PROPFIND allowed", 100),
    ("PROPFIND refused", 15),
    ("PROPPATCH allowed", 100),
    ("PROPPATCH refused", 50),
    ("PUT allowed", 200),
    ("PUT refused", 130),
    ("UNLOCK allowed", 40),
    ("UNLOCK refused", 50),
    ("refresh allowed", 40),
    ("refresh refused", 50),
    ("allowed under locks", 120),
    ("refused for membership", 40),
    ("vouched for by another shared lock", 8),
    ("expired", 25),
    ("locks", 200),
    ("locks gone after DELETE", 30),
    ("locks gone after MOVE", 10),
    ("locks below a destination gone after COPY", 2),
    ("status 200", 250),
    ("status 201", 150),
    ("status 204", 200),
    ("status 207", 150),
    ("status 400", 20),
    ("status 403", 60),
    ("status 409", 120),
    ("status 412", 300),
    ("status 423", 350),
];

const HISTORIES: u64 = 60;

#[tokio::test]
async fn histories_over_the_handler_of_these_tests() {
    let mut tally = Tally::default();
    for seed in first_seed()..first_seed() + HISTORIES * soak() {
        History::new(seed, Site::ours(), &mut tally).run(STEPS).await;
    }
    println!("{:#?}", tally.0);
    tally.assert_floors(&FLOORS);
}

#[tokio::test]
async fn histories_over_a_memory_file_system() {
    let mut tally = Tally::default();
    for seed in first_seed()..first_seed() + 5 * soak() {
        History::new(seed, Site::memfs().await, &mut tally).run(STEPS).await;
    }
    println!("{:#?}", tally.0);
    tally.assert_floors(&[("PUT allowed", 15), ("PUT refused", 10), ("LOCK allowed", 20), ("status 423", 30)]);
}

/// Found by seed 13: ann's lock was taken for one on the membership of `/c`, which the write of a member does not change.
#[tokio::test]
async fn a_shared_lock_on_a_member_answers_for_one_on_its_collection() {
    let dav = Dav::new();
    let (ann, bob) = (dav.as_("ann"), dav.as_("bob"));
    let _ = ann.share("/c/").depth("infinity").expect(200).await.token();
    let token = bob.share("/c/m").depth("0").expect(200).await.token();
    bob.put("/c/m", "new").tokens([&token]).expect(204).await;
    bob.put("/c/m", "newer").expect(423).await;
    bob.put("/c/n", "a new member").tokens([&token]).expect(423).await.locked_by(&["/c/"]);
    bob.delete("/c/m").tokens([&token]).expect(423).await.locked_by(&["/c/"]);
}
