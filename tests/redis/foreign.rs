//! Keys that hold what this release did not write: a clear error, and never an admitted write.

use tower_lock::{
    LockStore,
    lock::{Gone, Reach, Target},
    store::{LockQuery, RedisStore, StoreErrorKind},
};

use crate::{
    kit::{acquire, beside, builder, end, failed, key, lock, new, put, release, run, with_token, write},
    support::engines::RedisServer,
};

/// Everything that can be asked fails so.
async fn refuses_everything(store: &RedisStore) {
    let incompatible = StoreErrorKind::Incompatible;
    failed(put(store, "/a/b").await, incompatible);
    failed(write(store, &[Target::unlink(key("/a"))]).await, incompatible);
    failed(acquire(store, &[new(key("/a"))]).await, incompatible);
    failed(store.find(&LockQuery::covering(key("/a/b"))).await, incompatible);
}

#[test]
fn another_application_has_the_keys() {
    let server = RedisServer::start();
    run(async move {
        let at = |name: &str| format!("tower-lock:{{taken}}:{name}");
        let stores =
            [builder(&server), builder(&server).check_only()].map(|store| store.namespace("taken").build().unwrap());
        for command in [
            redis::cmd("SET").arg(at("locks")).arg("hello"),
            redis::cmd("HSET").arg(at("locks")).arg("hello").arg("world"),
            redis::cmd("HSET").arg(at("locks")).arg("schema").arg("2"),
            redis::cmd("HSET").arg(at("locks")).arg("schema").arg(""),
        ] {
            command.exec(&mut beside(&server)).unwrap();
            refuses_everything(&stores[0]).await;
            if command.args_iter().count() == 4 && command.args_iter().any(|arg| arg == redis::Arg::Simple(b"schema")) {
                refuses_everything(&stores[1]).await;
            }
            redis::cmd("DEL").arg(at("locks")).exec(&mut beside(&server)).unwrap();
        }
        lock(&stores[0], "/a").await;
    });
}

#[test]
fn an_index_of_another_type_is_told() {
    let server = RedisServer::start();
    run(async move {
        let store = builder(&server).namespace("half").build().unwrap();
        let (_, token) = lock(&store, "/a").await;
        for name in ["leases", "writes", "points"] {
            let at = format!("tower-lock:{{half}}:{name}");
            redis::cmd("DEL").arg(&at).exec(&mut beside(&server)).unwrap();
            redis::cmd("SET").arg(&at).arg("hello").exec(&mut beside(&server)).unwrap();
            failed(put(&store, "/free").await, StoreErrorKind::Incompatible);
            redis::cmd("DEL").arg(&at).exec(&mut beside(&server)).unwrap();
        }
        assert!(put(&store, "/free").await.unwrap().admitted().is_some());
        end(&store, &token).await;
    });
}

/// Records that are cut short, longer than they should be, or nonsense.
#[test]
fn a_record_that_cannot_be_read_admits_nobody() {
    let server = RedisServer::start();
    run(async move {
        let stores = [builder(&server), builder(&server).check_only()].map(|store| store.namespace("torn").build().unwrap());
        let store = &stores[0];
        let (_, token) = lock(store, "/a").await;
        let at = "tower-lock:{torn}:locks";
        let fields: Vec<(Vec<u8>, Vec<u8>)> = redis::cmd("HGETALL").arg(at).query(&mut beside(&server)).unwrap();
        let (place, good) = fields.into_iter().find(|(field, _)| field.len() == 16).expect("a lock is there");
        let mut other_form = good.clone();
        other_form[7] = b'2';
        let nonsense = good.iter().map(|byte| byte ^ 0x55).collect();
        let halves = [1, 4, 20, 80, 120, good.len() - 1].map(|length| good[..length].to_vec());
        for bad in halves.into_iter().chain([other_form, nonsense, b"hello".to_vec(), [&*good, b"!"].concat()]) {
            redis::cmd("HSET").arg(at).arg(&place).arg(&bad).exec(&mut beside(&server)).unwrap();
            for store in &stores {
                failed(put(store, "/a/b").await, StoreErrorKind::Incompatible);
                failed(with_token(store, &[Target::write(key("/a"))], token).await, StoreErrorKind::Incompatible);
                failed(store.find(&LockQuery::covering(key("/a/b"))).await, StoreErrorKind::Incompatible);
            }
            failed(acquire(store, &[new(key("/a/c"))]).await, StoreErrorKind::Incompatible);
            failed(release(store, &token).await, StoreErrorKind::Incompatible);
            let gone = [Gone { key: key("/a"), reach: Reach::AtOrBelow }];
            failed(store.clear(&gone, None).await, StoreErrorKind::Incompatible);
        }
        redis::cmd("HSET").arg(at).arg(&place).arg(&good).exec(&mut beside(&server)).unwrap();
        assert!(put(store, "/a/b").await.unwrap().refused().is_some(), "and nothing was half done");
        end(store, &token).await;
    });
}
