//! The locking API as it is specified: what is answered to whom, on every store.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::kit::{Client, LFS, in_query, server};
use crate::support::example::on_every_store;

on_every_store! {
    a_lock_is_granted_shown_refused_and_ended,
    a_list_is_read_page_by_page_without_a_gap,
}

fn a_lock_is_granted_shown_refused_and_ended(store: &str) {
    let server = server(store);
    let [ann, ben, admin] = ["ann", "ben", "admin"].map(|user| Client::new(&server, "paint", user));
    assert_eq!(ben.list("").locks(), (vec![], None), "an empty list is a list");
    let nothing = ben.verify(&json!({ "ref": { "name": "refs/heads/main" } })).json();
    assert_eq!(nothing, json!({ "ours": [], "theirs": [] }));

    let granted = ann.lock("art/cover.psd");
    assert_eq!((granted.status, granted.header("content-type")), (201, Some(LFS)), "{granted:?}");
    let lock = granted.json()["lock"].clone();
    let id = lock["id"].as_str().unwrap();
    assert_eq!((&lock["path"], &lock["owner"]), (&json!("art/cover.psd"), &json!({ "name": "ann" })));
    let time = lock["locked_at"].as_str().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "RFC 3339, to the second: {time}");
    assert!(!granted.text().contains("urn:uuid"), "nobody is told the token: {granted:?}");

    // Whoever wants it now is told by whom it is held, in the only text that the client shows.
    for (user, client) in [("ben", ben), ("ann", ann), ("admin", admin)] {
        let refused = client.lock("art/cover.psd");
        let message = refused.failure(409);
        assert!(message.starts_with("already created lock") && message.contains("ann"), "{user}: {message}");
        assert_eq!(refused.json()["lock"], lock, "{user}");
    }
    // A branch is no way round it.
    let elsewhere = ben.post("locks", &json!({ "path": "art/cover.psd", "ref": { "name": "refs/heads/other" } }));
    elsewhere.failure(409);
    assert_eq!(ben.list("refspec=refs%2Fheads%2Fother").locks().0, std::slice::from_ref(&lock));

    for (query, is_there) in [
        (format!("path={}", in_query("art/cover.psd")), true),
        (format!("id={id}"), true),
        (format!("id={id}&path={}", in_query("art/cover.psd")), true),
        (format!("id={id}&path=b.psd"), false),
        ("path=&id=&cursor=&limit=0&refspec=".to_owned(), true),
        ("path=art".to_owned(), false),
        (format!("path={}", in_query("art/cover.psd.bak")), false),
        ("id=no-such-id".to_owned(), false),
        ("id=00000000-0000-4000-8000-000000000000".to_owned(), false),
    ] {
        let wanted: Vec<Value> = is_there.then(|| lock.clone()).into_iter().collect();
        assert_eq!(ben.list(&query).locks(), (wanted, None), "{query}");
    }

    let verified = ann.verify(&json!({})).json();
    assert_eq!(verified, json!({ "ours": [lock.clone()], "theirs": [] }));
    let verified = ben.verify(&json!({ "ref": { "name": "refs/heads/other" }, "cursor": "", "limit": 100 })).json();
    assert_eq!(verified, json!({ "ours": [], "theirs": [lock.clone()] }));

    // A repository knows nothing of another one, neither by path nor by id.
    let music = Client::new(&server, "music", "ann");
    assert_eq!(music.list(&format!("id={id}")).locks().0, [] as [Value; 0]);
    music.unlock(id, false).failure(404);
    Client::new(&server, "music", "admin").unlock(id, true).failure(404);
    let other = Client::new(&server, "music", "ben").locked("art/cover.psd");
    assert_eq!(music.list("").locks().0[0]["owner"]["name"], "ben");
    assert_eq!(ann.list("").locks().0, std::slice::from_ref(&lock));

    // Only who holds it ends it, or who may break it, and says so.
    assert!(ben.unlock(id, false).failure(403).contains("ann"));
    assert!(ben.unlock(id, true).failure(403).contains("ann"));
    admin.unlock(id, false).failure(403);
    assert_eq!(ann.list("").locks().0, std::slice::from_ref(&lock), "all of that has changed nothing");
    let ended = admin.unlock(id, true);
    assert_eq!((ended.status, &ended.json()["lock"]), (200, &lock));
    for client in [ann, ben, admin] {
        client.unlock(id, true).failure(404);
    }

    // It is free at once, and another lock has another id.
    let again = ben.locked("art/cover.psd");
    assert_ne!(again, id);
    let ended = ben.unlock(&again, true);
    assert_eq!((ended.status, &ended.json()["lock"]["owner"]["name"]), (200, &json!("ben")), "force does no harm");
    assert_eq!(Client::new(&server, "music", "ben").unlock(&other, false).status, 200);
    assert_eq!(ann.list("").locks(), (vec![], None));
}

