//! No secret is shown: in no error, no `Debug`, no event.
//!
//! The only test of its process, as it hears all events of it.

#![allow(clippy::unwrap_used)]

mod support;

use std::error::Error;
use std::fmt::{Debug, Write as _};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lock_store::{
    DeploymentMode, Fallback, LockError, LockStore, LockStoreConfig, RedisConfig, RedisLockStore,
    Timing,
};
use redis_fixture::{Certificates, ClientCertificate, FOR_EVER, Proxy, Server, until};
use secrecy::SecretString;

use support::redis::{at, config, own_prefix};

/// With characters that a URL has to write in another way.
const PASSWORD: &str = "trout@fish/%7";
const IN_A_URL: &str = "trout%40fish%2F%257";
const WRONG: &str = "stickle:back#1";
const WRONG_IN_A_URL: &str = "stickle%3Aback%231";
const USER: &str = "captain-nemo";

/// Also the parts, in case that only a part is shown.
const SECRETS: [&str; 8] = [
    PASSWORD,
    IN_A_URL,
    WRONG,
    WRONG_IN_A_URL,
    USER,
    "trout",
    "stickle",
    "nemo",
];

/// Everything that was shown.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<u8>>>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shown {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn add(&self, what: &str, text: &str) {
        let line = format!("{what}: {text}\n");
        self.0.lock().unwrap().extend_from_slice(line.as_bytes());
    }

    fn debug(&self, what: &str, value: &impl Debug) {
        self.add(what, &format!("{value:?} {value:#?}"));
    }

    /// An error, with all that stands behind it.
    fn error(&self, what: &str, error: &LockError) {
        let mut text = format!("{error} {error:?} {error:#?}");
        let mut source: Option<&dyn Error> = error.source();
        while let Some(error) = source {
            write!(text, " {error} {error:?}").unwrap();
            source = error.source();
        }
        self.add(what, &text);
    }

    /// A configuration, what becomes of it, and what goes wrong with it.
    async fn start(&self, what: &str, redis: &RedisConfig) -> Vec<LockStore> {
        let mut stores = Vec::new();
        for fallback in [Fallback::None, Fallback::InMemory] {
            let redis = RedisConfig {
                fallback,
                ..redis.clone()
            };
            let config = config(redis, Timing::default());
            self.debug(what, &config);
            self.debug(what, &config.redis);
            match LockStore::create(&config).await {
                Ok(store) => {
                    self.debug(what, &store);
                    self.debug(what, &store.backend());
                    stores.push(store);
                }
                Err(error) => self.error(what, &error),
            }
        }
        match RedisLockStore::connect(redis).await {
            Ok(backend) => self.debug(what, &backend),
            Err(error) => self.error(what, &error),
        }
        stores
    }

    async fn use_it(&self, what: &str, store: &LockStore) {
        let guard = store.lock("a").await.unwrap();
        self.debug(what, &guard);
        let place = store.take_ticket("a").await.unwrap();
        self.debug(what, &place);
        self.debug(what, &store.get_lock("a").await.unwrap());
        let late = store.lock("a").wait_timeout(Duration::from_millis(5)).await;
        self.error(what, &late.unwrap_err());
        guard.release().await.unwrap();
        place.wait().await.unwrap().release().await.unwrap();
        self.debug(what, store);
    }
}

/// With the password in its own key, and inside a URL.
fn both_ways(address: &str, (password, in_a_url): (&str, &str)) -> [RedisConfig; 2] {
    let url = format!("redis://{USER}:{in_a_url}@{address}/0");
    let apart = RedisConfig {
        username: Some(USER.into()),
        password: Some(SecretString::from(password)),
        ..at(&format!("redis://{address}/0"))
    };
    [apart, at(&url)].map(|redis| RedisConfig {
        key_prefix: Some(own_prefix()),
        socket_timeout: Duration::from_secs(2),
        ..redis
    })
}

const RIGHT: (&str, &str) = (PASSWORD, IN_A_URL);
const NOT_RIGHT: (&str, &str) = (WRONG, WRONG_IN_A_URL);

fn server_with(rules: &str) -> Server {
    Server::builder()
        .acl_user(USER, PASSWORD, rules)
        .without_default_user()
        .start()
}

