//! `Link`: the one connection of a store, made when it is first needed and made anew when it breaks.
//!
//! All calls share it and are answered in the order in which they were sent, so nothing is done twice to wait for one
//! another. Whoever finds it broken starts to connect; the others wait for the same attempt, each no longer than its own
//! limit. Between attempts that fail there is a pause, in which calls fail at once.

use std::{
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use parking_lot::RwLock;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisError, ServerErrorKind, Value, aio::MultiplexedConnection,
};
use tokio::{
    sync::Mutex,
    task::{JoinHandle, unconstrained},
    time::Instant,
};

use super::{
    error::store_error,
    scripts::{self, Script},
};
use crate::store::{StoreError, StoreErrorKind, remote::deadline::within};

/// Calls that may wait to be sent.
const BUFFER: usize = 1024;
/// The pause after the first attempt that fails, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// How to reach the engine, and whether it is reached.
pub(super) struct Link {
    info: ConnectionInfo,
    limit: Duration,
    live: RwLock<Option<Live>>,
    attempt: Mutex<Attempt>,
    /// Held while a call is put together and queued.
    order: parking_lot::Mutex<()>,
    /// Numbers the connections, so that an old one's failure does not close a new one.
    serial: AtomicU64,
}

/// A connection that stands, as far as is known.
#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    serial: u64,
    gone: Arc<AtomicBool>,
}

/// What is known of attempts to connect.
#[derive(Default)]
struct Attempt {
    running: Option<JoinHandle<Result<MultiplexedConnection, RedisError>>>,
    gone: Arc<AtomicBool>,
    /// Another node of a cluster, which has the slot of the store.
    moved: Option<ConnectionAddr>,
    failed: Option<Failed>,
}

/// Says so when it is dropped.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

struct Failed {
    error: RedisError,
    pause: Duration,
    until: Instant,
}

impl Link {
    pub(super) fn new(info: ConnectionInfo, limit: Duration) -> Self {
        Self {
            info: prepared(info),
            limit,
            live: RwLock::default(),
            attempt: Mutex::default(),
            order: parking_lot::Mutex::default(),
            serial: AtomicU64::new(0),
        }
    }

    /// How long a call may take, connecting included.
    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    /// Makes a connection of its own, for events; `push` hears of them, and of its end.
    pub(super) async fn subscribe<F>(&self, channel: &str, push: F) -> Result<MultiplexedConnection, StoreError>
    where
        F: Fn(PushInfo) + Send + Sync + 'static,
    {
        let info = match self.attempt.lock().await.moved.clone() {
            Some(moved) => self.info.clone().set_addr(moved),
            None => self.info.clone(),
        };
        let config = config().set_push_sender(move |info| {
            push(info);
            Ok::<(), redis::aio::SendError>(())
        });
        let work = async {
            let failed = |error| store_error("watching locks", error);
            let client = Client::open(info).map_err(failed)?;
            let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(failed)?;
            connection.subscribe(channel).await.map_err(failed)?;
            Ok(connection)
        };
        within(patience(self.limit), "watching locks", work).await
    }

    /// Sends commands in one flight, as `commands` puts them together at the last moment, and answers what each came to.
    pub(super) async fn send<T>(
        &self,
        doing: &'static str,
        commands: impl FnOnce() -> (Flight, T),
    ) -> Result<(Vec<Value>, T), StoreError> {
        let Live { connection, serial, .. } = self.live(doing).await?;
        let mut commands = Some(commands);
        let queued = poll_fn(|cx| {
            let Some(commands) = commands.take() else { return Poll::Pending };
            // From here until it stands in the queue of the connection nobody else's is put together: what one call has
            // taken along, no later one overtakes.
            let _order = self.order.lock();
            let (flight, kept) = commands();
            let mut connection = connection.clone();
            // A task whose budget is spent would not be queued by its first poll.
            let mut work = Box::pin(unconstrained(async move {
                match &flight {
                    Flight::None => Ok(Vec::new()),
                    Flight::One(command) => connection.send_packed_command(command).await.map(|value| vec![value]),
                    Flight::Many(pipeline, count) => connection.send_packed_commands(pipeline, 0, *count).await,
                }
            }));
            let answer = work.as_mut().poll(cx);
            Poll::Ready((work, answer, kept))
        });
        let (work, answer, kept) = queued.await;
        let answer = match answer {
            Poll::Ready(answer) => answer,
            Poll::Pending => work.await,
        };
        match answer {
            Ok(values) => {
                self.look_through(&values, serial).await;
                Ok((values, kept))
            }
            Err(error) => {
                self.forget(serial);
                Err(store_error(doing, error))
            }
        }
    }