/// They have no end, so they outlast the server too, and their holders still hold them.
#[cfg(feature = "redb")]
#[test]
fn locks_outlast_a_server_that_keeps_them_in_a_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = format!("redb:{}", folder.path().join("locks.redb").display());
    let first = server(&store);
    let id = Client::new(&first, "paint", "ann").locked("art/cover.psd");
    let before = Client::new(&first, "paint", "ben").list("").locks();
    drop(first);
    let second = server(&store);
    let [ann, ben] = ["ann", "ben"].map(|user| Client::new(&second, "paint", user));
    assert_eq!(ben.list("").locks(), before);
    ben.unlock(&id, false).failure(403);
    assert_eq!(ann.unlock(&id, false).status, 200);
}

fn a_list_is_read_page_by_page_without_a_gap(store: &str) {
    let server = server(store);
    let [ann, ben] = ["ann", "ben"].map(|user| Client::new(&server, "paint", user));
    // Names that sort by more than their letters, and that have to be written down somehow in a cursor.
    let name = |number: usize| match number % 5 {
        0 => format!("art/{number}.bin"),
        1 => format!("art {number}/ä&b=c.bin"),
        2 => format!("100%/{number}%2F.bin"),
        3 => format!("{number}"),
        _ => format!("深い/{number}/+.bin"),
    };
    let all: BTreeSet<String> = (0..250).map(name).collect();
    all.iter().enumerate().for_each(|(at, path)| _ = [ann, ben][at % 2].locked(path));

    let read = |limit: &str| {
        let (mut paths, mut pages, mut cursor) = (Vec::new(), 0, None);
        loop {
            let from = cursor.map_or(String::new(), |cursor: String| format!("cursor={}&", in_query(&cursor)));
            let (locks, next) = ben.list(&format!("{from}{limit}")).locks();
            paths.extend(locks.iter().map(|lock| lock["path"].as_str().unwrap().to_owned()));
            pages += 1;
            cursor = next;
            if cursor.is_none() {
                break (paths, pages);
            }
        }
    };
    for (limit, pages_wanted) in [("", 3), ("limit=0", 3), ("limit=7", 36), ("limit=250", 1), ("limit=99999", 1)] {
        let (paths, pages) = read(limit);
        assert_eq!((paths.len(), pages), (250, pages_wanted), "{limit}");
        assert_eq!(paths.into_iter().collect::<BTreeSet<_>>(), all, "{limit}");
    }

    let (mut ours, mut theirs, mut cursor) = (0, 0, String::new());
    loop {
        let page = ben.verify(&json!({ "cursor": cursor, "limit": 60 })).json();
        let share = |name: &str, owner: &str| {
            let locks = page[name].as_array().unwrap();
            assert!(locks.iter().all(|lock| lock["owner"]["name"] == owner), "{page}");
            locks.len()
        };
        ours += share("ours", "ben");
        theirs += share("theirs", "ann");
        match page.get("next_cursor") {
            Some(next) => cursor = next.as_str().unwrap().to_owned(),
            None => break,
        }
    }
    assert_eq!(ours + theirs, 250);
    assert!(ours > 100 && theirs > 100, "{ours} {theirs}");
}
