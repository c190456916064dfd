//! What the servers say about themselves.

use std::collections::HashMap;

use super::listing;
use crate::backend::redis::RedisLockStore;
use crate::backend::redis::connect::within;
use crate::backend::redis::connection::Connection;
use crate::backend::redis::errors::{ConnectError, plain};
use crate::backend::redis::sender::Steps;
use crate::error::LockError;

/// What one Redis server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    address: String,
    fields: HashMap<String, String>,
}

impl ServerInfo {
    /// The server: `host:port` or the path of its socket; with Sentinel that
    /// of the first sentinel, as the master may be another one at any time.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A field of `INFO`, such as `used_memory` or `redis_version`.
    ///
    /// `None` if the server has no such field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    fn read(address: String, text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Self {
            address,
            fields: lines
                .map(|(name, value)| (name.to_owned(), value.trim_end().to_owned()))
                .collect(),
        }
    }
}

impl RedisLockStore {
    /// What `INFO` says on every server that has a part of the conversations:
    /// one, or the masters of a cluster. `None` where this user may not ask:
    /// the right `+info` is none of those that locks need.
    ///
    /// # Errors
    ///
    /// Unavailable.
    pub async fn server_info(&self) -> Result<Option<Vec<ServerInfo>>, LockError> {
        let steps = &self.core.steps;
        let servers = steps.route.all_links();
        if servers.is_empty() {
            return Err(ConnectError::nobody_to_ask().into_error());
        }
        let mut told = Vec::with_capacity(servers.len());
        for links in servers {
            match info(steps, &links[0]).await? {
                Some(info) => told.push(info),
                None => return Ok(None),
            }
        }
        Ok(Some(told))
    }
}

async fn info(steps: &Steps, link: &Connection) -> Result<Option<ServerInfo>, LockError> {
    let mut live = listing::connected(steps, link).await?;
    let info = redis::cmd("INFO");
    let answer = within(steps.timeout(), info.query_async(&mut live.connection)).await;
    let answer: redis::RedisResult<String> = answer;
    match answer {
        Ok(text) => {
            let node = link.node().cloned();
            let node = node.unwrap_or_else(|| steps.connector.any_node());
            Ok(Some(ServerInfo::read(node.to_string(), &text)))
        }
        Err(error) if error.code() == Some("NOPERM") => Ok(None),
        Err(error) => Err(LockError::unavailable(plain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_to_the_letter() {
        let text = "# Memory\r\nused_memory:1024\r\n\r\ndb0:keys=1,expires=1,avg_ttl=0\r\n";
        let info = ServerInfo::read("a:1".to_owned(), text);
        assert_eq!(info.field("used_memory"), Some("1024"));
        assert_eq!(info.field("db0"), Some("keys=1,expires=1,avg_ttl=0"));
        assert_eq!(info.field("db1"), None);
        assert_eq!(info.address(), "a:1");
    }
}
