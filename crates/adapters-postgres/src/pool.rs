//! Connections: opened at the first use, kept for further ones, and opened again if the server closed them.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{self, Metrics, Object, PoolError, RecycleError, RecycleResult};
use maqet_domain::port::{StoreError, VmCopies};
use maqet_domain::vm::VmId;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client};
use uuid::Uuid;

use crate::error::{Failure, cause, is_io, is_shutdown};
use crate::identity::Identity;
use crate::limits::Timeouts;
use crate::listener::News;
use crate::tls::TlsMode;
use crate::url::PostgresUrl;
use crate::{limits, read, schema};

/// A connection of the pool, to which it returns when it is dropped.
pub(crate) type Connection = Object<Connector>;

/// Connections to one database.
pub(crate) struct Pool {
    connections: managed::Pool<Connector>,
    connector: Arc<Settings>,
    /// When a sign of life was last sent.
    shown_at: Mutex<Option<Instant>>,
}

/// Opens connections.
pub(crate) struct Connector(Arc<Settings>);

struct Settings {
    url: PostgresUrl,
    identity: Arc<Identity>,
    copies: Option<Arc<dyn VmCopies>>,
    /// Whether a connection was open: a server that was there and is gone may be restarting.
    was_connected: AtomicBool,
    timeouts: Timeouts,
}

impl Pool {
    pub(crate) fn new(
        url: PostgresUrl,
        identity: Arc<Identity>,
        copies: Option<Arc<dyn VmCopies>>,
        timeouts: Timeouts,
    ) -> Self {
        let connector = Arc::new(Settings { url, identity, copies, was_connected: AtomicBool::new(false), timeouts });
        let pool = managed::Pool::builder(Connector(Arc::clone(&connector)))
            .max_size(limits::MAX_CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .build();
        Self {
            connections: pool.unwrap_or_else(|_| unreachable!("a runtime is given")),
            connector,
            shown_at: Mutex::new(None),
        }
    }

    /// Returns a connection to a database with the newest schema.
    pub(crate) async fn get(&self) -> Result<Connection, Failure> {
        // On the heap: a handshake is a large future.
        Box::pin(self.connections.get()).await.map_err(|error| match error {
            PoolError::Backend(failure) => failure,
            PoolError::Timeout(_)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_) => Failure::Value("the pool of connections is closed".into()),
        })
    }

    /// Returns a pool that does not compare the database with the copies, for VMs that are about to be added from them.
    pub(crate) fn without_copies(&self) -> Self {
        let Settings { url, identity, timeouts, .. } = &*self.connector;
        Self::new(url.clone(), Arc::clone(identity), None, *timeouts)
    }