    /// A node that has the slot no more, or takes no more writes, is left.
    async fn look_through(&self, values: &[Value], serial: u64) {
        let errors = values.iter().filter_map(|value| match value {
            Value::ServerError(error) => Some(error),
            _ => None,
        });
        for error in errors {
            match error.kind() {
                Some(ServerErrorKind::Moved) => {
                    let mut attempt = self.attempt.lock().await;
                    attempt.moved = error.details().and_then(|slot| self.moved_to(slot));
                    drop(attempt);
                    self.forget(serial);
                }
                Some(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => self.forget(serial),
                _ => {}
            }
        }
    }

    /// From `slot host:port`.
    fn moved_to(&self, slot: &str) -> Option<ConnectionAddr> {
        let (host, port) = slot.split_ascii_whitespace().nth(1)?.rsplit_once(':')?;
        let port = port.parse().ok()?;
        let same_host = |own: &str| if host.is_empty() { own.to_owned() } else { host.to_owned() };
        match self.info.addr().clone() {
            ConnectionAddr::Tcp(own, _) => Some(ConnectionAddr::Tcp(same_host(&own), port)),
            ConnectionAddr::TcpTls { host: own, insecure, tls_params, .. } => {
                Some(ConnectionAddr::TcpTls { host: same_host(&own), port, insecure, tls_params })
            }
            _ => None,
        }
    }

    /// Lets a connection go, so that the next call makes another.
    pub(super) fn forget(&self, serial: u64) {
        let mut live = self.live.write();
        if live.as_ref().is_some_and(|live| live.serial == serial) {
            *live = None;
        }
    }

    /// Lets whatever connection there is go: it did not answer in time.
    pub(super) fn forget_all(&self) {
        *self.live.write() = None;
    }

    fn standing(&self) -> Option<Live> {
        self.live.read().as_ref().filter(|live| !live.gone.load(Ordering::Acquire)).cloned()
    }

    async fn live(&self, doing: &'static str) -> Result<Live, StoreError> {
        if let Some(live) = self.standing() {
            return Ok(live);
        }
        let mut attempt = self.attempt.lock().await;
        if let Some(live) = self.standing() {
            return Ok(live);
        }
        if attempt.running.is_none() {
            if let Some(failed) = attempt.failed.as_ref().filter(|failed| Instant::now() < failed.until) {
                return Err(store_error(doing, failed.error.clone()));
            }
            self.start(&mut attempt);
        }
        let Attempt { running: Some(running), .. } = &mut *attempt else {
            return Err(StoreError::new(StoreErrorKind::Unavailable, doing));
        };
        // Whoever stops waiting leaves the attempt to the next.
        let answer = running.await;
        attempt.running = None;
        match answer {
            Ok(Ok(connection)) => {
                attempt.failed = None;
                let serial = self.serial.fetch_add(1, Ordering::Relaxed) + 1;
                let live = Live { connection, serial, gone: attempt.gone.clone() };
                *self.live.write() = Some(live.clone());
                Ok(live)
            }
            Ok(Err(error)) => {
                // Perhaps the cluster has moved on since.
                attempt.moved = None;
                let pause = attempt.failed.take().map_or(PAUSES.0, |failed| (failed.pause * 2).min(PAUSES.1));
                attempt.failed = Some(Failed { error: error.clone(), pause, until: Instant::now() + jittered(pause) });
                Err(store_error(doing, error))
            }
            // Its runtime has gone.
            Err(error) => Err(StoreError::new(StoreErrorKind::Unavailable, doing).caused_by(error)),
        }
    }

    fn start(&self, attempt: &mut Attempt) {
        let gone = Arc::new(AtomicBool::new(false));
        attempt.gone = gone.clone();
        let info = match attempt.moved.clone() {
            Some(moved) => self.info.clone().set_addr(moved),
            None => self.info.clone(),
        };
        let limit = patience(self.limit);
        attempt.running = Some(tokio::spawn(async move {
            // It goes with the task that serves the connection, whatever ends that.
            let gone = Gone(gone);
            let config = config().set_push_sender(move |_: PushInfo| {
                let _ = &gone;
                Ok::<(), redis::aio::SendError>(())
            });
            let connect = async {
                let client = Client::open(info)?;
                let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
                // An engine that was started anew knows no scripts. What is refused here is told by the first call.
                let mut load = redis::Pipeline::new();
                for script in scripts::all() {
                    load.cmd("SCRIPT").arg("LOAD").arg(&script.code);
                }
                connection.send_packed_commands(&load, 0, load.len()).await?;
                Ok(connection)
            };
            match tokio::time::timeout(limit, connect).await {
                Ok(answer) => answer,
                Err(_) => Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))),
            }
        }));
    }
}

