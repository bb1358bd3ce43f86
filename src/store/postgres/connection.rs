//! Connections: made when they are needed, checked before they are used, replaced when they fail.
//!
//! Calls that may wait for a lock in the server have a connection to themselves, from a small pool. Plain reads share two,
//! in which they follow one another without waiting for each other's answers. A connection whose call was given up is
//! closed: what it would still answer is nobody's.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use parking_lot::Mutex;
use tokio::{
    sync::{OnceCell, Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, Error, Row, Socket, Statement,
    tls::{MakeTlsConnect, TlsConnect},
    types::ToSql,
};

use super::{
    error,
    schema::Schema,
    statements::{CALLS, Call},
};
use crate::store::{StoreError, StoreErrorKind};

/// Connections that plain reads share.
const SHARED: usize = 2;
/// How long a connection is used, at most.
const AGE: Duration = Duration::from_secs(600);
/// The first pause after a failure to connect, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// What the server sends on a connection, while somebody reads it.
pub(super) type Messages = Pin<Box<dyn Stream<Item = Result<AsyncMessage, Error>> + Send>>;
pub(super) type Connecting = Pin<Box<dyn Future<Output = Result<(Client, Messages), Error>> + Send>>;

/// How connections are made, whichever TLS they use.
pub(super) trait Connect: Send + Sync + 'static {
    fn connect(&self, config: Config) -> Connecting;
}

/// Connections by a connector of the client crate's.
pub(super) struct By<T>(pub(super) T);

impl<T> Connect for By<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn connect(&self, config: Config) -> Connecting {
        let tls = self.0.clone();
        Box::pin(async move {
            let (client, connection) = config.connect(tls).await?;
            let messages: Messages = Box::pin(Driver(connection));
            Ok((client, messages))
        })
    }
}

struct Driver<T>(Connection<Socket, T>);

impl<T: tokio_postgres::tls::TlsStream + Unpin> Stream for Driver<T> {
    type Item = Result<AsyncMessage, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_message(cx)
    }
}

/// Reads what comes and drops it, until the connection ends.
struct Drive(Messages);

impl Future for Drive {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(Ok(_)) = ready!(self.0.as_mut().poll_next(cx)) {}
        Poll::Ready(())
    }
}

/// Reads what comes on a connection and drops it, until it ends.
pub(super) fn drive(messages: Messages) -> impl Future<Output = ()> + Send {
    Drive(messages)
}

/// Whether statements are prepared once per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statements {
    Prepared,
    /// Sent with every call, and nothing set for the session: for proxies that give every transaction another session.
    Unprepared,
}

/// One connection, ready for use.
pub(super) struct Conn {
    client: Client,
    prepared: [OnceCell<Statement>; CALLS],
    statements: Statements,
    /// Until when it is used: plans that were made for a small table are not kept for ever.
    until: Instant,
}

impl Conn {
    pub(super) async fn call(&self, sql: &Sql, call: Call, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        let (text, types) = (&sql.0[call as usize], call.types());
        match self.statements {
            Statements::Prepared => {
                let statement =
                    self.prepared[call as usize].get_or_try_init(|| self.client.prepare_typed(text, types)).await?;
                self.client.query(statement, params).await
            }
            Statements::Unprepared => {
                let typed: Vec<_> = params.iter().copied().zip(types.iter().cloned()).collect();
                self.client.query_typed(text, &typed).await
            }
        }
    }

    fn is_over(&self) -> bool {
        self.client.is_closed() || Instant::now() >= self.until
    }
}

/// The text of every call, with the schema's name in it.
pub(super) struct Sql([String; CALLS]);

impl Sql {
    pub(super) fn new(schema: &Schema) -> Self {
        Self(std::array::from_fn(|at| schema.fill(Call::ALL[at].text())))
    }
}

/// How long to leave a server alone that could not be reached.
#[derive(Default)]
struct Backoff {
    failures: u32,
    until: Option<Instant>,
    last: Option<String>,
}

pub(super) struct Connections {
    config: Config,
    connect: Box<dyn Connect>,
    pub(super) statements: Statements,
    pub(super) schema: Schema,
    pub(super) sql: Sql,
    limit: Duration,
    free: Semaphore,
    idle: Mutex<Vec<Conn>>,
    shared: [Shared; SHARED],
    backoff: Mutex<Backoff>,
}

#[derive(Default)]
struct Shared {
    conn: Mutex<Option<Arc<Conn>>>,
    making: tokio::sync::Mutex<()>,
    /// Calls under way.
    calls: AtomicUsize,
}

impl Connections {
    pub(super) fn new(
        mut config: Config,
        connect: Box<dyn Connect>,
        schema: &str,
        statements: Statements,
        limit: Duration,
        most: usize,
    ) -> Self {
        let schema = Schema::new(schema);
        config.connect_timeout(limit).keepalives(true).keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(limit * 4);
        if config.get_application_name().is_none() {
            config.application_name("tower-lock");
        }
        Self {
            config,
            connect,
            statements,
            sql: Sql::new(&schema),
            schema,
            limit,
            free: Semaphore::new(most.max(1)),
            idle: Mutex::default(),
            shared: Default::default(),
            backoff: Mutex::default(),
        }
    }

