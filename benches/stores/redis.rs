//! Redis: beside `PING` and `EXISTS` over the same client, one connection that all callers share.

use std::{sync::Arc, time::Duration};

use redis::{AsyncConnectionConfig, IntoConnectionInfo, aio::MultiplexedConnection};
use tower_lock::store::RedisStore;

use crate::{
    calls::{self, Store},
    engines::RedisServer,
    rounds::{Case, Plan, measure},
};

const PING: &str = "PING";
const EXISTS: &str = "EXISTS";

pub(crate) async fn measured(plan: Plan, held: u64) -> String {
    let server = RedisServer::start();
    let connection = connection(&server.url()).await;
    // Long enough for whatever else the machine does: limits are measured apart.
    let store = || RedisStore::builder(&server.url()).time_limit(Duration::from_secs(30));
    let guarded: Store = Arc::new(store().build().expect("a valid URL"));
    let checking: Store = Arc::new(store().check_only().build().expect("a valid URL"));
    calls::hold(&guarded, held).await;

    let ping = connection.clone();
    let exists = connection.clone();
    let cases = vec![
        Case::floor(PING, move |_| {
            let mut connection = ping.clone();
            async move { redis::cmd("PING").exec_async(&mut connection).await.expect("PING") }
        }),
        Case::of(EXISTS, PING, move |at| {
            let mut connection = exists.clone();
            async move { redis::cmd("EXISTS").arg(at).exec_async(&mut connection).await.expect("EXISTS") }
        }),
        Case::of_store("check", PING, &checking, calls::write),
        Case::of_store("check, against EXISTS", EXISTS, &checking, calls::write),
        Case::of_store("check of a DELETE", PING, &checking, calls::delete),
        Case::of_store("check, refused", PING, &checking, calls::refused),
        Case::of_store("guarded write, begin", PING, &guarded, calls::write),
        Case::of_store("guarded DELETE, begin", PING, &guarded, calls::delete),
        Case::of_store("acquire and release", PING, &guarded, calls::lock),
    ];
    measure(&format!("Redis, {held} locks held"), cases, plan).await
}

async fn connection(url: &str) -> MultiplexedConnection {
    let info = url.into_connection_info().expect("a valid URL");
    let settings = info.tcp_settings().clone().set_nodelay(true);
    let client = redis::Client::open(info.set_tcp_settings(settings)).expect("a valid URL");
    // As the store has it: a limit is put round each call, not into the connection.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await.expect("the server answers")
}
