//! From the values of the block to a checked configuration.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

use super::environment::Environment;
use super::yaml::Located;
use super::{
    DeploymentMode, Fallback, Layout, LockStoreConfig, RedisConfig, StoreType, Timing, WAITS,
};
use crate::error::LockError;
use crate::store::{LIFETIMES, LONGEST_WAIT};

/// Every key there is, in the order of the documentation.
pub(super) const KEYS: [&str; 25] = [
    "type",
    "url",
    "host",
    "port",
    "db",
    "username",
    "password",
    "use_ssl",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_ca_certs",
    "key_prefix",
    "socket_timeout",
    "connections",
    "replicas",
    "deployment_mode",
    "endpoints",
    "sentinel_service",
    "fallback",
    "layout",
    "lock_lifetime",
    "wait_timeout",
    "wait_time",
    "claim_window",
    "keep_alive",
];

/// What `type` is where Rasa loads our Python package.
const RASA_CLASS: &str = "lock_store.rasa.RasaLockStore";

/// Keys whose values are never shown: an address may carry a password.
const SECRET: [&str; 4] = ["password", "username", "url", "host"];

pub(super) fn read(
    values: BTreeMap<String, Located>,
    file: &str,
    environment: &Environment,
) -> Result<LockStoreConfig, LockError> {
    let mut block = Block {
        values,
        file,
        environment,
    };
    let store_type = store_type(&mut block)?;
    block.refuse_unknown_keys()?;
    let config = LockStoreConfig {
        store_type,
        timing: timing(&mut block)?,
        redis: redis(&mut block)?,
    };
    Ok(config)
}

/// The `type`. In Rasa's own `endpoints.yml` that is the class which Rasa
/// loads, and `store` says what the class is to use.
fn store_type(block: &mut Block) -> Result<StoreType, LockError> {
    let types = [
        ("in_memory", StoreType::InMemory),
        ("redis", StoreType::Redis),
    ];
    if block.has("type", RASA_CLASS) {
        block.take("type");
        return Ok(block.choice("store", &types)?.unwrap_or(StoreType::Redis));
    }
    Ok(block.choice("type", &types)?.unwrap_or_default())
}

fn timing(block: &mut Block) -> Result<Timing, LockError> {
    let default = Timing::default();
    Ok(Timing {
        lock_lifetime: block
            .seconds("lock_lifetime", &LIFETIMES)?
            .unwrap_or(default.lock_lifetime),
        wait_timeout: block.seconds("wait_timeout", &(Duration::ZERO..=LONGEST_WAIT))?,
        wait_time: block
            .seconds("wait_time", &WAITS)?
            .unwrap_or(default.wait_time),
        claim_window: block
            .seconds("claim_window", &WAITS)?
            .unwrap_or(default.claim_window),
        keep_alive: block.truth("keep_alive")?.unwrap_or(default.keep_alive),
    })
}

fn redis(block: &mut Block) -> Result<RedisConfig, LockError> {
    let default = RedisConfig::default();
    let layout = layout(block)?;
    Ok(RedisConfig {
        url: address(block)?.unwrap_or(default.url),
        port: block.whole("port", 1..=u16::MAX)?.unwrap_or(default.port),
        db: block.whole("db", 0..=u32::MAX)?.unwrap_or(default.db),
        username: block.text("username")?,
        password: block.text("password")?.map(SecretString::from),
        use_ssl: block.truth("use_ssl")?.unwrap_or(default.use_ssl),
        ssl_certfile: block.text("ssl_certfile")?.map(PathBuf::from),
        ssl_keyfile: block.text("ssl_keyfile")?.map(PathBuf::from),
        ssl_ca_certs: block.text("ssl_ca_certs")?.map(PathBuf::from),
        key_prefix: key_prefix(block, layout)?,
        socket_timeout: block
            .seconds("socket_timeout", &WAITS)?
            .unwrap_or(default.socket_timeout),
        connections: block
            .whole("connections", 1..=64)?
            .unwrap_or(default.connections),
        replicas: block
            .whole("replicas", 0..=100)?
            .unwrap_or(default.replicas),
        deployment_mode: block
            .choice(
                "deployment_mode",
                &[
                    ("standard", DeploymentMode::Standard),
                    ("sentinel", DeploymentMode::Sentinel),
                    ("cluster", DeploymentMode::Cluster),
                ],
            )?
            .unwrap_or_default(),
        endpoints: endpoints(block)?.unwrap_or_default(),
        sentinel_service: block
            .text("sentinel_service")?
            .unwrap_or(default.sentinel_service),
        fallback: block
            .choice(
                "fallback",
                &[("in_memory", Fallback::InMemory), ("none", Fallback::None)],
            )?
            .unwrap_or_default(),
        layout,
    })
}