    /// A connection as it comes, for what is not part of a call.
    pub(super) async fn bare(&self) -> Result<(Client, Messages), StoreError> {
        if let Some(error) = self.too_soon() {
            return Err(error);
        }
        match self.connect.connect(self.config.clone()).await {
            Ok(made) => {
                *self.backoff.lock() = Backoff::default();
                Ok(made)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn make(&self) -> Result<Conn, StoreError> {
        let (client, messages) = self.bare().await?;
        tokio::spawn(Drive(messages));
        let mut hello = String::new();
        if self.statements == Statements::Prepared {
            // A call that was given up does not go on for ever. The plans are made once, for tables of any size.
            let limit = self.limit.as_millis() + 50;
            hello = format!(
                "SET statement_timeout = {limit}; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; \
                 SET enable_bitmapscan = off; SET jit = off; "
            );
        }
        hello += &self.schema.question();
        self.schema.check(client.simple_query(&hello).await)?;
        let until = Instant::now() + jitter(AGE);
        Ok(Conn { client, prepared: [const { OnceCell::const_new() }; CALLS], statements: self.statements, until })
    }

    fn too_soon(&self) -> Option<StoreError> {
        let backoff = self.backoff.lock();
        let until = backoff.until.filter(|until| Instant::now() < *until)?;
        let left = until.saturating_duration_since(Instant::now());
        let error = StoreError::new(StoreErrorKind::Unavailable, format!("connecting; the next try is in {left:?}"));
        Some(match backoff.last.clone() {
            Some(last) => error.caused_by(last),
            None => error,
        })
    }

    fn failed(&self, error: Error) -> StoreError {
        let last = error.to_string();
        let mut answer = error::store_error("connecting", error);
        if answer.kind() == StoreErrorKind::Other {
            answer = StoreError::new(StoreErrorKind::Unavailable, "connecting").caused_by(answer);
        }
        let mut backoff = self.backoff.lock();
        let pause = PAUSE.0.saturating_mul(1 << backoff.failures.min(10)).min(PAUSE.1);
        backoff.failures += 1;
        backoff.last = Some(last);
        backoff.until = Some(Instant::now() + jitter(pause));
        answer
    }

    /// A connection of the caller's own, until it is given back.
    pub(super) async fn own(&self) -> Result<Own<'_>, StoreError> {
        let Ok(permit) = self.free.acquire().await else {
            return Err(StoreError::new(StoreErrorKind::Other, "the connections are closed"));
        };
        loop {
            let idle = self.idle.lock().pop();
            match idle {
                Some(conn) if conn.is_over() => {}
                Some(conn) => return Ok(Own { connections: self, conn: Some(conn), _permit: permit }),
                None => break,
            }
        }
        let conn = self.make().await?;
        Ok(Own { connections: self, conn: Some(conn), _permit: permit })
    }

    /// One of the connections that plain reads share: the first, unless more is under way there than in another. Who is
    /// alone stays with one process of the server.
    pub(super) async fn shared(&self) -> Result<InShared<'_>, StoreError> {
        let [first, rest @ ..] = &self.shared;
        let calls = |shared: &Shared| shared.calls.load(Ordering::Relaxed);
        let shared = rest.iter().fold(first, |least, other| if calls(other) < calls(least) { other } else { least });
        shared.calls.fetch_add(1, Ordering::Relaxed);
        let mut call = InShared { connections: self, shared, conn: shared.open(), since: Instant::now(), open: true };
        if call.conn.is_none() {
            let _making = shared.making.lock().await;
            call.conn = shared.open();
            if call.conn.is_none() {
                let conn = Arc::new(self.make().await?);
                *shared.conn.lock() = Some(conn.clone());
                call.conn = Some(conn);
            }
        }
        Ok(call)
    }
}

/// A call in a shared connection. Given up before it was done, and not by the caller's own haste, nobody uses that
/// connection any more.
pub(super) struct InShared<'c> {
    connections: &'c Connections,
    shared: &'c Shared,
    conn: Option<Arc<Conn>>,
    since: Instant,
    open: bool,
}

impl InShared<'_> {
    pub(super) async fn call(&self, call: Call, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        match &self.conn {
            Some(conn) => conn.call(&self.connections.sql, call, params).await,
            None => Ok(Vec::new()),
        }
    }

    pub(super) fn done(mut self) {
        self.open = false;
    }
}

impl Drop for InShared<'_> {
    fn drop(&mut self) {
        self.shared.calls.fetch_sub(1, Ordering::Relaxed);
        let Some(conn) = self.conn.as_ref().filter(|_| self.open) else { return };
        if conn.is_over() || self.since.elapsed() > self.connections.limit / 2 {
            let mut held = self.shared.conn.lock();
            if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, conn)) {
                *held = None;
            }
        }
    }
}

impl Shared {
    fn open(&self) -> Option<Arc<Conn>> {
        self.conn.lock().clone().filter(|conn| !conn.is_over())
    }
}

/// A connection of one's own. Closed unless it is given back.
pub(super) struct Own<'c> {
    connections: &'c Connections,
    conn: Option<Conn>,
    _permit: SemaphorePermit<'c>,
}

impl Own<'_> {
    pub(super) async fn call(&self, call: Call, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        match &self.conn {
            Some(conn) => conn.call(&self.connections.sql, call, params).await,
            None => Ok(Vec::new()),
        }
    }

    /// It has answered, and may be used again.
    pub(super) fn give_back(mut self) {
        if let Some(conn) = self.conn.take().filter(|conn| !conn.is_over()) {
            self.connections.idle.lock().push(conn);
        }
    }
}

/// Between half of it and all of it, so that nodes which lost the server together do not come back together.
fn jitter(pause: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_u64_pair().1;
    pause / 2 + (pause / 2).mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}
