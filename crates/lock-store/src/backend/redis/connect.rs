//! From the configuration to a connection: where Redis is, how to speak to it,
//! and who is the master just now.

mod probe;
#[cfg(feature = "diagnose")]
mod raw;
mod sentinel;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisResult, TlsCertificates,
};
use secrecy::ExposeSecret;

use self::tls::{certificates, use_a_crypto_provider};
use super::errors::ConnectError;
use crate::config::url::{Server, UrlParts};
use crate::config::{DeploymentMode, Layout, RedisConfig};
use crate::error::LockError;

/// Commands that may wait for room in a connection's queue without a task
/// switch.
const QUEUED_COMMANDS: usize = 1024;

/// A connection is tried by the system when nothing came for so long, and then
/// in these intervals.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);

/// A server, as it is dialled.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Node {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Default for Node {
    fn default() -> Self {
        Self::Tcp("localhost".into(), 6379)
    }
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

impl From<Server> for Node {
    fn from(server: Server) -> Self {
        match server {
            Server::Tcp(host, port) => Self::Tcp(host, port),
            Server::Unix(path) => Self::Unix(path),
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
pub(super) fn unsubscribed(_push: PushInfo) -> Result<(), ()> {
    Ok(())
}

/// Who the server is.
#[derive(Debug, Clone)]
pub(super) enum Topology {
    /// The one that is configured.
    Standalone(Node),
    /// The one that the sentinels call the master of this service.
    Sentinel(Vec<Node>, String),
    /// One of a cluster, each of which knows the others.
    Cluster(Vec<Node>),
}

/// Opens connections.
pub(super) struct Connector {
    pub(super) topology: Topology,
    /// Database, user, password.
    login: RedisConnectionInfo,
    tls: Option<TlsCertificates>,
    pub(super) timeout: Duration,
    /// What the connections are called in the server's list of its clients.
    name: String,
    /// Whether the settings were right once.
    was_connected: AtomicBool,
}

impl Connector {
    /// For a configuration that is [validated](RedisConfig::validate).
    ///
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config), without the secrets.
    pub(super) fn new(config: &RedisConfig, name: Option<&str>) -> Result<Self, LockError> {
        if config.layout == Layout::Rasa && config.deployment_mode == DeploymentMode::Cluster {
            return Err(LockError::config(
                "lock_store.layout is rasa and lock_store.deployment_mode is cluster; Rasa 3.6 \
                 knows no clusters, so there is nothing to share: leave the layout out",
            ));
        }
        let UrlParts {
            server,
            has_tls,
            db: url_db,
            username,
            password,
        } = config.url_parts()?;
        let here = Node::from(server);
        let endpoints = || -> Vec<Node> {
            if config.endpoints.is_empty() {
                return vec![here.clone()];
            }
            let listed = config.endpoints.iter();
            listed.filter_map(|text| Node::parse(text)).collect()
        };
        let db = url_db.unwrap_or(config.db);
        let (topology, db) = match config.deployment_mode {
            DeploymentMode::Standard => (Topology::Standalone(here), db),
            DeploymentMode::Sentinel => (
                Topology::Sentinel(endpoints(), config.sentinel_service.clone()),
                db,
            ),
            // A cluster has only this one.
            DeploymentMode::Cluster => (Topology::Cluster(endpoints()), 0),
        };
        let mut login = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP3)
            // One right less, and one that older servers do not even know.
            .set_skip_set_lib_name()
            .set_db(i64::from(db));
        if let Some(username) = config.username.clone().or(username) {
            login = login.set_username(username);
        }
        let configured = config.password.as_ref();
        let configured = configured.map(|password| password.expose_secret().to_owned());
        if let Some(password) = configured.or(password) {
            login = login.set_password(password);
        }
        Ok(Self {
            topology,
            login,
            tls: if has_tls || config.use_ssl {
                Some(certificates(config)?)
            } else {
                None
            },
            timeout: config.socket_timeout,
            name: name.map_or_else(default_name, str::to_owned),
            was_connected: AtomicBool::new(false),
        })
    }

    /// A server of those that are configured, to be named in errors.
    pub(super) fn any_node(&self) -> Node {
        match &self.topology {
            Topology::Standalone(node) => node.clone(),
            Topology::Sentinel(nodes, _) | Topology::Cluster(nodes) => {
                nodes.first().cloned().unwrap_or_default()
            }
        }
    }

    /// Opens a connection to the server that is the master now; `pushes` is
    /// told what comes without asking, its end included.
    pub(super) async fn open(
        &self,
        pushes: impl AsyncPushSender + Clone,
    ) -> Result<MultiplexedConnection, ConnectError> {
        match &self.topology {
            Topology::Standalone(node) => self.open_to(node, pushes).await,
            Topology::Sentinel(sentinels, service) => {
                self.open_master(sentinels, service, pushes).await
            }
            Topology::Cluster(nodes) => {
                let mut connect_error = ConnectError::nobody_to_ask();
                for node in nodes {
                    match self.open_to(node, pushes.clone()).await {
                        Ok(opened) => return Ok(opened),
                        Err(found) => connect_error = found,
                    }
                }
                Err(connect_error)
            }
        }
    }

    /// Opens a connection to this server.
    pub(super) async fn open_to(
        &self,
        node: &Node,
        pushes: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, ConnectError> {
        let login = self.login.clone();
        let opened = self.dial(node, login, self.tls.as_ref(), pushes).await;
        match opened {
            Ok(mut opened) => {
                self.check_kind(node, &mut opened).await?;
                self.tell_name(&mut opened).await;
                self.was_connected.store(true, Ordering::Relaxed);
                Ok(opened)
            }
            Err(error) => {
                let connect_error = ConnectError::connecting(node, self.tls.is_some(), &error);
                let hung_up = connect_error.is_silence();
                if !self.was_connected.load(Ordering::Relaxed) {
                    match self.tls {
                        None if hung_up && self.speaks_tls(node).await => {
                            return Err(ConnectError::speaks_tls(node));
                        }
                        // To a plain server the greeting may look unfinished.
                        Some(_)
                            if (hung_up || error.is_timeout())
                                && self.speaks_plainly(node).await =>
                        {
                            return Err(ConnectError::speaks_no_tls(node));
                        }
                        _ => {}
                    }
                }
                Err(connect_error)
            }
        }
    }

    /// Tells the server what the connection is called. A user that may not do so
    /// goes without a name.
    async fn tell_name(&self, connection: &mut MultiplexedConnection) {
        let command = redis::cmd("CLIENT")
            .arg("SETNAME")
            .arg(&self.name)
            .to_owned();
        let told: RedisResult<()> = within(self.timeout, command.query_async(connection)).await;
        drop(told);
    }

    /// A connection that nothing comes back on, because a firewall forgot it or the
    /// host is gone, is given up by the system, too.
    fn tcp_settings(&self) -> TcpSettings {
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_EVERY);
        TcpSettings::default()
            .set_nodelay(false)
            .set_keepalive(keepalive)
            .set_user_timeout(self.timeout.max(KEEPALIVE_EVERY))
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
        let is_complete = login.protocol() == ProtocolVersion::RESP3;
        let info = addr
            .into_connection_info()?
            .set_redis_settings(login)
            .set_tcp_settings(self.tcp_settings());
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
            .set_pipeline_buffer_size(QUEUED_COMMANDS);
        let config = if is_complete {
            config.set_push_sender(pushes)
        } else {
            config
        };
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        within(self.timeout, opening).await
    }
}

/// `<host>:<pid>`, of printable characters.
fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("HOSTNAME").ok());
    let host = host.unwrap_or_default();
    let mut host: String = host
        .chars()
        .filter(char::is_ascii_graphic)
        .take(48)
        .collect();
    if host.is_empty() {
        host.push_str("localhost");
    }
    format!("{host}:{}", std::process::id())
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: the login stays out.
        f.debug_struct("Connector")
            .field("topology", &self.topology)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
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