/// What is sent in one go.
pub(super) enum Flight {
    None,
    One(Cmd),
    Many(redis::Pipeline, usize),
}

/// A script as a command.
pub(super) fn evaluate(script: &Script, keys: &[String], arguments: &[&[u8]]) -> Cmd {
    run("EVALSHA", &script.hash, keys, arguments)
}

/// The same with the script itself, for an engine that does not know it.
pub(super) fn introduce(script: &Script, keys: &[String], arguments: &[&[u8]]) -> Cmd {
    run("EVAL", &script.code, keys, arguments)
}

fn run(verb: &str, script: &str, keys: &[String], arguments: &[&[u8]]) -> Cmd {
    let size = keys.iter().map(String::len).chain(arguments.iter().map(|argument| argument.len())).sum::<usize>();
    let mut command = Cmd::with_capacity(keys.len() + arguments.len() + 3, size + script.len() + 16);
    command.arg(verb).arg(script).arg(keys.len());
    for key in keys {
        command.arg(key);
    }
    for argument in arguments {
        command.arg(*argument);
    }
    command
}

/// Connecting may take longer than a call, whose limit would cut off every attempt over a long way.
fn patience(limit: Duration) -> Duration {
    (limit * 4).max(Duration::from_secs(1))
}

/// Our limit stands round every call; the client's own would only be another.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None).set_pipeline_buffer_size(BUFFER)
}

/// Small packets are sent at once, and the engine tells us when it hangs up.
fn prepared(info: ConnectionInfo) -> ConnectionInfo {
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    info.set_tcp_settings(tcp).set_redis_settings(redis)
}

/// Where an engine is, from its URL.
pub(super) fn info_of(url: &str) -> Result<ConnectionInfo, StoreError> {
    url.into_connection_info().map_err(|error| store_error("reading the URL of the engine", error))
}

/// Between three quarters and five quarters, so that the nodes of a fleet do not come all at once.
fn jittered(pause: Duration) -> Duration {
    let (bits, _) = uuid::Uuid::new_v4().as_u64_pair();
    pause.mul_f64(0.75 + 0.5 * (bits as f64 / u64::MAX as f64))
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("connected", &self.standing().is_some()).finish_non_exhaustive()
    }
}