fn layout(block: &mut Block) -> Result<Layout, LockError> {
    let layout = block.choice(
        "layout",
        &[("native", Layout::Native), ("rasa", Layout::Rasa)],
    )?;
    Ok(layout.unwrap_or_default())
}

fn address(block: &mut Block) -> Result<Option<SecretString>, LockError> {
    let line = block.line("host");
    let (url, host) = (block.text("url")?, block.text("host")?);
    if url.is_some() && host.is_some() {
        return Err(block.error(
            "host",
            line,
            "and lock_store.url say the same; give one of them",
        ));
    }
    let key = if url.is_some() { "url" } else { "host" };
    let Some(address) = url.or(host) else {
        return Ok(None);
    };
    let known = ["redis://", "rediss://", "unix://"];
    if address.contains("://") && !known.iter().any(|scheme| address.starts_with(scheme)) {
        let wanted = "must be a host name, or begin with redis://, rediss:// or unix://";
        return Err(block.error(key, None, wanted));
    }
    Ok(Some(SecretString::from(address)))
}

fn key_prefix(block: &mut Block, layout: Layout) -> Result<Option<String>, LockError> {
    let line = block.line("key_prefix");
    let Some(prefix) = block.text("key_prefix")? else {
        return Ok(None);
    };
    if layout == Layout::Rasa {
        // Rasa takes any, and leaves out those that it does not like.
        return Ok(Some(prefix));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if prefix.is_empty() || !prefix.chars().all(allowed) {
        let wanted = format!("is {prefix:?}; it may have letters, digits, `_`, `-` and `.`");
        return Err(block.error("key_prefix", line, &wanted));
    }
    Ok(Some(prefix))
}

fn endpoints(block: &mut Block) -> Result<Option<Vec<String>>, LockError> {
    let Some(found) = block.take("endpoints") else {
        return Ok(None);
    };
    let line = Some(found.line);
    let wanted = "must be a list of `host:port`, such as [\"redis-1:26379\", \"redis-2:26379\"]";
    let Value::Array(items) = found.value else {
        return Err(block.error("endpoints", line, wanted));
    };
    let mut endpoints = Vec::with_capacity(items.len());
    for item in items {
        let Value::String(item) = item else {
            return Err(block.error("endpoints", line, wanted));
        };
        let item = block.expand("endpoints", line, &item)?;
        let is_right = item.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !is_right {
            return Err(block.error("endpoints", line, wanted));
        }
        endpoints.push(item);
    }
    Ok(Some(endpoints))
}

/// The values that are not read yet.
struct Block<'b> {
    values: BTreeMap<String, Located>,
    file: &'b str,
    environment: &'b Environment<'b>,
}

