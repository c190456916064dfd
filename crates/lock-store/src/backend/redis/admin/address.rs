//! Where Redis is, for people.

use std::fmt::Display;

use crate::backend::redis::RedisLockStore;
use crate::backend::redis::connect::Topology;

impl RedisLockStore {
    /// Where Redis is, as it is configured and without user and password:
    /// `redis.internal:6379`, the path of a socket, or the sentinels or nodes
    /// of a cluster that are asked first. For reports and logs.
    ///
    /// ```no_run
    /// # async fn show() -> Result<(), lock_store::LockError> {
    /// use lock_store::{RedisConfig, RedisLockStore};
    ///
    /// let config = RedisConfig::from_url("redis://:secret@redis.internal");
    /// let store = RedisLockStore::connect(&config).await?;
    /// assert_eq!(store.address(), "redis.internal:6379");
    /// # Ok(())
    /// # }
    /// ```
    pub fn address(&self) -> String {
        match &self.core.steps.connector.topology {
            Topology::Standalone(node) => node.to_string(),
            Topology::Sentinel(sentinels, service) => {
                format!("{service} of the sentinels {}", list(sentinels))
            }
            Topology::Cluster(nodes) => format!("the cluster of {}", list(nodes)),
        }
    }
}

fn list(nodes: &[impl Display]) -> String {
    let nodes: Vec<_> = nodes.iter().map(ToString::to_string).collect();
    nodes.join(", ")
}
