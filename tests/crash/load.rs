//! What the child does: several tasks that acquire, refresh, release, break and clear, and write down what is answered.

use std::{io::Write, path::Path, time::Duration};

use tower_lock::{
    MemoryStore,
    lock::{Gone, Reach},
    store::{Acquire, Acquired, Authority, Lifetime, LockStore, NewLock, Refreshed, Release, Released, Span, Which},
};

use super::{Random, ann, key, new, refresh, release};

const TASKS: u64 = 6;
/// Ends long after the test.
pub(super) const LONG: Duration = Duration::from_secs(3_600);
/// Ends before the next look at it.
const SHORT: Duration = Duration::from_millis(20);

/// One line, at once and whole.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

pub(super) async fn run(file: &Path, seed: u64) {
    let store = MemoryStore::open(file).unwrap();
    say("\nopen");
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        tasks.spawn(work(store.clone(), seed, task));
    }
    tasks.join_all().await;
}

async fn work(store: MemoryStore, seed: u64, task: u64) {
    let mut random = Random::new(seed * TASKS + task + 1);
    let mut mine: Vec<NewLock> = Vec::new();
    for step in 0_u64.. {
        let at = if mine.is_empty() { 0 } else { usize::try_from(random.below(mine.len() as u64)).unwrap() };
        match random.below(20) {
            0..9 => {
                let path = |part: &str| format!("/{seed}/{task}/{step}{part}");
                let several = random.below(4) == 0;
                let locks = if several { vec![new(&path("/a")), new(&path("/b"))] } else { vec![new(&path(""))] };
                let span = if random.below(8) == 0 { SHORT } else { LONG };
                if grant(&store, &locks, span).await && span == LONG {
                    mine.extend(locks);
                }
            }
            // Where others are too.
            9 => drop(grant(&store, &[new(&format!("/shared/{}", random.below(3)))], SHORT).await),
            10..12 if !mine.is_empty() => {
                let span = LONG + Duration::from_secs(step);
                say(&format!("? refresh {} {}", mine[at].parts.id, span.as_secs()));
                match refresh(&store, &mine[at].token, Span::For(span)).await.unwrap() {
                    Refreshed::Refreshed(lock, _) => {
                        say(&format!("! refresh {} {}", lock.id(), lock.expires_at().unwrap().as_micros()));
                    }
                    other => panic!("{other:?}"),
                }
            }
            12..16 if !mine.is_empty() => {
                let lock = mine.swap_remove(at);
                say(&format!("? end {}", lock.parts.id));
                let released = release(&store, &lock.token).await.unwrap();
                assert!(matches!(released, Released::Released(_)), "{released:?}");
                say(&format!("! end {}", lock.parts.id));
            }
            16 if !mine.is_empty() => {
                let lock = mine.swap_remove(at);
                say(&format!("? end {}", lock.parts.id));
                let authority = Authority::Break { actor: Some(&ann()), reason: "night work", grace: Duration::ZERO };
                let broken = store.release(&Release::new(Which::Id(lock.parts.id), authority)).await.unwrap();
                assert!(matches!(broken, Released::Released(_)), "{broken:?}");
                say(&format!("! end {}", lock.parts.id));
            }
            17 if !mine.is_empty() => {
                let lock = mine.swap_remove(at);
                say(&format!("? end {}", lock.parts.id));
                let gone = [Gone { key: key(lock.parts.root.path()), reach: Reach::AtOrBelow }];
                assert_eq!(store.clear(&gone, None).await.unwrap(), 1);
                say(&format!("! end {}", lock.parts.id));
            }
            _ => {
                // A token that is released before it was ever seen.
                let burnt = new(&format!("/burnt/{seed}/{task}/{step}"));
                say(&format!("? burn {} {}", burnt.parts.id, burnt.token.urn()));
                assert!(matches!(release(&store, &burnt.token).await.unwrap(), Released::Lost(_)));
                say(&format!("! burn {}", burnt.parts.id));
            }
        }
        // A slow step now and then, so that the others share commits.
        if random.below(50) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn grant(store: &MemoryStore, locks: &[NewLock], span: Duration) -> bool {
    let ids: Vec<String> = locks.iter().map(|lock| format!("{} {}", lock.parts.id, lock.token.urn())).collect();
    say(&format!("? acquire {}", ids.join(" ")));
    let lifetime = Lifetime { span: Some(span), most: None, total: None };
    match store.acquire(&Acquire::new(locks, Some(&ann())).living(lifetime)).await.unwrap() {
        Acquired::Granted(granted) => {
            let line = |lock: &tower_lock::Lock| {
                format!("{} {} {}", lock.id(), lock.generation(), lock.expires_at().unwrap().as_micros())
            };
            say(&format!("! acquire {}", granted.iter().map(line).collect::<Vec<_>>().join(" ")));
            true
        }
        Acquired::Conflict(_) => {
            locks.iter().for_each(|lock| say(&format!("! refused {}", lock.parts.id)));
            false
        }
        other => panic!("{other:?}"),
    }
}