    /// Opens a connection outside of the pool, whatever the schema is.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        Box::pin(connect(&self.connector, None)).await
    }

    /// Opens a connection that records notifications of events as `news`.
    pub(crate) async fn subscribe(&self, news: Arc<News>) -> Result<Client, Failure> {
        let client = Box::pin(connect(&self.connector, Some(Arc::clone(&news)))).await?;
        self.reply(client.batch_execute("LISTEN maqet_event")).await?;
        let schema = self.reply(client.query_typed_one("SELECT current_schema()::text", &[])).await?;
        news.only_of(schema.try_get(0)?);
        Ok(client)
    }

    /// Refuses a database that was created again and lacks VMs of which there are copies.
    pub(crate) async fn require_same(&self, client: &Client, id: Uuid) -> Result<(), Failure> {
        let Some(copies) = &self.connector.copies else { return Ok(()) };
        self.reply(require_same(client, &self.connector, &**copies, id)).await.map(drop)
    }

    /// Records that the copies are those of the database as it is now.
    pub(crate) async fn accept(&self) -> Result<(), Failure> {
        let Some(copies) = &self.connector.copies else { return Ok(()) };
        let client = self.connect().await?;
        let state = self.reply(schema::state(&client, self.url().location())).await?;
        match state.current_id() {
            Some(id) => copies.record_database_id(id).await.map_err(Failure::Value),
            None => Ok(()),
        }
    }

    /// Records that the host of `identity` is there, unless that was recorded a moment ago.
    ///
    /// A failure is no reason to fail: a standby is only read, and other reads will show the same.
    pub(crate) async fn show_life(&self, client: &Client, identity: &Identity) {
        // Without a row that is old enough, nothing is written; else it is not waited for the disk.
        const SHOW: &str = "INSERT INTO host SELECT $1, $2, now.at \
            FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint * 1000000 AS at) AS now, \
            set_config('synchronous_commit', 'off', true) \
            WHERE NOT EXISTS (SELECT FROM host WHERE host = $1 AND owner = $2 AND seen_at > now.at - $3) \
            ON CONFLICT (host, owner) DO UPDATE SET seen_at = excluded.seen_at WHERE host.seen_at < excluded.seen_at";

        if !self.is_sign_due() {
            return;
        }
        let interval = i64::try_from(limits::SIGN_OF_LIFE_INTERVAL.as_nanos()).unwrap_or(i64::MAX);
        let (host, owner) = (&identity.host, &identity.owner);
        let values: [(&(dyn ToSql + Sync), Type); 3] =
            [(host, Type::TEXT), (owner, Type::TEXT), (&interval, Type::INT8)];
        let _not_critical = self.reply(client.execute_typed(SHOW, &values)).await;
    }

    fn is_sign_due(&self) -> bool {
        let mut shown_at = self.shown_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = shown_at.is_none_or(|at| at.elapsed() >= limits::SIGN_OF_LIFE_INTERVAL);
        if is_due {
            *shown_at = Some(Instant::now());
        }
        is_due
    }

    pub(crate) fn url(&self) -> &PostgresUrl {
        &self.connector.url
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        self.connector.timeouts
    }

    /// Waits for a reply of the server.
    pub(crate) async fn reply<T, E: Into<Failure>>(
        &self,
        reply: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        self.reply_within(Duration::ZERO, reply).await
    }

    /// Waits for a reply that the server may hold back for `wait`.
    pub(crate) async fn reply_within<T, E: Into<Failure>>(
        &self,
        wait: Duration,
        reply: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        in_time(self.connector.timeouts.reply + wait, reply).await
    }
}

impl managed::Manager for Connector {
    type Type = Client;
    type Error = Failure;

    async fn create(&self) -> Result<Client, Failure> {
        let Settings { url, copies, timeouts, .. } = &*self.0;
        let client = connect(&self.0, None).await?;
        let location = url.location();
        let copies = copies.as_deref();
        let mut state = in_time(timeouts.reply, schema::state(&client, location)).await?;
        if state == schema::State::Absent
            && let Some(copies) = copies
        {
            let vms = copies.count().await;
            // Another host would take the empty database for that of its own VMs.
            if vms > 0 || copies.database_id().await.is_some() {
                return Err(StoreError::NotFound { location: location.to_owned(), vms }.into());
            }
        }
        if state.current_id().is_none() {
            in_time(timeouts.reply, schema::migrate(&client, location)).await?;
            state = in_time(timeouts.reply, schema::state(&client, location)).await?;
        }
        if let (Some(copies), Some(id)) = (copies, state.current_id()) {
            let is_known = in_time(timeouts.reply, require_same(&client, &self.0, copies, id)).await?;
            if !is_known {
                // Where it cannot be written, a loss of the database is noticed by its missing VMs.
                let _not_critical = copies.record_database_id(id).await;
            }
        }
        Ok(client)
    }

    async fn recycle(&self, client: &mut Client, _: &Metrics) -> RecycleResult<Failure> {
        if client.is_closed() {
            return Err(RecycleError::message("the server closed the connection"));
        }
        Ok(())
    }
}

/// Refuses a database that was created again and lacks VMs of which there are copies; returns whether its ID is recorded.
async fn require_same(client: &Client, settings: &Settings, copies: &dyn VmCopies, id: Uuid) -> Result<bool, Failure> {
    let known = copies.database_id().await;
    if known.is_none_or(|known| known == id) {
        return Ok(known.is_some());
    }
    let all = copies.all().await;
    let ids: Vec<VmId> = all.iter().map(|copy| copy.vm.entry.id).collect();
    let presence = read::presence(client, &ids, &settings.identity).await?;
    match all.iter().zip(presence).filter(|(copy, presence)| copy.is_missing(*presence)).count() {
        0 => Ok(false),
        vms => Err(StoreError::Replaced { location: settings.url.location().to_owned(), vms }.into()),
    }
}

