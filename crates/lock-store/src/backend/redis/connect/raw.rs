//! Connections that nothing was said on yet, for whoever looks for what is
//! wrong.

use redis::aio::MultiplexedConnection;
use redis::{ProtocolVersion, RedisConnectionInfo, RedisResult};

use super::{Connector, Node, unsubscribed};

impl Connector {
    /// Opens a connection, with TLS if that is configured, and says nothing.
    pub(in crate::backend::redis) async fn open_raw(
        &self,
        node: &Node,
    ) -> RedisResult<MultiplexedConnection> {
        let nobody = RedisConnectionInfo::default()
            .set_protocol(ProtocolVersion::RESP2)
            .set_skip_set_lib_name();
        self.dial(node, nobody, self.tls.as_ref(), unsubscribed)
            .await
    }

    pub(in crate::backend::redis) fn uses_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub(in crate::backend::redis) fn username(&self) -> Option<&str> {
        self.login.username()
    }

    pub(in crate::backend::redis) fn password(&self) -> Option<&str> {
        self.login.password()
    }

    pub(in crate::backend::redis) fn db(&self) -> i64 {
        self.login.db()
    }
}
