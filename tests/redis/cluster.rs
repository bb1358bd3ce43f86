//! A cluster: all keys of a namespace lie in one slot, and the store goes to the node that has it.

use tower_lock::store::RedisStore;

use crate::{
    keys::everything,
    kit::{end, lock, put, run, tell, until},
    support::engines::RedisServer,
};

fn node() -> RedisServer {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    RedisServer::options().set("cluster-enabled", "yes").set("cluster-port", &port.to_string()).start()
}

fn info(server: &RedisServer, what: &str) -> String {
    redis::from_redis_value::<String>(tell(server, &["CLUSTER", what])).unwrap()
}

#[test]
fn every_step_stays_in_one_slot() {
    let server = node();
    tell(&server, &["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    run(async move {
        until(|| async { info(&server, "INFO") }, |info| info.contains("cluster_state:ok")).await;
        for namespace in ["app", "other"] {
            let store = RedisStore::builder(&server.url()).namespace(namespace);
            everything(&store.time_limit(std::time::Duration::from_secs(10)).build().unwrap()).await;
        }
    });
}

#[test]
fn a_store_follows_its_slot() {
    let (one, other) = (node(), node());
    tell(&one, &["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]);
    tell(&other, &["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]);
    tell(&one, &["CLUSTER", "SET-CONFIG-EPOCH", "1"]);
    tell(&other, &["CLUSTER", "SET-CONFIG-EPOCH", "2"]);
    let bus = info(&other, "NODES");
    let bus = bus.split_once('@').unwrap().1.split([' ', ',']).next().unwrap().to_owned();
    tell(&one, &["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), &bus]);
    run(async move {
        for server in [&one, &other] {
            until(|| async { info(server, "INFO") }, |info| info.contains("cluster_state:ok")).await;
        }
        for namespace in ["a", "b", "c", "d"] {
            let at = |server: &RedisServer| {
                let store = RedisStore::builder(&server.url()).namespace(namespace);
                store.time_limit(std::time::Duration::from_secs(10)).build().unwrap()
            };
            let (here, there) = (at(&one), at(&other));
            let (_, token) = lock(&here, "/a").await;
            assert!(put(&there, "/a").await.unwrap().refused().is_some(), "both talk to the node that has the slot");
            end(&there, &token).await;
            everything(&at(&other)).await;
        }
    });
}
