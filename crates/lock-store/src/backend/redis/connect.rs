//! From the configuration to a connection: where Redis is, how to speak to it,
//! and who is the master just now.

mod probe;
mod sentinel;
mod tls;
mod url;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisResult, TlsCertificates,
};
use secrecy::ExposeSecret;

use self::tls::{certificates, use_a_crypto_provider};
use self::url::{UrlParts, is_host, parse_url};
use super::trouble::Trouble;
use crate::config::{DeploymentMode, Layout, RedisConfig};
use crate::error::LockError;

/// Commands that may wait for room in a connection's queue without a task
/// switch.
const QUEUED_COMMANDS: usize = 1024;

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
        if config.layout == Layout::Rasa && config.deployment_mode == DeploymentMode::Cluster {
            return Err(LockError::config(
                "lock_store.layout is rasa and lock_store.deployment_mode is cluster; Rasa 3.6 \
                 knows no clusters, so there is nothing to share: leave the layout out",
            ));
        }
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
