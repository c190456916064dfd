//! What the nodes of a cluster are to be like.

use super::Cluster;
use crate::builder::Kind;
use crate::{Certificates, ClientCertificate, ServerBuilder};

/// A cluster to be started. What is said here holds for all its nodes.
///
/// ```
/// use redis_fixture::Cluster;
///
/// let cluster = Cluster::builder().password("secret").start();
/// assert_eq!(cluster.nodes()[0].command(&["PING"]).text(), "PONG");
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct ClusterBuilder {
    node: ServerBuilder,
}

impl ClusterBuilder {
    /// Sets the password of the default user.
    pub fn password(self, password: &str) -> Self {
        Self {
            node: self.node.password(password),
        }
    }

    /// Adds a user, as [`ServerBuilder::acl_user`] does.
    pub fn acl_user(self, name: &str, password: &str, rules: &str) -> Self {
        Self {
            node: self.node.acl_user(name, password, rules),
        }
    }

    /// Turns the default user off, so that clients must name one.
    pub fn without_default_user(self) -> Self {
        Self {
            node: self.node.without_default_user(),
        }
    }

    /// Lets the nodes speak nothing but TLS, with clients and among themselves.
    pub fn tls(self, certificates: &Certificates, client: ClientCertificate) -> Self {
        let node = self.node.tls(certificates, client);
        Self {
            node: node.without_plain_port(),
        }
    }

    /// Starts it, and waits until every node says that it is well.
    #[track_caller]
    pub fn start(self) -> Cluster {
        let mut node = self.node;
        node.kind = Kind::ClusterNode;
        // Each of them may become a replica.
        if let Some(access) = node.access() {
            node = node.lets_itself_in(&access);
        }
        Cluster::of(&node)
    }
}
