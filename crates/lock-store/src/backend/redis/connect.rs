//! From the configuration to a connection: where Redis is, how to speak to it,
//! and who is the master just now.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, ProtocolVersion, PushInfo, RedisConnectionInfo, RedisError, RedisResult,
    TlsCertificates,
};
use secrecy::ExposeSecret;

use super::trouble::Trouble;
use crate::config::{DeploymentMode, RedisConfig};
use crate::error::LockError;

/// Commands that may wait for room in a connection's queue without a task
/// switch.
const QUEUED_COMMANDS: usize = 1024;

/// A server answers a greeting in its own manner within so long; in another one
/// it may wait for more.
const PROBE: Duration = Duration::from_secs(3);

/// A server, as it is dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Node {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Node {
    /// `host:port`, as configurations, Sentinel and redirections have it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self::Tcp(host.to_owned(), port.parse().ok()?))
    }
}

/// For connections that are only asked.
#[allow(clippy::unnecessary_wraps)] // what a listener returns
pub(super) fn deaf(_push: PushInfo) -> Result<(), ()> {
    Ok(())
}

/// Who the server is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// The one that is configured.
    Here(Node),
    /// The one that the sentinels call the master of this service.
    Sentinels(Vec<Node>, String),
    /// One of a cluster, each of which knows the others.
    Cluster(Vec<Node>),
}

/// Opens connections.
pub(super) struct Connector {
    pub(super) place: Place,
    /// Database, user, password.
    login: RedisConnectionInfo,
    tls: Option<TlsCertificates>,
    pub(super) timeout: Duration,
    /// Whether the settings were right once.
    was_connected: AtomicBool,
}

