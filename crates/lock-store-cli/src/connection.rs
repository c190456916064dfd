//! From the options that say where the locks are to the locks.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use anyhow::bail;
use lock_store::{
    ConfigReader, LockStore, LockStoreConfig, ReadConfig, RedisLockStore, StoreType, Timing,
};

use crate::args::{Connection, RedisUrl};

pub(crate) const DEFAULT_ENDPOINTS: &str = "endpoints.yml";

/// The option, as errors name it.
const REDIS: &str = "--redis";

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
         `{task}` could do; name a Redis with --redis redis://localhost:6379/1 or in \
         LOCK_STORE_URL, or a file with `type: redis` with --endpoints"
    );
}

/// What is configured.
pub(crate) fn config(connection: &Connection) -> anyhow::Result<LockStoreConfig> {
    Ok(read(connection)?.config)
}

/// What is configured, and where.
pub(crate) fn read(connection: &Connection) -> anyhow::Result<ReadConfig> {
    let reader = ConfigReader::new();
    if let Some(url) = &connection.redis {
        return Ok(shared(reader, url)?.read()?);
    }
    let default = Path::new(DEFAULT_ENDPOINTS);
    let reader = match &connection.endpoints {
        Some(path) => reader.endpoints(path)?,
        None if is_absent(default) => reader,
        None => reader.endpoints(default)?,
    };
    Ok(reader.read()?)
}

/// Only what is surely not there may be left out: whoever has their locks in
/// Redis must not get others because the file cannot be read just now.
pub(crate) fn is_absent(file: &Path) -> bool {
    fs::symlink_metadata(file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Locks that several processes share. Without Redis they would not, so there
/// is nothing to fall back to.
fn shared(reader: ConfigReader, url: &RedisUrl) -> anyhow::Result<ConfigReader> {
    let url = url.expose();
    if !url.contains("://") {
        // Not shown: it may hold a password.
        bail!("--redis must be a URL such as redis://localhost:6379/1");
    }
    Ok(reader
        .option_named(REDIS, "type", "redis")
        .option_named(REDIS, "url", url)
        .option_named(REDIS, "fallback", "none"))
}
