//! Who is the master just now, as the sentinels have it.

use std::time::Duration;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult};

use super::{Connector, Node, unsubscribed, within};
use crate::backend::redis::errors::ConnectError;

impl Connector {
    /// The sentinels' word may be old, and a master may have become a replica:
    /// the server itself has the last word.
    pub(super) async fn open_master(
        &self,
        sentinels: &[Node],
        service: &str,
        pushes: impl AsyncPushSender + Clone,
    ) -> Result<MultiplexedConnection, ConnectError> {
        let mut connect_error = ConnectError::nobody_to_ask();
        for sentinel in sentinels {
            let master = match self.ask_sentinel(sentinel, service).await {
                Ok(master) => master,
                Err(found) => {
                    connect_error = found.or_worse(connect_error);
                    continue;
                }
            };
            let found = match self.open_to(&master, pushes.clone()).await {
                Ok(mut connection) => match role(&mut connection, self.timeout).await {
                    Ok(role) if role == "master" => return Ok(connection),
                    Ok(role) => ConnectError::no_master(&master, &role),
                    // Not allowed to ask: then a step will tell.
                    Err(error) if error.to_string().contains("NOPERM") => return Ok(connection),
                    Err(error) => ConnectError::connecting(&master, self.tls.is_some(), &error),
                },
                Err(found) => found,
            };
            connect_error = found.or_worse(connect_error);
        }
        Err(connect_error)
    }

    async fn ask_sentinel(&self, sentinel: &Node, service: &str) -> Result<Node, ConnectError> {
        let tls = self.tls.as_ref();
        let login = self.login.clone().set_db(0);
        let opened = match self.dial(sentinel, login, tls, unsubscribed).await {
            Ok(opened) => Ok(opened),
            // A sentinel has users of its own, and often none.
            Err(error) if ConnectError::is_refused_login(&error) => {
                let login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
                self.dial(sentinel, login, tls, unsubscribed).await
            }
            Err(error) => Err(error),
        };
        let at_sentinel = |error: RedisError| {
            if error.to_string().contains("unknown command") {
                return ConnectError::no_sentinel(sentinel);
            }
            ConnectError::connecting(sentinel, tls.is_some(), &error)
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
            None => Err(ConnectError::unknown_service(sentinel, service)),
        }
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
