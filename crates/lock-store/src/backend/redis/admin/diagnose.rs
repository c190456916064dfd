//! Raw questions to the servers of a configuration, for tools that look for
//! what is wrong with them (feature `diagnose`).
//!
//! A store connects, logs in, and says what failed in one sentence. Here each
//! step is one's own: where the servers are, a connection that nothing was said
//! on, the login, any command, and which rights the store needs of it.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use lock_store::RedisConfig;
//! use lock_store::diagnose::Deployment;
//!
//! let deployment = Deployment::of(&RedisConfig::from_url("redis://localhost:6379/1"))?;
//! for address in deployment.addresses() {
//!     let session = deployment.open(&address).await?;
//!     if let Some(refusal) = session.log_in().await?.error() {
//!         println!("{address} does not let us in: {refusal}");
//!         continue;
//!     }
//!     let info = session.ask(&["INFO", "server"]).await?;
//!     println!("{address}: {:?}", info.text());
//! }
//! # Ok(())
//! # }
//! ```

mod reply;
mod rights;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use thiserror::Error;

pub use self::reply::Reply;
pub use self::rights::{Purpose, Refusal, Right};
use crate::backend::redis::connect::{Connector, Node, Topology, within};
use crate::backend::redis::keys::Keys;
use crate::config::{DeploymentMode, Layout, RedisConfig};
use crate::error::LockError;

/// What a configuration comes to.
#[derive(Debug)]
pub struct Deployment {
    connector: Connector,
    keys: Keys,
    layout: Layout,
    replicas: usize,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A host name or address, and a port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoReply {
    /// It did not come within `socket_timeout`.
    #[error("no answer in time")]
    TimedOut,
    /// The connection was closed instead.
    #[error("the server hung up instead of answering")]
    HungUp,
    /// What came is not what a Redis says.
    #[error("the answer is not one of Redis")]
    Nonsense,
    /// Something else: a connection that cannot be opened.
    #[error("{0}")]
    Other(String),
}

/// A connection to one server. Speaks RESP2, and is nobody until
/// [`log_in`](Self::log_in).
pub struct Session<'d> {
    deployment: &'d Deployment,
    connection: MultiplexedConnection,
}

impl Deployment {
    /// Checks a configuration and reads its files; sends nothing.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config), without the secrets.
    pub fn of(config: &RedisConfig) -> Result<Self, LockError> {
        config.validate()?;
        let connector = Connector::new(config, None)?;
        Ok(Self {
            keys: Keys::of(config),
            layout: config.layout,
            replicas: config.replicas,
            connector,
        })
    }

    /// The shape that is configured.
    pub fn mode(&self) -> DeploymentMode {
        match self.connector.topology {
            Topology::Standalone(_) => DeploymentMode::Standard,
            Topology::Sentinel(..) => DeploymentMode::Sentinel,
            Topology::Cluster(_) => DeploymentMode::Cluster,
        }
    }

    /// The servers that are named: the one, the sentinels, or nodes of the
    /// cluster.
    pub fn addresses(&self) -> Vec<Address> {
        let nodes = match &self.connector.topology {
            Topology::Standalone(node) => std::slice::from_ref(node),
            Topology::Sentinel(nodes, _) | Topology::Cluster(nodes) => nodes,
        };
        nodes.iter().cloned().map(Address::from).collect()
    }

    /// Whether connections are encrypted. One to a socket of this machine
    /// never is.
    pub fn uses_tls(&self) -> bool {
        self.connector.uses_tls()
    }

    /// Whether a password is configured.
    pub fn has_password(&self) -> bool {
        self.connector.password().is_some()
    }

    /// The number of the database; 0 in a cluster.
    pub fn db(&self) -> i64 {
        self.connector.db()
    }

    /// How long connecting, and one answer, may take.
    pub fn timeout(&self) -> Duration {
        self.connector.timeout
    }

    /// The pattern of the keys of all queues.
    pub fn key_pattern(&self) -> String {
        self.keys.pattern()
    }

    /// The pattern of all channels.
    pub fn channel_pattern(&self) -> String {
        self.keys.channel_pattern()
    }

    /// Opens a connection, with TLS if that is configured, and says nothing.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened.
    pub async fn open(&self, address: &Address) -> Result<Session<'_>, NoReply> {
        let opened = self.connector.open_raw(&address.node()).await;
        Ok(Session {
            deployment: self,
            connection: opened.map_err(|error| NoReply::of(&error))?,
        })
    }
}

impl Session<'_> {
    /// Says the configured user name and password. Without a password nothing
    /// is sent, and the reply is `OK`.
    ///
    /// # Errors
    ///
    /// When there is no reply; a refusal is a reply.
    pub async fn log_in(&self) -> Result<Reply, NoReply> {
        let connector = &self.deployment.connector;
        let Some(password) = connector.password() else {
            return Ok(Reply::Text("OK".into()));
        };
        let mut command = redis::cmd("AUTH");
        command
            .arg(connector.username().unwrap_or("default"))
            .arg(password);
        self.send(&command).await
    }

    /// Asks anything that has one reply. What is asked at once is sent at once.
    ///
    /// # Errors
    ///
    /// When there is no reply; an error is a reply.
    pub async fn ask(&self, words: &[&str]) -> Result<Reply, NoReply> {
        let mut command = redis::Cmd::new();
        command.arg(words);
        self.send(&command).await
    }

    async fn send(&self, command: &redis::Cmd) -> Result<Reply, NoReply> {
        let mut connection = self.connection.clone();
        let answer = connection.send_packed_command(command);
        Reply::read(within(self.deployment.timeout(), answer).await)
    }
}

impl fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("deployment", self.deployment)
            .finish_non_exhaustive()
    }
}

impl Address {
    fn node(&self) -> Node {
        match self {
            Self::Tcp(host, port) => Node::Tcp(host.clone(), *port),
            Self::Unix(path) => Node::Unix(path.clone()),
        }
    }
}

impl From<Node> for Address {
    fn from(node: Node) -> Self {
        match node {
            Node::Tcp(host, port) => Self::Tcp(host, port),
            Node::Unix(path) => Self::Unix(path),
        }
    }
}

/// As in configurations: `host:port`, `[address]:port`, or the path.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node().fmt(f)
    }
}
