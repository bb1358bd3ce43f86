//! Many clients at once: what is locked does not change under its holder.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{
    handler::{Fault, below},
    kit::{Client, Dav},
};

/// Writes by somebody without a token, each changing something at or below `/c`.
async fn disturb(client: &Client, round: usize) {
    let content = format!("{round}");
    let answer = match round % 9 {
        0 => client.put("/c/m", &content).await,
        1 => client.put("/c/new", &content).await,
        2 => client.delete("/c/new").await,
        3 => client.move_("/c/m", "/e/m").await,
        4 => client.move_("/e/m", "/c/m").await,
        5 => client.copy("/b", "/c/d/n").await,
        6 => client.mkcol("/c/col").await,
        7 => client.delete("/c/col").await,
        _ => client.proppatch("/c/m").await,
    };
    let status = answer.status.as_u16();
    assert!([201, 204, 207, 404, 405, 409, 412, 423].contains(&status), "{answer:?}");
}

/// G3, L-02, L-20, L-26: from the answer to LOCK to the UNLOCK nothing changes that is locked, whoever writes meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_locked_does_not_change_under_its_holder() {
    let dav = Arc::new(Dav::new());
    for method in ["PUT", "DELETE", "MOVE", "COPY", "MKCOL", "PROPPATCH", "HEAD"] {
        for path in ["/c/m", "/c/new", "/e/m", "/b", "/c/col"] {
            dav.handler.fault(method, path, Fault::Slow(3));
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicUsize::new(0));
    let writers = ["bob", "cid"].map(|user| {
        let (dav, stop, written) = (dav.clone(), stop.clone(), written.clone());
        tokio::spawn(async move {
            let mut round = 0;
            while !stop.load(Ordering::SeqCst) {
                disturb(&dav.as_(user), round).await;
                round += 1;
                written.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        })
    });
    let locked = |dav: &Dav| -> Vec<_> { dav.handler.tree().into_iter().filter(|(path, _)| below(path, "/c")).collect() };
    let mut held = 0;
    while held < 150 {
        let answer = dav.as_("ann").lock("/c").await;
        if answer.status != 200 {
            // It gave up on writes under way.
            assert!(answer.status == 409, "{answer:?}");
            continue;
        }
        held += 1;
        let before = locked(&dav);
        let seen = written.load(Ordering::SeqCst);
        // Until others have had their chance.
        while written.load(Ordering::SeqCst) < seen + 6 {
            tokio::task::yield_now().await;
        }
        assert_eq!(locked(&dav), before, "changed under the lock");
        dav.as_("ann").unlock("/c/m", &answer.token()).expect(204).await;
        let seen = written.load(Ordering::SeqCst);
        while written.load(Ordering::SeqCst) < seen + 4 {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    dav.assert_nothing_left(&[], "races").await;
}

/// L-02, G4: however many lock and unlock, nobody has a lock beside another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_two_hold_conflicting_locks() {
    let dav = Arc::new(Dav::new());
    let holders = Arc::new(AtomicUsize::new(0));
    let granted = Arc::new(AtomicUsize::new(0));
    let clients = ["ann", "bob", "cid", "dan"].map(|user| {
        let (dav, holders, granted) = (dav.clone(), holders.clone(), granted.clone());
        tokio::spawn(async move {
            let uris = ["/c", "/c/m", "/c/", "/c/d/n", "/c/new"];
            for round in 0..200 {
                // All of these overlap by the first.
                let uri = if round % 2 == 0 { "/c" } else { uris[round % uris.len()] };
                let answer = dav.as_(user).lock(uri).await;
                match answer.status.as_u16() {
                    200 | 201 if uri.trim_end_matches('/') == "/c" => {
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold /c");
                        tokio::task::yield_now().await;
                        granted.fetch_add(1, Ordering::SeqCst);
                        holders.fetch_sub(1, Ordering::SeqCst);
                        dav.as_(user).unlock(uri, &answer.token()).expect(204).await;
                    }
                    200 | 201 => drop(dav.as_(user).unlock(uri, &answer.token()).expect(204).await),
                    423 | 409 => {}
                    _ => panic!("{answer:?}"),
                }
            }
        })
    });
    for client in clients {
        client.await.unwrap();
    }
    assert!(granted.load(Ordering::SeqCst) > 0);
    dav.assert_nothing_left(&[], "races").await;
}