impl Connector {
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config), without the secrets.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, LockError> {
        let address = config.url.expose_secret();
        let from_url = if is_host(address) {
            None
        } else {
            Some(parse_url(address)?)
        };
        let tls = match &from_url {
            Some(UrlParts { tls: true, .. }) => true,
            _ => config.use_ssl,
        };
        let here = match &from_url {
            Some(parts) => parts.node.clone(),
            None => Node::Tcp(address.to_owned(), config.port),
        };
        let endpoints = || -> Vec<Node> {
            let listed: Vec<_> = config
                .endpoints
                .iter()
                .filter_map(|e| Node::parse(e))
                .collect();
            if listed.is_empty() {
                vec![here.clone()]
            } else {
                listed
            }
        };
        let (place, db) = match config.deployment_mode {
            DeploymentMode::Standard => (Place::Here(here.clone()), config.db),
            DeploymentMode::Sentinel => (
                Place::Sentinels(endpoints(), config.sentinel_service.clone()),
                config.db,
            ),
            // A cluster has only this one.
            DeploymentMode::Cluster => (Place::Cluster(endpoints()), 0),
        };
        let mut login = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            // One right less, and one that older servers do not even know.
            .set_skip_set_lib_name()
            .set_db(match from_url.as_ref().and_then(|parts| parts.db) {
                Some(db) if config.deployment_mode != DeploymentMode::Cluster => db,
                _ => i64::from(db),
            });
        let from_url = from_url.unwrap_or_default();
        let password = config
            .password
            .as_ref()
            .map(|password| password.expose_secret().to_owned());
        if let Some(username) = config.username.clone().or(from_url.username) {
            login = login.set_username(username);
        }
        if let Some(password) = password.or(from_url.password) {
            login = login.set_password(password);
        }
        Ok(Self {
            place,
            login,
            tls: if tls {
                Some(certificates(config)?)
            } else {
                None
            },
            timeout: config.socket_timeout,
            was_connected: AtomicBool::new(false),
        })
    }

    /// A server of those that are configured, to be named in errors.
    pub(super) fn any_node(&self) -> Node {
        match &self.place {
            Place::Here(node) => node.clone(),
            Place::Sentinels(nodes, _) | Place::Cluster(nodes) => {
                nodes.first().cloned().unwrap_or_default()
            }
        }
    }

    /// Opens a connection to the server that is the master now; `pushes` is
    /// told what it hears without asking, its end included.
    pub(super) async fn open(
        &self,
        pushes: impl AsyncPushSender + Clone,
    ) -> Result<MultiplexedConnection, Trouble> {
        match &self.place {
            Place::Here(node) => self.open_to(node, pushes).await,
            Place::Sentinels(sentinels, service) => {
                self.open_master(sentinels, service, pushes).await
            }
            Place::Cluster(nodes) => {
                let mut trouble = Trouble::nobody_to_ask();
                for node in nodes {
                    match self.open_to(node, pushes.clone()).await {
                        Ok(opened) => return Ok(opened),
                        Err(found) => trouble = found,
                    }
                }
                Err(trouble)
            }
        }
    }

    /// Opens a connection to this server.
    pub(super) async fn open_to(
        &self,
        node: &Node,
        pushes: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, Trouble> {
        let login = self.login.clone();
        let opened = self.dial(node, login, self.tls.as_ref(), pushes).await;
        match opened {
            Ok(mut opened) => {
                self.check_kind(node, &mut opened).await?;
                self.was_connected.store(true, Ordering::Relaxed);
                Ok(opened)
            }
            Err(error) => {
                let trouble = Trouble::connecting(node, self.tls.is_some(), &error);
                let hung_up = trouble.is_silence();
                if !self.was_connected.load(Ordering::Relaxed) {
                    match self.tls {
                        None if hung_up && self.speaks_tls(node).await => {
                            return Err(Trouble::speaks_tls(node));
                        }
                        // To a plain server the greeting may look unfinished.
                        Some(_)
                            if (hung_up || error.is_timeout())
                                && self.speaks_plainly(node).await =>
                        {
                            return Err(Trouble::speaks_no_tls(node));
                        }
                        _ => {}
                    }
                }
                Err(trouble)
            }
        }
    }

    /// That the server is of the kind that is configured.
    async fn check_kind(
        &self,
        node: &Node,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), Trouble> {
        let hello = redis::cmd("HELLO");
        let answer = within(self.timeout, hello.query_async(connection)).await;
        let answer: HashMap<String, redis::Value> =
            answer.map_err(|error| Trouble::connecting(node, self.tls.is_some(), &error))?;
        let says = |field: &str| match answer.get(field) {
            Some(redis::Value::BulkString(text)) => String::from_utf8_lossy(text).into_owned(),
            Some(redis::Value::SimpleString(text)) => text.clone(),
            _ => String::new(),
        };
        let mode = says("mode");
        match (&self.place, mode.as_str()) {
            (Place::Here(_) | Place::Sentinels(..), "cluster") => Err(Trouble::is_cluster(node)),
            (_, "sentinel") => Err(Trouble::is_sentinel(node)),
            (Place::Cluster(_), "standalone") => Err(Trouble::no_cluster(node)),
            (Place::Here(_), _) if ["replica", "slave"].contains(&&*says("role")) => {
                Err(Trouble::no_master(node, "replica"))
            }
            _ => Ok(()),
        }
    }

    async fn dial(
        &self,
        node: &Node,
        login: RedisConnectionInfo,
        tls: Option<&TlsCertificates>,
        pushes: impl AsyncPushSender,
    ) -> RedisResult<MultiplexedConnection> {
        let addr = match node {
            Node::Unix(path) => ConnectionAddr::Unix(path.clone()),
            Node::Tcp(host, port) if tls.is_some() => ConnectionAddr::TcpTls {
                host: host.clone(),
                port: *port,
                insecure: false,
                tls_params: None,
            },
            Node::Tcp(host, port) => ConnectionAddr::Tcp(host.clone(), *port),
        };
        let info = addr
            .into_connection_info()?
            .set_redis_settings(login)
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = match tls {
            Some(certificates) => {
                use_a_crypto_provider();
                let is_tcp = matches!(node, Node::Tcp(..));
                if is_tcp {
                    Client::build_with_tls(info, certificates.clone())?
                } else {
                    Client::open(info)?
                }
            }
            None => Client::open(info)?,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            // Each call has a limit of its own.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUED_COMMANDS)
            .set_push_sender(pushes);
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        within(self.timeout, opening).await
    }

    /// A plain greeting was answered with silence: tries a TLS one.
    async fn speaks_tls(&self, node: &Node) -> bool {
        let any = TlsCertificates {
            client_tls: None,
            root_cert: None,
        };
        let login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        match within(
            PROBE.min(self.timeout),
            self.dial(node, login, Some(&any), deaf),
        )
        .await
        {
            Ok(_) => true,
            Err(error) => {
                let text = error.to_string();
                text.contains("certificate") || text.contains("NOAUTH") || text.contains("alert")
            }
        }
    }

    /// A TLS greeting was answered with silence: tries a plain one, without any
    /// secret.
    async fn speaks_plainly(&self, node: &Node) -> bool {
        let login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        match within(PROBE.min(self.timeout), self.dial(node, login, None, deaf)).await {
            Ok(_) => true,
            Err(error) => error.to_string().contains("NOAUTH"),
        }
    }

    /// The sentinels' word may be old, and a master may have become a replica:
    /// the server itself has the last word.
    async fn open_master(
        &self,
        sentinels: &[Node],
        service: &str,
        pushes: impl AsyncPushSender + Clone,
    ) -> Result<MultiplexedConnection, Trouble> {
        let mut trouble = Trouble::nobody_to_ask();
        for sentinel in sentinels {
            let master = match self.ask_sentinel(sentinel, service).await {
                Ok(master) => master,
                Err(found) => {
                    trouble = found.or_worse(trouble);
                    continue;
                }
            };
            let found = match self.open_to(&master, pushes.clone()).await {
                Ok(mut connection) => match role(&mut connection, self.timeout).await {
                    Ok(role) if role == "master" => return Ok(connection),
                    Ok(role) => Trouble::no_master(&master, &role),
                    // Not allowed to ask: then a step will tell.
                    Err(error) if error.to_string().contains("NOPERM") => return Ok(connection),
                    Err(error) => Trouble::connecting(&master, self.tls.is_some(), &error),
                },
                Err(found) => found,
            };
            trouble = found.or_worse(trouble);
        }
        Err(trouble)
    }

    async fn ask_sentinel(&self, sentinel: &Node, service: &str) -> Result<Node, Trouble> {
        let tls = self.tls.as_ref();
        let login = self.login.clone().set_db(0);
        let opened = match self.dial(sentinel, login, tls, deaf).await {
            Ok(opened) => Ok(opened),
            // A sentinel has users of its own, and often none.
            Err(error) if Trouble::is_refused_login(&error) => {
                let login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
                self.dial(sentinel, login, tls, deaf).await
            }
            Err(error) => Err(error),
        };
        let at_sentinel = |error: RedisError| {
            if error.to_string().contains("unknown command") {
                return Trouble::no_sentinel(sentinel);
            }
            Trouble::connecting(sentinel, tls.is_some(), &error)
        };
        let mut connection = opened.map_err(at_sentinel)?;
        let asked = redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(service)
            .to_owned();
        let answer = within(self.timeout, asked.query_async(&mut connection)).await;
        let master: Option<(String, u16)> = answer.map_err(at_sentinel)?;
        match master {
            Some((host, port)) => Ok(Node::Tcp(host, port)),
            None => Err(Trouble::unknown_service(sentinel, service)),
        }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: the login stays out.
        f.debug_struct("Connector")
            .field("place", &self.place)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

async fn role(connection: &mut MultiplexedConnection, timeout: Duration) -> RedisResult<String> {
    let role = redis::cmd("ROLE");
    let answer: Vec<redis::Value> = within(timeout, role.query_async(connection)).await?;
    match answer.into_iter().next() {
        Some(role) => Ok(redis::from_redis_value(role)?),
        None => Ok(String::new()),
    }
}

/// A reply, or an I/O error when it does not come in time.
pub(super) async fn within<T>(
    timeout: Duration,
    reply: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    match tokio::time::timeout(timeout, reply).await {
        Ok(reply) => reply,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// What a URL says; what it does not say comes from the other keys.
#[derive(Default)]
struct UrlParts {
    node: Node,
    tls: bool,
    db: Option<i64>,
    username: Option<String>,
    password: Option<String>,
}

impl Default for Node {
    fn default() -> Self {
        Self::Tcp("localhost".into(), 6379)
    }
}

/// Whether it is a mere host name. What is neither that nor a URL is not shown:
/// it may be a URL with a mistake, and have a password.
fn is_host(address: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    address.parse::<Ipv6Addr>().is_ok() || !address.is_empty() && address.chars().all(is_name)
}

fn parse_url(url: &str) -> Result<UrlParts, LockError> {
    // The library's own text is left out: it might show a part of the URL.
    let wrong = |what: &str| {
        LockError::config(format!(
            "the Redis URL {what}; it looks like \
             redis://[user[:password]@]host[:port][/db], rediss://… or unix:///path[?db=…]"
        ))
    };
    let parsed: ConnectionInfo = url
        .into_connection_info()
        .map_err(|_| wrong("cannot be read"))?;
    let (node, tls) = match parsed.addr() {
        ConnectionAddr::Tcp(host, port) => (Node::Tcp(host.clone(), *port), false),
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            return Err(wrong(
                "asks for TLS without verification, which is not offered",
            ));
        }
        ConnectionAddr::TcpTls { host, port, .. } => (Node::Tcp(host.clone(), *port), true),
        ConnectionAddr::Unix(path) => (Node::Unix(path.clone()), false),
        _ => return Err(wrong("names an address of an unknown kind")),
    };
    let login = parsed.redis_settings();
    // 0 is also what the library says where the URL says nothing.
    let says_db = match url.split_once("://") {
        Some(("unix", rest)) => rest.contains("db="),
        Some((_, rest)) => rest
            .split(['?', '#'])
            .next()
            .is_some_and(|path| path.rsplit_once('/').is_some_and(|(_, db)| !db.is_empty())),
        None => false,
    };
    Ok(UrlParts {
        node,
        tls,
        db: says_db.then(|| login.db()),
        username: login.username().map(str::to_owned),
        password: login.password().map(str::to_owned),
    })
}

fn certificates(config: &RedisConfig) -> Result<TlsCertificates, LockError> {
    let client_tls = match (&config.ssl_certfile, &config.ssl_keyfile) {
        (Some(certificate), key) => Some(ClientTlsConfig {
            client_cert: read_file("ssl_certfile", certificate)?,
            // As in Rasa's client, one file may have both.
            client_key: match key {
                Some(key) => read_file("ssl_keyfile", key)?,
                None => read_file("ssl_certfile", certificate)?,
            },
        }),
        (None, Some(_)) => {
            return Err(LockError::config(
                "lock_store.ssl_keyfile needs lock_store.ssl_certfile beside it",
            ));
        }
        (None, None) => None,
    };
    let root_cert = match &config.ssl_ca_certs {
        Some(path) => Some(read_file("ssl_ca_certs", path)?),
        None => None,
    };
    let certificates = TlsCertificates {
        client_tls,
        root_cert,
    };
    // Reads the files now, so that a wrong one is told as such.
    let probe = ConnectionAddr::TcpTls {
        host: "localhost".into(),
        port: 1,
        insecure: false,
        tls_params: None,
    };
    Client::build_with_tls(probe, certificates.clone()).map_err(|error| {
        LockError::config(format!(
            "lock_store.ssl_certfile, ssl_keyfile or ssl_ca_certs: {error}"
        ))
    })?;
    Ok(certificates)
}

fn read_file(key: &str, path: &Path) -> Result<Vec<u8>, LockError> {
    std::fs::read(path).map_err(|error| {
        LockError::config(format!("lock_store.{key}: cannot read {}", path.display()))
            .with_source(error)
    })
}

/// TLS needs somebody to do the arithmetic. A program may have chosen already.
fn use_a_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
