//! From the values of the keys to a checked configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::Value;

use super::environment::Environment;
use super::rules::{self, Seconds, Whole, Wrong};
use super::source::{Setting, Source};
use super::url::{UrlParts, parse_url};
use super::{DeploymentMode, Fallback, Layout, LockStoreConfig, RedisConfig, StoreType, Timing};
use crate::error::LockError;

/// Every key there is, in the order of the documentation.
pub(super) const KEYS: [&str; 27] = [
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
    "max_hold",
    "client_name",
];

/// What `type` is where Rasa loads our Python package.
const RASA_CLASS: &str = "lock_store.rasa.RasaLockStore";

/// Keys whose values are never shown: an address may carry a password.
const SECRET: [&str; 4] = ["password", "username", "url", "host"];

/// The value of a key.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) value: Value,
    /// What the key is called where the value comes from.
    pub(super) name: String,
    pub(super) source: Source,
}

impl Given {
    /// An error that names the place of this value.
    fn error(&self, advice: &str) -> LockError {
        LockError::config(format!("{} {advice}", self.place()))
    }

    fn place(&self) -> String {
        let name = &self.name;
        match &self.source {
            Source::File { .. } => format!("{}: lock_store.{name}", self.source),
            Source::Variable(_) => format!("the environment variable {name}"),
            Source::Default | Source::Option(_) => name.clone(),
        }
    }

    /// It counts over the other.
    fn outranks(&self, other: &Self) -> bool {
        self.source.rank() > other.source.rank()
    }
}

/// The values that one source gives, by their keys.
pub(super) type Layer = BTreeMap<String, Given>;

/// The key that was probably meant.
pub(super) fn likely_key(key: &str) -> Option<&'static str> {
    let distances = KEYS.map(|known| (strsim::osa_distance(known, key), known));
    let (distance, known) = distances.into_iter().min()?;
    (distance <= 2).then_some(known)
}

/// The values that count, of all layers; a later layer counts over an earlier.
pub(super) fn merge(layers: impl IntoIterator<Item = Layer>) -> Result<Layer, LockError> {
    let mut merged = Layer::new();
    for mut layer in layers {
        translate_rasas_class(&mut layer);
        refuse_unknown_keys(&layer)?;
        // A key without a value is as good as none.
        layer.retain(|_, given| !given.value.is_null());
        if let Some(host) = layer.remove("host") {
            if let Some(url) = layer.get("url") {
                let url = match &url.source {
                    Source::File { .. } => format!("lock_store.{}", url.name),
                    _ => url.name.clone(),
                };
                let advice = format!("and {url} say the same; give one of them");
                return Err(host.error(&advice));
            }
            layer.insert("url".to_owned(), host);
        }
        merged.extend(layer);
    }
    Ok(merged)
}

/// In Rasa's own `endpoints.yml` the `type` is the class which Rasa loads, and
/// `store` says what the class is to use.
fn translate_rasas_class(layer: &mut Layer) {
    let has_class = layer.get("type").is_some_and(|it| it.value == RASA_CLASS);
    if !has_class {
        return;
    }
    let store = layer.remove("store").filter(|it| !it.value.is_null());
    if let Some(store) = store {
        layer.insert("type".to_owned(), store);
    } else if let Some(class) = layer.get_mut("type") {
        class.value = Value::from("redis");
    }
}

fn refuse_unknown_keys(layer: &Layer) -> Result<(), LockError> {
    let unknown = layer.iter().find(|(key, _)| !KEYS.contains(&key.as_str()));
    let Some((key, given)) = unknown else {
        return Ok(());
    };
    Err(given.error(&match likely_key(key) {
        Some(known) => format!("is not a key; did you mean `{known}`?"),
        None => format!("is not a key; there are {}", KEYS.join(", ")),
    }))
}

/// The configuration, with `defaults` for what is not given, and where each
/// setting of it comes from.
pub(super) fn read(
    values: Layer,
    environment: &Environment,
    defaults: &LockStoreConfig,
) -> Result<(LockStoreConfig, Vec<Setting>), LockError> {
    let mut block = Block {
        values,
        read: Layer::new(),
        environment,
    };
    let config = LockStoreConfig {
        store_type: block.store_type(defaults.store_type)?,
        timing: block.timing(&defaults.timing)?,
        redis: block.redis(&defaults.redis)?,
        client_name: block.text("client_name")?.or(defaults.client_name.clone()),
    };
    config.checked().map_err(|wrong| block.refused(&wrong))?;
    let setting = |key: &'static str| {
        let source = block.read.get(key)?.source.clone();
        Some(Setting { key, source })
    };
    let settings = KEYS.into_iter().filter_map(setting).collect();
    Ok((config, settings))
}

/// The values that are not read yet, and those that are.
struct Block<'b> {
    values: Layer,
    read: Layer,
    environment: &'b Environment<'b>,
}