impl Block<'_> {
    fn refuse_unknown_keys(&self) -> Result<(), LockError> {
        let Some((key, found)) = self
            .values
            .iter()
            .find(|(key, _)| !KEYS.contains(&key.as_str()))
        else {
            return Ok(());
        };
        let likely = KEYS
            .iter()
            .min_by_key(|known| strsim::osa_distance(known, key));
        let advice = match likely.filter(|known| strsim::osa_distance(known, key) <= 2) {
            Some(known) => format!("is not a key; did you mean `{known}`?"),
            None => format!("is not a key; there are {}", KEYS.join(", ")),
        };
        Err(self.error(key, Some(found.line), &advice))
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, LockError> {
        let Some(found) = self.take(key) else {
            return Ok(None);
        };
        match found.value {
            Value::String(text) => self.expand(key, Some(found.line), &text).map(Some),
            other => Err(self.wrong(key, found.line, &other, "text; put it in quotes")),
        }
    }

    fn truth(&mut self, key: &str) -> Result<Option<bool>, LockError> {
        let Some(found) = self.take(key) else {
            return Ok(None);
        };
        let value = self.expanded(key, &found)?;
        match (&value, value.as_str()) {
            (Value::Bool(truth), _) => Ok(Some(*truth)),
            (_, Some("true" | "True")) => Ok(Some(true)),
            (_, Some("false" | "False")) => Ok(Some(false)),
            _ => Err(self.wrong(key, found.line, &value, "true or false")),
        }
    }

    fn whole<N>(&mut self, key: &str, range: RangeInclusive<N>) -> Result<Option<N>, LockError>
    where
        N: TryFrom<u64> + PartialOrd + std::fmt::Display,
    {
        let Some(found) = self.take(key) else {
            return Ok(None);
        };
        let value = self.expanded(key, &found)?;
        let number = match &value {
            Value::String(text) => text.trim().parse::<u64>().ok(),
            other => other.as_u64(),
        };
        let number = number.and_then(|number| N::try_from(number).ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (least, most) = (range.start(), range.end());
                let wanted = format!("a whole number from {least} to {most}");
                Err(self.wrong(key, found.line, &value, &wanted))
            }
        }
    }

    fn seconds(
        &mut self,
        key: &str,
        range: &RangeInclusive<Duration>,
    ) -> Result<Option<Duration>, LockError> {
        let Some(found) = self.take(key) else {
            return Ok(None);
        };
        let value = self.expanded(key, &found)?;
        let seconds = match &value {
            Value::String(text) => text.trim().parse::<f64>().ok(),
            other => other.as_f64(),
        };
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        match time.filter(|time| range.contains(time)) {
            Some(time) => Ok(Some(time)),
            None => {
                let (least, most) = (range.start().as_secs_f64(), range.end().as_secs_f64());
                let wanted = format!("a number of seconds from {least} to {most}");
                Err(self.wrong(key, found.line, &value, &wanted))
            }
        }
    }

    fn choice<T: Copy>(&mut self, key: &str, of: &[(&str, T)]) -> Result<Option<T>, LockError> {
        let line = self.line(key);
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        match of.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(Some(*value)),
            None => {
                let names: Vec<_> = of.iter().map(|(name, _)| format!("`{name}`")).collect();
                let wanted = format!("is {text:?}; it must be {}", names.join(" or "));
                Err(self.error(key, line, &wanted))
            }
        }
    }

    fn has(&self, key: &str, text: &str) -> bool {
        let found = self.values.get(key);
        found.is_some_and(|found| found.value == text)
    }

    /// A key without a value is as good as none.
    fn take(&mut self, key: &str) -> Option<Located> {
        self.values
            .remove(key)
            .filter(|found| !found.value.is_null())
    }

    fn line(&self, key: &str) -> Option<u64> {
        self.values.get(key).map(|found| found.line)
    }

    fn expanded(&self, key: &str, found: &Located) -> Result<Value, LockError> {
        match &found.value {
            Value::String(text) => self.expand(key, Some(found.line), text).map(Value::String),
            other => Ok(other.clone()),
        }
    }

    fn expand(&self, key: &str, line: Option<u64>, text: &str) -> Result<String, LockError> {
        self.environment.expand(text).map_err(|variable| {
            let advice = format!("names ${{{variable}}}, which is not set in the environment");
            self.error(key, line, &advice)
        })
    }

    fn wrong(&self, key: &str, line: u64, found: &Value, wanted: &str) -> LockError {
        let advice = if SECRET.contains(&key) {
            format!("must be {wanted}")
        } else {
            format!("is {found}; it must be {wanted}")
        };
        self.error(key, Some(line), &advice)
    }

    fn error(&self, key: &str, line: Option<u64>, advice: &str) -> LockError {
        let file = self.file;
        let place = line.map_or_else(|| file.to_owned(), |line| format!("{file}, line {line}"));
        LockError::config(format!("{place}: lock_store.{key} {advice}"))
    }
}
