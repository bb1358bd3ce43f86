//! Many at once: one alone is granted a lock, and one alone ends it.

use std::{collections::BTreeSet, sync::Barrier, thread};

use super::kit::{Answer, Client, server};
use crate::support::example::on_every_store;

on_every_store!(of_many_who_lock_one_path_one_has_it_and_of_many_who_end_it_one_does);

/// More than most engines are asked at once by one process, and few enough that a busy machine answers in time.
const CROWD: usize = 12;

const ROUNDS: usize = 8;

fn of_many_who_lock_one_path_one_has_it_and_of_many_who_end_it_one_does(store: &str) {
    let server = server(store);
    let users: Vec<String> = (0..CROWD).map(|number| format!("user{number}")).collect();
    let clients: Vec<Client<'_>> = users.iter().map(|user| Client::new(&server, "paint", user)).collect();
    let admin = Client::new(&server, "paint", "admin");

    let (mut rounds, mut void) = (0, 0);
    while rounds < ROUNDS {
        // Both spellings of the repository are one. What is left of a round that proved nothing is in nobody's way.
        let path = format!("art/{}.bin", rounds + void);
        let answers = at_once(&clients, |number, client| {
            let suffixed = Client::new(&server, "paint.git", &users[number]);
            if number % 2 == 0 { client.lock(&path) } else { suffixed.lock(&path) }
        });
        // An engine that did not answer in time may have granted it all the same, and then takes it back: such a round
        // proves nothing.
        if is_late(&answers) {
            void += 1;
            assert!(void < 50, "the store does not keep up: {answers:?}");
            continue;
        }
        let winner = answers.iter().position(|answer| answer.status == 201).expect("somebody has it");
        let lock = answers[winner].json()["lock"].clone();
        assert_eq!(lock["owner"]["name"], users[winner]);
        for (number, answer) in answers.iter().enumerate().filter(|(number, _)| *number != winner) {
            let message = answer.failure(409);
            assert!(message.contains(&users[winner]), "{number}: {message}");
            assert_eq!(answer.json()["lock"], lock, "{number}");
        }

        let id = lock["id"].as_str().unwrap();
        let holder = clients[winner];
        let answers = at_once(&clients, |number, client| match number % 4 {
            0 => holder.unlock(id, false),
            1 => admin.unlock(id, true),
            2 if number != winner => client.unlock(id, true),
            // Somebody takes it as soon as it is free.
            _ => client.lock(&path),
        });
        if is_late(&answers) {
            void += 1;
            assert!(void < 50, "the store does not keep up: {answers:?}");
            continue;
        }
        let (mut granted, mut ended) = (BTreeSet::new(), 0);
        for (number, answer) in answers.iter().enumerate() {
            match (number % 4, answer.status) {
                (0 | 1, 200) => ended += 1,
                // It is gone already, it is not theirs, or it is not free yet.
                (0 | 1, 404) | (2, 403 | 404) | (2 | 3, 409) => {}
                (2 | 3, 201) => _ = granted.insert(answer.json()["lock"]["id"].as_str().unwrap().to_owned()),
                _ => panic!("{number}: {answer:?}"),
            }
        }
        assert_eq!(ended, 1, "{answers:?}");
        assert!(granted.len() <= 1, "{answers:?}");
        let (there, _) = admin.list(&format!("path={path}")).locks();
        let there: BTreeSet<String> = there.iter().map(|lock| lock["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(there, granted);
        rounds += 1;
    }
}

fn is_late(answers: &[Answer]) -> bool {
    answers.iter().any(|answer| answer.status == 503)
}

/// What each of them is answered, all having begun together.
fn at_once<'s>(clients: &[Client<'s>], ask: impl Fn(usize, Client<'s>) -> Answer + Sync) -> Vec<Answer> {
    let start = Barrier::new(clients.len());
    thread::scope(|scope| {
        let (start, ask) = (&start, &ask);
        let asking = |(number, client): (usize, &Client<'s>)| {
            let client = *client;
            scope.spawn(move || {
                start.wait();
                ask(number, client)
            })
        };
        let asking: Vec<_> = clients.iter().enumerate().map(asking).collect();
        asking.into_iter().map(|asking| asking.join().expect("it is answered")).collect()
    })
}
