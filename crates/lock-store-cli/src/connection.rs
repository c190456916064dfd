//! From the options that say where the locks are to the locks.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use anyhow::bail;
use lock_store::{
    Fallback, LockStore, LockStoreConfig, RedisConfig, RedisLockStore, StoreType, Timing,
};

use crate::args::{Connection, RedisUrl};

const DEFAULT_ENDPOINTS: &str = "endpoints.yml";

/// The locks of a fleet, for a command that looks after them.
pub(crate) struct Fleet {
    pub(crate) redis: Arc<RedisLockStore>,
    pub(crate) config: LockStoreConfig,
}

impl Fleet {
    /// Connects; `task` is the subcommand that needs it.
    pub(crate) async fn open(connection: &Connection, task: &str) -> anyhow::Result<Self> {
        let config = fleet_config(connection, task)?;
        let redis = Arc::new(RedisLockStore::connect(&config.redis).await?);
        Ok(Self { redis, config })
    }

    /// A store on it, with the times of the configuration or others.
    pub(crate) fn store(&self, timing: Timing) -> anyhow::Result<LockStore> {
        Ok(LockStore::with_timing(self.redis.clone(), timing)?)
    }
}

/// What is configured, if it is something that several processes share.
pub(crate) fn fleet_config(connection: &Connection, task: &str) -> anyhow::Result<LockStoreConfig> {
    let config = config(connection)?;
    if config.store_type == StoreType::Redis {
        return Ok(config);
    }
    bail!(
        "the locks are in memory, where no other process can see them, so there is nothing that \
         `{task}` could do; name a Redis with --redis redis://localhost:6379/1, or a file with \
         `type: redis` with --endpoints"
    );
}

/// What is configured.
pub(crate) fn config(connection: &Connection) -> anyhow::Result<LockStoreConfig> {
    if let Some(url) = &connection.redis {
        return shared(url);
    }
    let default = Path::new(DEFAULT_ENDPOINTS);
    let config = match &connection.endpoints {
        Some(path) => LockStoreConfig::from_endpoints(path),
        None if is_absent(default) => LockStoreConfig::from_yaml(""),
        None => LockStoreConfig::from_endpoints(default),
    };
    Ok(config?)
}

/// Only what is surely not there may be left out: whoever has their locks in
/// Redis must not get others because the file cannot be read just now.
fn is_absent(file: &Path) -> bool {
    fs::symlink_metadata(file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Locks that several processes share. Without Redis they would not, so there
/// is nothing to fall back to.
fn shared(url: &RedisUrl) -> anyhow::Result<LockStoreConfig> {
    let url = url.expose();
    if !url.contains("://") {
        // Not shown: it may hold a password.
        bail!("--redis must be a URL such as redis://localhost:6379/1");
    }
    Ok(LockStoreConfig {
        store_type: StoreType::Redis,
        redis: RedisConfig {
            fallback: Fallback::None,
            ..RedisConfig::from_url(url)
        },
        ..LockStoreConfig::from_yaml("")?
    })
}