/// As if the server were one of another kind.
fn other_kinds(server: &Server, redis: &RedisConfig) -> [RedisConfig; 2] {
    [DeploymentMode::Sentinel, DeploymentMode::Cluster].map(|mode| RedisConfig {
        deployment_mode: mode,
        endpoints: vec![server.address()],
        ..redis.clone()
    })
}

async fn start_failures(shown: &Shown) {
    let server = server_with("~* &* +@all");
    for redis in both_ways(&server.address(), NOT_RIGHT) {
        assert!(shown.start("wrong password", &redis).await.is_empty());
        for redis in other_kinds(&server, &redis) {
            assert!(shown.start("wrong password", &redis).await.is_empty());
        }
    }
    for redis in both_ways(&server.address(), RIGHT) {
        let unknown = RedisConfig {
            username: Some("nemo-the-unknown".into()),
            ..redis.clone()
        };
        assert!(shown.start("unknown user", &unknown).await.is_empty());
        for redis in other_kinds(&server, &redis) {
            let told = shown.start("another kind of server", &redis).await;
            assert!(told.is_empty());
        }
    }
    for rules in [
        "~* &* -@all",
        "~* &* +@all -evalsha -eval -script",
        "&* +@all",
        "~* +@all resetchannels -rpush",
    ] {
        let server = server_with(rules);
        for redis in both_ways(&server.address(), RIGHT) {
            assert!(shown.start("a right is missing", &redis).await.is_empty());
        }
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    for redis in both_ways(&address, RIGHT) {
        let timeout = Duration::from_millis(200);
        let redis = RedisConfig {
            socket_timeout: timeout,
            ..redis
        };
        shown.start("no answer", &redis).await;
    }
    drop(nobody);
    for redis in both_ways(&address, RIGHT) {
        let stores = shown.start("nobody is there", &redis).await;
        shown.use_it("degraded", &stores[0]).await;
    }
    let certificates = Certificates::new();
    let server = Server::builder()
        .tls(&certificates, ClientCertificate::Required)
        .acl_user(USER, PASSWORD, "~* &* +@all")
        .start();
    for redis in both_ways(&format!("127.0.0.1:{}", server.tls_port()), RIGHT) {
        assert!(shown.start("plain text to TLS", &redis).await.is_empty());
    }
    for port in [server.port(), server.tls_port()] {
        let url = format!("rediss://{USER}:{IN_A_URL}@127.0.0.1:{port}/0");
        assert!(shown.start("TLS", &at(&url)).await.is_empty());
    }
}

/// What cannot even be read.
async fn strange_configurations(shown: &Shown) {
    let urls = [
        format!("redis://{USER}:{PASSWORD}@127.0.0.1/0"),
        format!("redis://{USER}:{WRONG}@127.0.0.1/0"),
        format!("http://{USER}:{IN_A_URL}@127.0.0.1/0"),
        format!("redis://{USER}:{IN_A_URL}@127.0.0.1:port/0"),
        format!("redis://{USER}:{IN_A_URL}@127.0.0.1/database"),
        format!("redis://{USER}:%zz{IN_A_URL}@127.0.0.1:1/0"),
        format!("redis:{USER}:{IN_A_URL}@127.0.0.1"),
        format!("{USER}:{IN_A_URL}@127.0.0.1"),
        format!("rediss://{USER}:{IN_A_URL}@127.0.0.1/#insecure"),
        format!("unix://{USER}:{IN_A_URL}@/nowhere"),
        format!("unix:///nowhere/redis.sock?db=0&user={USER}&pass={IN_A_URL}"),
    ];
    for url in urls {
        let redis = RedisConfig {
            socket_timeout: Duration::from_millis(200),
            port: 1,
            ..at(&url)
        };
        shown.start("a strange URL", &redis).await;
        let yaml = format!("lock_store:\n  type: redis\n  url: \"{url}\"\n  db: x\n");
        shown.error("YAML", &LockStoreConfig::from_yaml(&yaml).unwrap_err());
        let yaml = format!("lock_store:\n  type: redis\n  url: \"{url}\"\n  fallback: none\n");
        match LockStoreConfig::from_yaml(&yaml) {
            Ok(config) => shown.debug("YAML", &config),
            Err(error) => shown.error("YAML", &error),
        }
    }
    for yaml in [
        format!("lock_store:\n  type: redis\n  password: [\"{PASSWORD}\"]\n"),
        format!("lock_store:\n  type: redis\n  pasword: \"{PASSWORD}\"\n"),
        format!("lock_store:\n  type: redis\n  password: \"{PASSWORD}\n"),
        format!("lock_store:\n  type: redis\n  password: {{a: \"{PASSWORD}\"}}\n"),
        format!("lock_store:\n  type: redis\n  username: [{USER}]\n"),
        format!("lock_store:\n  password: \"{PASSWORD}\"\n  password: \"{PASSWORD}\"\n"),
    ] {
        match LockStoreConfig::from_yaml(&yaml) {
            Ok(config) => shown.debug("YAML", &config),
            Err(error) => shown.error("YAML", &error),
        }
    }
}

async fn normal_use_and_outages(shown: &Shown) {
    let server = server_with("~* &* +@all");
    let proxy = Proxy::to(&server.address());
    for redis in both_ways(&proxy.address(), RIGHT) {
        let stores = shown.start("all is well", &redis).await;
        assert_eq!(stores.len(), 2);
        let store = &stores[0];
        shown.use_it("all is well", store).await;

        // A wake-up, an outage, and a damaged value.
        let guard = store.lock("b").await.unwrap();
        proxy.refuse(true);
        proxy.cut_all();
        let failed = store
            .lock("c")
            .wait_timeout(Duration::from_millis(300))
            .await;
        shown.error("outage", &failed.unwrap_err());
        shown.error("outage", &store.get_lock("b").await.unwrap_err());
        shown.debug("outage", store);
        proxy.refuse(false);
        // It is a while until it connects again, and a release has little time.
        while store.get_lock("b").await.is_err() {}
        guard.release().await.unwrap();
        let key = format!("{}:tickets:d", redis.key_prefix.as_ref().unwrap());
        server.command(&["SET", &key, "no queue"]).ok();
        shown.error("damage", &store.lock("d").await.unwrap_err());

        // The password is another one for a while, and a right goes.
        let others = format!(">{WRONG}");
        server
            .command(&["ACL", "SETUSER", USER, "resetpass", &others])
            .ok();
        proxy.cut_all();
        let failed = store
            .lock("c")
            .wait_timeout(Duration::from_millis(300))
            .await;
        shown.error("a new password", &failed.unwrap_err());
        shown.debug("a new password", store);
        let ours = format!(">{PASSWORD}");
        server
            .command(&["ACL", "SETUSER", USER, "resetpass", &ours, "-subscribe"])
            .ok();
        proxy.cut_all();
        shown.use_it("no subscription", store).await;
        let events = || shown.text().matches("refuses the subscription").count();
        until("the refusal is said", || events() > 0);
        server
            .command(&["ACL", "SETUSER", USER, "+subscribe", "-evalsha", "-eval"])
            .ok();
        shown.error("a right goes", &store.lock("a").await.unwrap_err());
        server
            .command(&["ACL", "SETUSER", USER, "+evalsha", "+eval"])
            .ok();
        for store in stores {
            store.close().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_shown() {
    let shown = Shown::default();
    let writer = shown.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let all = async {
        start_failures(&shown).await;
        strange_configurations(&shown).await;
        normal_use_and_outages(&shown).await;
    };
    tokio::time::timeout(2 * FOR_EVER, all).await.unwrap();

    let text = shown.text();
    // That there was something to be found.
    for expected in [
        "DEBUG lock_store: acquired lock",
        "lost the connection to Redis",
        "connected to Redis again",
        "lock_store.password",
        "RedisConfig {",
        "RedisLockStore {",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    let lower = text.to_lowercase();
    for secret in SECRETS {
        let found = text
            .lines()
            .zip(lower.lines())
            .find(|(_, line)| line.contains(secret));
        // What is shown here is no secret.
        assert!(found.is_none(), "{secret:?} is in: {}", found.unwrap().0);
    }
}
