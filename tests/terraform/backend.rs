//! The protocol, request by request, on every store.

use std::{
    collections::BTreeSet,
    io::Write,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use md5::{Digest, Md5};

use crate::{
    http::{Backend, info},
    support::example::on_every_store,
};

on_every_store! {
    a_lock_is_granted_repeated_refused_and_ended_as_terraform_expects,
    no_state_is_written_without_its_lock,
    who_may_break_a_lock_does_and_its_holder_is_told,
    of_those_who_lock_at_once_one_has_it,
}

fn a_lock_is_granted_repeated_refused_and_ended_as_terraform_expects(store: &str) {
    let backend = Backend::over(store);
    // Granted: exactly 200. The same again: the first answer was lost, by a client that would fail on its own lock.
    for _ in 0..3 {
        assert_eq!(backend.lock("ann", "demo", "one").status, 200);
    }
    assert_eq!(backend.holder("demo").as_deref(), Some("one"));

    // Refused: with the holder's lock info, flat, in a body that is a problem document all the same.
    let refused = backend.lock("ben", "demo", "two");
    let body = refused.refusal(423, "locked");
    assert_eq!(refused.holder(), "one");
    assert_eq!((&body["Who"], &body["Operation"]), (&"one@home".into(), &"OperationTypeApply".into()));
    assert_eq!((&body["Version"], &body["Created"]), (&"1.11.4".into(), &"2026-11-21T03:08:58.521279637Z".into()));
    assert_eq!(body["locks"][0]["owner"]["id"], "ann", "who it is, as the authentication says");
    assert!(body["locks"][0]["expires_in"].as_u64().is_some_and(|left| left > 11 * 3600), "for an apply of hours: {body}");
    // It was not the first to lock, so what somebody else knows of it is no lock of theirs.
    assert_eq!(backend.lock("ben", "demo", "one").holder(), "one");
    assert_eq!(backend.lock("ben", "other", "one").status, 200, "another state is another lock");

    // Ended: by its own ID alone. What was refused leaves no trace.
    let refused = backend.unlock("ben", "demo", "two");
    assert_eq!(
        (refused.refusal(423, "locked")["locks"][0]["owner"]["id"].as_str(), &*refused.holder()),
        (Some("ann"), "one")
    );
    for _ in 0..2 {
        assert_eq!(backend.unlock("ann", "demo", "one").status, 200, "the answer to the first one was lost");
    }
    assert_eq!(backend.holder("demo"), None);
    assert_eq!(backend.lock("ben", "demo", "two").status, 200);
    assert_eq!(backend.unlock("ann", "demo", "one").status, 200, "its own is gone, whosesoever turn it is");
    assert_eq!(backend.unlock("ann", "demo", "never").holder(), "two");
    assert_eq!(backend.holder("demo").as_deref(), Some("two"));
    assert_eq!(backend.unlock("ben", "demo", "two").status, 200);
    assert_eq!(backend.unlock("ben", "demo", "never").status, 200, "it is not locked, as was asked for");

    // A LOCK that was held up on its way does not lock what was unlocked since.
    for late in ["one", "never"] {
        backend.lock("ann", "demo", late).refusal(412, "lock_lost");
    }
    assert_eq!(backend.holder("demo"), None);

    // At the address of the state itself, and by the methods of a resource.
    let (state, lock) = ("/state/demo", "/state/demo/lock");
    for (round, (take, end, at)) in
        [("LOCK", "UNLOCK", state), ("PUT", "DELETE", lock), ("POST", "DELETE", lock), ("LOCK", "DELETE", lock)]
            .iter()
            .enumerate()
    {
        let (first, second) = (format!("first-{round}"), format!("second-{round}"));
        assert_eq!(backend.ask("ann", take, at, info(&first)).status, 200, "{take}");
        assert_eq!(backend.ask("ann", take, at, info(&second)).holder(), first);
        assert_eq!(backend.ask("ann", end, at, info(&second)).holder(), first);
        assert_eq!(backend.ask("ann", end, at, info(&first)).status, 200, "{end}");
        assert_eq!(backend.holder("demo"), None);
    }
}

fn no_state_is_written_without_its_lock(store: &str) {
    let backend = Backend::over(store);
    let unwritten = || assert_eq!(backend.saved("demo"), None);
    unwritten();
    // Nobody has it.
    backend.ask("ann", "POST", "/state/demo", "{}").refusal(428, "lock_required");
    backend.save("ann", "demo", "one", "{}").refusal(412, "lock_lost");
    unwritten();

    assert_eq!(backend.lock("ann", "demo", "one").status, 200);
    assert_eq!(backend.lock("ann", "other", "two").status, 200);
    for method in ["POST", "PUT", "DELETE"] {
        for (target, status, code) in [
            ("/state/demo", 428, "lock_required"),
            ("/state/demo?id=one", 428, "lock_required"),
            ("/state/demo?ID=one&ID=one", 428, "lock_required"),
            ("/state/demo?ID=two&ID=one", 428, "lock_required"),
            ("/state/demo?ID=", 412, "lock_lost"),
            ("/state/demo?ID=two", 412, "lock_lost"),
            ("/state/demo?ID=ONE", 412, "lock_lost"),
            ("/state/demo?ID=one%20", 412, "lock_lost"),
        ] {
            let body = backend.ask("ann", method, target, "{}").refusal(status, code);
            assert_eq!(body["locks"][0]["owner"]["id"], "ann", "{method} {target}: it says who: {body}");
        }
    }
    unwritten();
    assert_eq!(backend.ask("ann", "PATCH", "/state/demo?ID=one", "{}").status, 405);
    unwritten();

    // With it, by each method, and however the query is written.
    for (method, target) in
        [("POST", "/state/demo?ID=one"), ("PUT", "/state/demo?a=b&I%44=%6Fne"), ("POST", "/state/dem%6F?ID=one")]
    {
        let content = format!("{{\"by\":\"{method} {target}\"}}");
        let digest = BASE64_STANDARD.encode(Md5::digest(&content));
        let other = BASE64_STANDARD.encode(Md5::digest("{}"));
        for wrong in [&*other, "", "no digest"] {
            let refused = backend.ask_with("ann", method, target, &[("Content-MD5", wrong)], &content);
            refused.refusal(400, "bad_request");
        }
        assert_eq!(backend.ask_with("ann", method, target, &[("Content-MD5", &digest)], &content).status, 200);
        assert_eq!(backend.saved("demo"), Some(content));
        let read = backend.ask("ben", "GET", "/state/demo", "");
        assert_eq!(read.header("content-md5"), Some(&*digest), "who reads it can tell whether it is whole");
    }
    // Larger than what frameworks take unasked.
    let large = format!("{{\"resources\":\"{}\"}}", "x".repeat(5_000_000));
    assert_eq!(backend.save("ann", "demo", "one", &large).status, 200);
    assert!(backend.saved("demo") == Some(large), "it is what was sent");

    // A state that is gone takes its lock along, and to end that is no mistake.
    assert_eq!(backend.ask("ann", "DELETE", "/state/demo?ID=one", "").status, 200);
    unwritten();
    backend.save("ann", "demo", "one", "{}").refusal(412, "lock_lost");
    assert_eq!(backend.unlock("ann", "demo", "one").status, 200);
    unwritten();
}

fn who_may_break_a_lock_does_and_its_holder_is_told(store: &str) {
    let backend = Backend::over(store);
    assert_eq!(backend.lock("ann", "demo", "one").status, 200);
    assert_eq!(backend.save("ann", "demo", "one", "{\"serial\":1}").status, 200);

    // As Terraform does it: an empty body, in chunks, with a digest.
    let chunked = [("Transfer-Encoding", "chunked"), ("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
    for (method, at) in [("UNLOCK", "/state/demo/lock"), ("UNLOCK", "/state/demo"), ("DELETE", "/state/demo/lock")] {
        for user in ["ben", "ann"] {
            let refused = backend.ask_with(user, method, at, &chunked, "0\r\n\r\n");
            refused.refusal(403, "forbidden");
        }
    }
    assert_eq!(backend.save("ann", "demo", "one", "{\"serial\":2}").status, 200, "she has it still");

    assert_eq!(backend.ask_with("admin", "UNLOCK", "/state/demo/lock", &chunked, "0\r\n\r\n").status, 200);
    assert_eq!(backend.force_unlock("admin", "demo").status, 200, "the answer to the first one was lost");
    let told = |locked: bool| {
        let body = backend.save("ann", "demo", "one", "{\"serial\":3}").refusal(412, "lock_lost");
        let lost = &body["lost"][0];
        assert_eq!((&lost["cause"], &lost["by"]), (&"broken".into(), &"admin".into()), "{body}");
        assert_eq!(lost["reason"], "terraform force-unlock by admin");
        assert_eq!(body["locks"].as_array().map(Vec::len), Some(usize::from(locked)), "{body}");
    };
    told(false);
    assert_eq!(backend.lock("ben", "demo", "two").status, 200);
    told(true);
    assert_eq!(backend.save("ben", "demo", "two", "{\"serial\":4}").status, 200);
    // She ends what she believes in, and nothing else comes of it.
    assert_eq!(backend.unlock("ann", "demo", "one").status, 200);
    assert_eq!(backend.holder("demo").as_deref(), Some("two"));
    assert_eq!(backend.saved("demo").as_deref(), Some("{\"serial\":4}"));
    backend.lock("ann", "demo", "one").refusal(412, "lock_lost");

    // The endpoint beside it, with a reason in the operator's own words.
    let reason = "{\"action\":\"break\",\"reason\":\"the runner is gone\"}";
    let json = [("Content-Type", "application/json")];
    assert_eq!(backend.ask_with("ben", "POST", "/locks/state/demo", &json, reason.replace("two", "one")).status, 403);
    assert_eq!(backend.ask_with("admin", "POST", "/locks/state/demo", &json, reason).status, 200);
    let body = backend.save("ben", "demo", "two", "{}").refusal(412, "lock_lost");
    assert_eq!(body["lost"][0]["reason"], "the runner is gone");

    // Locks of somebody who is no Terraform stand in its way as well: on the state, and on all of them.
    for root in ["/locks/state/demo", "/locks/state"] {
        let taken = backend.ask_with("operator", "PUT", root, &json, "{\"reason\":\"we move\"}");
        assert_eq!(taken.status, 201, "{taken:?}");
        let refused = backend.lock("ann", "demo", "three");
        let body = refused.refusal(423, "locked");
        assert_eq!(body["locks"][0]["lock_id"], refused.holder(), "{body}");
        assert_eq!((&body["Who"], &body["Info"]), (&"operator".into(), &"we move".into()), "{body}");
        assert_eq!(backend.unlock("ann", "demo", "three").holder(), refused.holder());
        backend.ask("ann", "POST", "/state/demo", "{}").refusal(428, "lock_required");
        if root == "/locks/state" {
            assert_eq!(
                backend.force_unlock("admin", "demo").holder(),
                refused.holder(),
                "that one is not of this state alone"
            );
            assert_eq!(backend.ask("operator", "DELETE", root, "").status, 204);
        } else {
            assert_eq!(backend.force_unlock("admin", "demo").status, 200);
        }
    }
    assert_eq!(backend.lock("ann", "demo", "three").status, 200, "who was refused may lock when it is free");
    assert_eq!(backend.saved("demo").as_deref(), Some("{\"serial\":4}"));
}

fn of_those_who_lock_at_once_one_has_it(store: &str) {
    let backend = Backend::over(store);
    for round in 0..5 {
        let state = format!("race-{round}");
        let (backend, state) = (&backend, &*state);
        // Each of them twice at once, as a client does that gives up on an answer too soon.
        let granted: BTreeSet<String> = thread::scope(|scope| {
            let each = |number: usize| {
                let id = format!("{state}-{}", number / 2);
                scope.spawn(move || (backend.lock("ann", state, &id), id))
            };
            let all: Vec<_> = (0..12).map(each).collect();
            let answers = all.into_iter().map(|one| one.join().expect("no panic"));
            answers
                .filter_map(|(answer, id)| {
                    if answer.status != 200 {
                        answer.holder();
                    }
                    (answer.status == 200).then_some(id)
                })
                .collect()
        });
        assert_eq!(granted.len(), 1, "{granted:?}");
        let id = granted.first().expect("there is one");
        assert_eq!(backend.holder(state).as_ref(), Some(id));
        assert_eq!(backend.lock("ann", state, id).status, 200);
        assert_eq!(backend.unlock("ann", state, id).status, 200);
    }
}

#[test]
fn who_writes_a_state_lives_on() {
    let backend = Backend::over("memory:");
    assert_eq!(backend.lock("ann", "demo", "one").status, 200);
    let ends =
        || backend.ask("ann", "GET", "/locks/state/demo", "").json()["locks"][0]["expires_at"].as_str().map(str::to_owned);
    let (first, start) = (ends().expect("it ends"), Instant::now());
    while ends().as_ref() == Some(&first) {
        assert!(start.elapsed() < Duration::from_secs(60), "a write does not renew its lock");
        assert_eq!(backend.lock("ann", "demo", "one").status, 200, "which a repeat leaves as it is");
        assert_eq!(backend.save("ann", "demo", "one", "{}").status, 200);
    }
    assert!(ends() > Some(first));
}

/// An upload of `{}` under a lock, of which one byte has still to come.
fn upload(backend: &Backend, state: &str, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(backend.address()).expect("it listens");
    let head = format!(
        "POST /state/{state}?ID={id} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YW5uOng=\r\nContent-Length: 2\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    // It is under way as soon as the lock says so.
    let in_use = || backend.ask("ann", "GET", &format!("/locks/state/{state}"), "").json()["locks"][0]["in_use"] == true;
    let start = Instant::now();
    while !in_use() {
        assert!(start.elapsed() < Duration::from_secs(60), "the upload does not begin");
    }
    stream
}

#[test]
fn nobody_locks_over_an_upload_under_way_of_somebody_whose_lock_was_broken() {
    let backend = &Backend::over("memory:");
    for state in ["short", "long"] {
        assert_eq!(backend.lock("ann", state, "one").status, 200);
    }
    let (mut short, mut long) = (upload(backend, "short", "one"), upload(backend, "long", "one"));
    for state in ["short", "long"] {
        assert_eq!(backend.force_unlock("admin", state).status, 200);
    }
    thread::scope(|scope| {
        // One that does not end in time: Terraform is told something that it can print, and asks again if it has time.
        scope.spawn(|| {
            let refused = backend.lock("ben", "long", "two");
            refused.refusal(409, "write_in_progress");
            assert_eq!(refused.holder(), "write_in_progress");
            assert_eq!(backend.saved("long"), None);
        });
        // One that does is seen by whoever has the lock then.
        let patient = scope.spawn(|| (backend.lock("ben", "short", "two").status, backend.saved("short")));
        let waits = || backend.ask("ann", "GET", "/locks/state/short", "").json()["locks"][0]["state"] == "pending";
        while !patient.is_finished() && !waits() {
            thread::yield_now();
        }
        assert_eq!(backend.saved("short"), None);
        short.write_all(b"}").expect("it reads");
        assert_eq!(patient.join().expect("no panic"), (200, Some("{}".to_owned())));
    });
    long.write_all(b"}").expect("it reads");
    backend.save("ann", "short", "one", "{\"late\":1}").refusal(412, "lock_lost");
}

#[test]
fn what_is_printed_to_be_pasted_is_a_backend_block_for_this_address() {
    let backend = Backend::over("memory:");
    let block = backend.lines().join("\n");
    for setting in ["address        = ", "lock_address   = ", "unlock_address = "] {
        assert!(block.contains(&format!("{setting}\"http://{}/state/demo", backend.address())), "{block}");
    }
}

#[cfg(feature = "redis")]
#[test]
fn while_the_store_is_down_nothing_is_locked_or_written_and_states_are_read() {
    let server = crate::support::engines::RedisServer::start();
    let backend = Backend::over(&server.url());
    assert_eq!(backend.lock("ann", "demo", "one").status, 200);
    assert_eq!(backend.save("ann", "demo", "one", "{}").status, 200);
    server.kill();
    for (method, target, body) in [
        ("POST", "/state/demo?ID=one", "{\"lost\":1}".to_owned()),
        ("LOCK", "/state/demo/lock", info("two")),
        ("LOCK", "/state/demo/lock", info("one")),
        ("UNLOCK", "/state/demo/lock", info("one")),
        ("UNLOCK", "/state/demo/lock", String::new()),
    ] {
        let refused = backend.ask_once("admin", method, target, &[], body.as_bytes());
        refused.refusal(503, "store_unavailable");
        assert!(refused.header("retry-after").is_some(), "Terraform asks again: {refused:?}");
    }
    assert_eq!(backend.saved("demo").as_deref(), Some("{}"));
    server.restart();
}
