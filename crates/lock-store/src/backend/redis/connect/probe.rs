//! What answers there: a server of the kind that is configured, or of another
//! one, with TLS or without.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ProtocolVersion, RedisConnectionInfo, TlsCertificates};

use super::{Connector, Node, Topology, unsubscribed, within};
use crate::backend::redis::errors::ConnectError;

/// A server answers a greeting in its own manner within so long; in another one
/// it may wait for more.
const PROBE: Duration = Duration::from_secs(3);

impl Connector {
    /// That the server is of the kind that is configured.
    pub(super) async fn check_kind(
        &self,
        node: &Node,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), ConnectError> {
        let hello = redis::cmd("HELLO");
        let answer = within(self.timeout, hello.query_async(connection)).await;
        let answer: HashMap<String, redis::Value> =
            answer.map_err(|error| ConnectError::connecting(node, self.tls.is_some(), &error))?;
        let says = |field: &str| match answer.get(field) {
            Some(redis::Value::BulkString(text)) => String::from_utf8_lossy(text).into_owned(),
            Some(redis::Value::SimpleString(text)) => text.clone(),
            _ => String::new(),
        };
        let mode = says("mode");
        match (&self.topology, mode.as_str()) {
            (Topology::Standalone(_) | Topology::Sentinel(..), "cluster") => {
                Err(ConnectError::is_cluster(node))
            }
            (_, "sentinel") => Err(ConnectError::is_sentinel(node)),
            (Topology::Cluster(_), "standalone") => Err(ConnectError::no_cluster(node)),
            (Topology::Standalone(_), _) if ["replica", "slave"].contains(&&*says("role")) => {
                Err(ConnectError::no_master(node, "replica"))
            }
            _ => Ok(()),
        }
    }

    /// A plain greeting was answered with silence: tries a TLS one.
    pub(super) async fn speaks_tls(&self, node: &Node) -> bool {
        let any = TlsCertificates {
            client_tls: None,
            root_cert: None,
        };
        let login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        match within(
            PROBE.min(self.timeout),
            self.dial(node, login, Some(&any), unsubscribed),
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
    pub(super) async fn speaks_plainly(&self, node: &Node) -> bool {
        let login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        match within(
            PROBE.min(self.timeout),
            self.dial(node, login, None, unsubscribed),
        )
        .await
        {
            Ok(_) => true,
            Err(error) => error.to_string().contains("NOAUTH"),
        }
    }
}
