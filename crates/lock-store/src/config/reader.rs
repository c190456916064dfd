//! From files, the environment and a program to one configuration.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use super::block::{self, Given, Layer};
use super::environment::Environment;
use super::source::{Setting, Source};
use super::{Fallback, LockStoreConfig, RedisConfig, yaml};
use crate::error::LockError;

/// Reads a configuration for programs that have options of their own, and says
/// where each setting comes from.
///
/// What [`option`](Self::option) says counts over the variables `LOCK_STORE_…`
/// of the environment, these over `TICKET_LOCK_LIFETIME`, this over the file,
/// and the file over the defaults.
///
/// ```
/// use lock_store::{ConfigReader, Source};
///
/// let read = ConfigReader::new()
///     .yaml("lock_store:\n  type: redis\n  url: redis.internal\n")
///     .option("lock_lifetime", 30)
///     .read()?;
/// assert_eq!(read.config.timing.lock_lifetime.as_secs(), 30);
/// let url = read.settings.iter().find(|setting| setting.key == "url");
/// assert_eq!(url.unwrap().source.to_string(), "endpoints, line 3");
/// # Ok::<(), lock_store::LockError>(())
/// ```
#[derive(Clone)]
pub struct ConfigReader {
    defaults: LockStoreConfig,
    text: Option<(String, String)>,
    block: Layer,
    options: Layer,
}

/// What a [`ConfigReader`] has read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReadConfig {
    /// The configuration, checked.
    pub config: LockStoreConfig,
    /// Where its settings come from; without those that are the default.
    pub settings: Vec<Setting>,
}

impl Default for ConfigReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ConfigReader {
    /// Reads the environment only, until it is told of more.
    pub fn new() -> Self {
        // As Rasa's. A `RedisConfig` made in code has another fallback.
        let defaults = LockStoreConfig {
            redis: RedisConfig {
                fallback: Fallback::InMemory,
                ..RedisConfig::default()
            },
            ..LockStoreConfig::default()
        };
        Self {
            defaults,
            text: None,
            block: Layer::new(),
            options: Layer::new(),
        }
    }

    /// Other defaults than those of `endpoints.yml`.
    #[must_use]
    pub fn defaults(mut self, defaults: LockStoreConfig) -> Self {
        self.defaults = defaults;
        self
    }

    /// Reads the `lock_store` block of a file as well.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config) when the file cannot be read.
    pub fn endpoints(self, path: impl AsRef<Path>) -> Result<Self, LockError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| {
            LockError::config(format!("cannot read {}", path.display())).with_source(error)
        })?;
        Ok(self.named_yaml(&path.display().to_string(), &text))
    }

    /// As [`endpoints`](Self::endpoints), for a text.
    #[must_use]
    pub fn yaml(self, text: &str) -> Self {
        self.named_yaml("endpoints", text)
    }

    pub(super) fn named_yaml(mut self, file: &str, text: &str) -> Self {
        self.text = Some((file.to_owned(), text.to_owned()));
        self
    }

    /// A key of the `lock_store` block of `endpoints.yml`, by a program that
    /// has read the file itself. No `${NAME}` is replaced in it.
    #[must_use]
    pub fn block(mut self, key: &str, value: impl Into<Value>) -> Self {
        let source = Source::File {
            file: "endpoints.yml".to_owned(),
            line: None,
        };
        let given = Given {
            value: value.into(),
            name: key.to_owned(),
            source,
        };
        self.block.insert(key.to_owned(), given);
        self
    }

    /// A key to which the program gives a value.
    #[must_use]
    pub fn option(self, key: &str, value: impl Into<Value>) -> Self {
        self.option_named(key, key, value)
    }

    /// As [`option`](Self::option), for an option with another name than the
    /// key, such as `--redis` for `url`. Errors say `name`.
    #[must_use]
    pub fn option_named(mut self, name: &str, key: &str, value: impl Into<Value>) -> Self {
        let given = Given {
            value: value.into(),
            name: name.to_owned(),
            source: Source::Option(name.to_owned()),
        };
        self.options.insert(key.to_owned(), given);
        self
    }

    /// Reads and checks everything.
    ///
    /// # Errors
    ///
    /// [`Config`](crate::LockErrorKind::Config), naming the file and line, the
    /// variable or the option, and what would be right. Values of secrets are
    /// never shown.
    pub fn read(self) -> Result<ReadConfig, LockError> {
        self.read_in(&Environment::process())
    }

    pub(super) fn read_in(self, environment: &Environment) -> Result<ReadConfig, LockError> {
        let mut text = Layer::new();
        if let Some((file, yaml)) = &self.text {
            for (key, located) in yaml::lock_store_block(yaml, file)?.into_iter().flatten() {
                let source = Source::File {
                    file: file.clone(),
                    line: Some(located.line),
                };
                let given = Given {
                    value: located.value,
                    name: key.clone(),
                    source,
                };
                text.insert(key, given);
            }
        }
        let layers = [text, self.block, environment.values()?, self.options];
        let values = block::merge(layers)?;
        let (config, settings) = block::read(values, environment, &self.defaults)?;
        Ok(ReadConfig { config, settings })
    }
}

impl fmt::Debug for ConfigReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: values may be secrets.
        f.debug_struct("ConfigReader")
            .field("file", &self.text.as_ref().map(|(file, _)| file))
            .field("block", &self.block.keys())
            .field("options", &self.options.keys())
            .finish_non_exhaustive()
    }
}
