//! What is compared: each locks by key in the same Redis, over one connection.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lock_store::{LockStore, RedisConfig, RedisLockStore, Timing};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, Script,
};

/// How long a lock is held at most: longer than the whole benchmark takes.
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);

/// Something that locks by key. Clones share its connection.
pub(crate) trait Contender: Clone + Send + 'static {
    const NAME: &'static str;
    type Held: Send;

    fn lock(&mut self, key: &str) -> impl Future<Output = Self::Held> + Send;
    fn release(&mut self, held: Self::Held) -> impl Future<Output = ()> + Send;
}

/// A store as a user makes it, with these times.
pub(crate) async fn store(url: &str) -> LockStore {
    let timing = Timing {
        lock_lifetime: LIFETIME,
        ..Timing::default()
    };
    let redis = RedisLockStore::connect(&RedisConfig::from_url(url)).await;
    LockStore::with_timing(redis.unwrap(), timing).unwrap()
}

impl Contender for LockStore {
    const NAME: &'static str = "lock-store";
    type Held = lock_store::LockGuard;

    async fn lock(&mut self, key: &str) -> Self::Held {
        LockStore::lock(self, key).await.unwrap()
    }

    async fn release(&mut self, held: Self::Held) {
        held.release().await.unwrap();
    }
}

/// What many services write themselves, and the least that a lock in Redis can
/// cost: no queue, no waiting, no limit to a reply, no second attempt.
#[derive(Clone)]
pub(crate) struct BarePair {
    connection: MultiplexedConnection,
    hash: Arc<str>,
    token: Arc<AtomicU64>,
}

impl BarePair {
    const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
                           return redis.call('DEL', KEYS[1]) else return 0 end";

    pub(crate) async fn connect(url: &str) -> Self {
        let mut connection = connect(url).await;
        let script = Script::new(Self::RELEASE);
        script.load_async(&mut connection).await.unwrap();
        Self {
            connection,
            hash: script.get_hash().into(),
            token: Arc::default(),
        }
    }
}

impl Contender for BarePair {
    const NAME: &'static str = "SET NX PX, then a script: the bare pair";
    type Held = (String, String);

    async fn lock(&mut self, key: &str) -> Self::Held {
        let token = self.token.fetch_add(1, Ordering::Relaxed);
        let (key, token) = (format!("bare:{key}"), format!("00c0ffee00c0ffee.{token}"));
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(&token).arg("NX").arg("PX");
        set.arg(u64::try_from(LIFETIME.as_millis()).unwrap());
        let locked: bool = set.query_async(&mut self.connection).await.unwrap();
        assert!(locked, "somebody else has {key}");
        (key, token)
    }

    async fn release(&mut self, (key, token): Self::Held) {
        let mut release = redis::cmd("EVALSHA");
        release.arg(&*self.hash).arg(1).arg(&key).arg(&token);
        let found: bool = release.query_async(&mut self.connection).await.unwrap();
        assert!(found, "somebody took {key}");
    }
}

/// A connection with the settings of the store's own.
pub(crate) async fn connect(url: &str) -> MultiplexedConnection {
    let info = url.into_connection_info().unwrap();
    let login = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_skip_set_lib_name();
    let tcp = redis::io::tcp::TcpSettings::default().set_nodelay(true);
    let info = info.set_redis_settings(login).set_tcp_settings(tcp);
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_pipeline_buffer_size(1024);
    let client = Client::open(info).unwrap();
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    connecting.await.unwrap()
}

#[derive(Clone)]
pub(crate) struct Rslock(rslock::LockManager);

impl Rslock {
    pub(crate) fn connect(url: &str) -> Self {
        Self(rslock::LockManager::new(vec![url]))
    }
}

impl Contender for Rslock {
    const NAME: &'static str = "rslock 0.10";
    type Held = rslock::LockGuard;

    async fn lock(&mut self, key: &str) -> Self::Held {
        self.0.acquire(key, LIFETIME).await.unwrap()
    }

    async fn release(&mut self, held: Self::Held) {
        held.release().await;
    }
}

/// No lock: one round trip.
#[derive(Clone)]
pub(crate) struct Ping(pub(crate) MultiplexedConnection);

impl Contender for Ping {
    const NAME: &'static str = "PING: one round trip";
    type Held = ();

    async fn lock(&mut self, _key: &str) {
        let ping = redis::cmd("PING");
        ping.query_async::<()>(&mut self.0).await.unwrap();
    }

    async fn release(&mut self, (): ()) {}
}