/// Takes a connection out of the pool and closes it.
pub(crate) fn discard(connection: Connection) {
    drop(Object::take(connection));
}

/// Waits for a reply of the server.
async fn in_time<T, E: Into<Failure>>(
    limit: Duration,
    reply: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match timeout(limit, reply).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(Failure::TimedOut(limit)),
    }
}

/// Opens a connection; waits for a server that restarts or accepts no more connections.
async fn connect(settings: &Settings, news: Option<Arc<News>>) -> Result<Client, Failure> {
    let was_connected = settings.was_connected.load(Ordering::Relaxed);
    let deadline = Instant::now() + settings.timeouts.reconnect;
    let mut pause = limits::MIN_RETRY_INTERVAL;
    loop {
        match connect_in_time(&settings.url, news.as_ref()).await {
            Ok(client) => {
                settings.was_connected.store(true, Ordering::Relaxed);
                return Ok(client);
            }
            Err(failure) if may_pass(&failure, was_connected) && Instant::now() + pause < deadline => {
                sleep(with_jitter(pause)).await;
                pause = (pause * 2).min(limits::MAX_RETRY_INTERVAL);
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Returns whether another attempt may succeed soon: the server says so, or was there before.
fn may_pass(failure: &Failure, was_connected: bool) -> bool {
    (was_connected && failure.is_lost_connection())
        || failure.code().is_some_and(|code| *code == SqlState::TOO_MANY_CONNECTIONS || is_shutdown(code))
}

/// Returns a pause between half and all of `pause`, so that processes do not try in step.
pub(crate) fn with_jitter(pause: Duration) -> Duration {
    let random = Uuid::new_v4().as_u128() % 1000;
    let part = u32::try_from(random).unwrap_or_default();
    pause / 2 + pause * part / 2000
}

/// Opens a connection with TLS as the URL says.
async fn connect_in_time(url: &PostgresUrl, news: Option<&Arc<News>>) -> Result<Client, Failure> {
    let limit = url.connect_timeout();
    let connecting = async {
        match url.tls().mode {
            TlsMode::Disable => connect_with(url, SslMode::Disable, news).await,
            // As libpq: with TLS only if the server insists on it.
            TlsMode::Allow => match connect_with(url, SslMode::Disable, news).await {
                Err(Failure::Server(error)) if error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
                    connect_with(url, SslMode::Require, news).await
                }
                connected => connected,
            },
            TlsMode::Prefer => connect_with(url, SslMode::Prefer, news).await,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => {
                connect_with(url, SslMode::Require, news).await
            }
        }
    };
    match timeout(limit, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(Failure::TimedOut(limit)),
    }
}

async fn connect_with(url: &PostgresUrl, mode: SslMode, news: Option<&Arc<News>>) -> Result<Client, Failure> {
    let mut config = url.config()?;
    config.ssl_mode(mode);
    let connected = config.connect(url.tls().connector(mode)?).await;
    let (client, mut connection) = connected.map_err(|error| refused(url, error))?;
    let news = news.cloned();
    // Ends with the last request of a client that is dropped; its errors are those of the requests.
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let (AsyncMessage::Notification(notification), Some(news)) = (message, &news) {
                news.announce(notification.payload());
            }
        }
    });
    Ok(client)
}

/// Explains an error of this side of a handshake, for which the server has no code.
fn refused(url: &PostgresUrl, error: tokio_postgres::Error) -> Failure {
    let location = url.location().to_owned();
    if error.code().is_some() || is_io(&error) {
        return error.into();
    }
    let is_tls = error.to_string().contains("TLS");
    let source = cause(error);
    if is_tls {
        StoreError::Unreachable { location, source }.into()
    } else {
        // A password is missing, or the server does not know it either.
        StoreError::AccessRefused { location, source }.into()
    }
}