impl Block<'_> {
    /// Without a `type` a program or a variable that says where Redis is means
    /// Redis; a file must say so, as Rasa's.
    fn store_type(&mut self, default: StoreType) -> Result<StoreType, LockError> {
        let types = [
            ("in_memory", StoreType::InMemory),
            ("redis", StoreType::Redis),
        ];
        if let Some(found) = self.choice("type", &types)? {
            return Ok(found);
        }
        let servers = ["url", "endpoints"].map(|key| self.values.get(key));
        let mut servers = servers.into_iter().flatten();
        let server = servers.find(|it| !matches!(it.source, Source::File { .. }));
        let Some(server) = server.cloned() else {
            return Ok(default);
        };
        self.read.insert("type".to_owned(), server);
        Ok(StoreType::Redis)
    }

    fn timing(&mut self, default: &Timing) -> Result<Timing, LockError> {
        Ok(Timing {
            lock_lifetime: self
                .seconds(&rules::LOCK_LIFETIME)?
                .unwrap_or(default.lock_lifetime),
            wait_timeout: self.wait_timeout()?.or(default.wait_timeout),
            wait_time: self
                .seconds(&rules::WAIT_TIME)?
                .unwrap_or(default.wait_time),
            claim_window: self
                .seconds(&rules::CLAIM_WINDOW)?
                .unwrap_or(default.claim_window),
            keep_alive: self.truth("keep_alive")?.unwrap_or(default.keep_alive),
            max_hold: self.seconds(&rules::MAX_HOLD)?.or(default.max_hold),
        })
    }

    fn wait_timeout(&mut self) -> Result<Option<Duration>, LockError> {
        let rule = &rules::WAIT_TIMEOUT;
        let Some(time) = self.seconds(rule)? else {
            return Ok(None);
        };
        rule.check(time).map_err(|wrong| self.refused(&wrong))?;
        Ok(Some(time))
    }

    fn redis(&mut self, default: &RedisConfig) -> Result<RedisConfig, LockError> {
        let default = default.clone();
        let url = self.text("url")?;
        let parts = url.as_deref().and_then(|url| parse_url(url).ok());
        if let Some(parts) = &parts {
            self.fit_to_url(parts)?;
        }
        let modes = [
            ("standard", DeploymentMode::Standard),
            ("sentinel", DeploymentMode::Sentinel),
            ("cluster", DeploymentMode::Cluster),
        ];
        let fallbacks = [("in_memory", Fallback::InMemory), ("none", Fallback::None)];
        let layouts = [("native", Layout::Native), ("rasa", Layout::Rasa)];
        let mut path = |key| -> Result<_, LockError> { Ok(self.text(key)?.map(PathBuf::from)) };
        let [certfile, keyfile, ca_certs] = [
            path("ssl_certfile")?,
            path("ssl_keyfile")?,
            path("ssl_ca_certs")?,
        ];
        let config = RedisConfig {
            url: url.map_or(default.url, SecretString::from),
            port: self.whole(&rules::PORT)?.unwrap_or(default.port),
            db: self.whole(&rules::DB)?.unwrap_or(default.db),
            username: self.text("username")?.or(default.username),
            password: self
                .text("password")?
                .map(SecretString::from)
                .or(default.password),
            use_ssl: self.truth("use_ssl")?.unwrap_or(default.use_ssl),
            ssl_certfile: certfile.or(default.ssl_certfile),
            ssl_keyfile: keyfile.or(default.ssl_keyfile),
            ssl_ca_certs: ca_certs.or(default.ssl_ca_certs),
            key_prefix: self.text("key_prefix")?.or(default.key_prefix),
            socket_timeout: self
                .seconds(&rules::SOCKET_TIMEOUT)?
                .unwrap_or(default.socket_timeout),
            connections: self
                .whole(&rules::CONNECTIONS)?
                .unwrap_or(default.connections),
            replicas: self.whole(&rules::REPLICAS)?.unwrap_or(default.replicas),
            deployment_mode: self
                .choice("deployment_mode", &modes)?
                .unwrap_or(default.deployment_mode),
            endpoints: self.endpoints()?.unwrap_or(default.endpoints),
            sentinel_service: self
                .text("sentinel_service")?
                .unwrap_or(default.sentinel_service),
            fallback: self
                .choice("fallback", &fallbacks)?
                .unwrap_or(default.fallback),
            layout: self.choice("layout", &layouts)?.unwrap_or(default.layout),
        };
        if !config.use_ssl && parts.is_some_and(|parts| parts.has_tls) {
            self.refuse_beside_url("use_ssl")?;
        }
        Ok(config)
    }

    /// A URL says what other keys say, too, and the store goes by the URL. So
    /// a key that counts over the URL is refused rather than left out.
    fn fit_to_url(&mut self, parts: &UrlParts) -> Result<(), LockError> {
        self.refuse_beside_url("port")?;
        if parts.db.is_some() {
            self.refuse_beside_url("db")?;
        }
        if let (true, Some(url)) = (parts.has_login(), self.read.get("url")) {
            // A password must not go to a server that it was not meant for.
            for key in ["username", "password"] {
                if self.values.get(key).is_some_and(|it| url.outranks(it)) {
                    self.values.remove(key);
                }
            }
        }
        Ok(())
    }

    fn refuse_beside_url(&self, key: &str) -> Result<(), LockError> {
        let given = self.values.get(key).or_else(|| self.read.get(key));
        match (given, self.read.get("url")) {
            (Some(given), Some(url)) if given.outranks(url) => {
                let place = match &url.source {
                    Source::File { .. } => url.source.to_string(),
                    _ => url.name.clone(),
                };
                let advice = format!(
                    "cannot change the URL in {place}, which says it already; change that URL"
                );
                Err(given.error(&advice))
            }
            _ => Ok(()),
        }
    }

    fn endpoints(&mut self) -> Result<Option<Vec<String>>, LockError> {
        let Some(given) = self.take("endpoints")? else {
            return Ok(None);
        };
        let endpoints = given.value.as_array().and_then(|items| {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<Vec<_>>>()
        });
        match endpoints {
            Some(endpoints) => Ok(Some(endpoints)),
            None => Err(given.error(rules::ENDPOINTS)),
        }
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, LockError> {
        let Some(given) = self.take(key)? else {
            return Ok(None);
        };
        match given.value {
            Value::String(text) => Ok(Some(text)),
            _ => Err(wrong(key, &given, "text; put it in quotes")),
        }
    }

    fn truth(&mut self, key: &str) -> Result<Option<bool>, LockError> {
        let Some(given) = self.take(key)? else {
            return Ok(None);
        };
        let truth = match &given.value {
            Value::Bool(truth) => Some(*truth),
            Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
            _ => None,
        };
        match truth {
            Some(truth) => Ok(Some(truth)),
            None => Err(wrong(key, &given, "true or false")),
        }
    }

    fn whole<N: TryFrom<u64>>(&mut self, rule: &Whole) -> Result<Option<N>, LockError> {
        let Some(given) = self.take(rule.key)? else {
            return Ok(None);
        };
        let number = match &given.value {
            Value::String(text) => text.trim().parse::<u64>().ok(),
            other => other.as_u64(),
        };
        match number.and_then(|number| N::try_from(number).ok()) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(rule.key, &given, &rule.wanted())),
        }
    }

    fn seconds(&mut self, rule: &Seconds) -> Result<Option<Duration>, LockError> {
        let Some(given) = self.take(rule.key)? else {
            return Ok(None);
        };
        let seconds = match &given.value {
            Value::String(text) => text.trim().parse::<f64>().ok(),
            other => other.as_f64(),
        };
        match seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            Some(time) => Ok(Some(time)),
            None => Err(wrong(rule.key, &given, &rule.wanted())),
        }
    }

    fn choice<T: Copy>(&mut self, key: &str, of: &[(&str, T)]) -> Result<Option<T>, LockError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        if let Some((_, value)) = of.iter().find(|(name, _)| *name == text) {
            return Ok(Some(*value));
        }
        let names: Vec<_> = of.iter().map(|(name, _)| format!("`{name}`")).collect();
        Err(self.refused_at(
            key,
            &format!("is {text:?}; it must be {}", names.join(" or ")),
        ))
    }

    /// The value of a key, once, with its variables replaced.
    fn take(&mut self, key: &str) -> Result<Option<Given>, LockError> {
        let Some(mut given) = self.values.remove(key) else {
            return Ok(None);
        };
        // What does not come from a text with lines is meant literally.
        if let Source::File { line: Some(_), .. } = given.source {
            given.value = self.expanded(&given, &given.value)?;
        }
        self.read.insert(key.to_owned(), given.clone());
        Ok(Some(given))
    }

    fn expanded(&self, given: &Given, value: &Value) -> Result<Value, LockError> {
        let expanded = |text: &str| {
            self.environment.expand(text).map_err(|variable| {
                given.error(&format!(
                    "names ${{{variable}}}, which is not set in the environment"
                ))
            })
        };
        match value {
            Value::String(text) => expanded(text).map(Value::String),
            Value::Array(items) => {
                let items = items.iter().map(|item| self.expanded(given, item));
                items.collect::<Result<_, _>>().map(Value::Array)
            }
            other => Ok(other.clone()),
        }
    }

    /// The error for a value that breaks a rule, in the place it comes from.
    fn refused(&self, wrong: &Wrong) -> LockError {
        let Some(given) = self.read.get(wrong.key) else {
            return LockError::config(format!("{} {}", wrong.key, wrong.text()));
        };
        if wrong.key == "endpoints" && matches!(given.source, Source::Variable(_)) {
            return given.error(
                "must be `host:port`, or several with commas between them, such as \
                 redis-1:26379,redis-2:26379",
            );
        }
        match &wrong.found {
            // As it was written.
            Some(_) => given.error(&format!("is {}; {}", given.value, wrong.advice)),
            None => given.error(&wrong.advice),
        }
    }

    fn refused_at(&self, key: &str, advice: &str) -> LockError {
        match self.read.get(key) {
            Some(given) => given.error(advice),
            None => LockError::config(format!("{key} {advice}")),
        }
    }
}

/// The error for a value that is of another kind.
fn wrong(key: &str, given: &Given, wanted: &str) -> LockError {
    if SECRET.contains(&key) {
        return given.error(&format!("must be {wanted}"));
    }
    given.error(&format!("is {}; it must be {wanted}", given.value))
}
