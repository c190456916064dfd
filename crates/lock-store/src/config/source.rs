//! Where settings come from.

use std::fmt;

/// Where a setting comes from. Each of these counts over those above it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// Nothing says otherwise.
    Default,
    /// A file.
    File {
        /// Its name.
        file: String,
        /// The line, if it is known.
        line: Option<u64>,
    },
    /// A variable of the environment, by its name.
    Variable(String),
    /// The program, or an option that its user gave, by its name.
    Option(String),
}

impl Source {
    /// Of two sources the one with the higher rank counts.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File { .. } => 1,
            Self::Variable(_) => 2,
            Self::Option(_) => 3,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File {
                file,
                line: Some(line),
            } => write!(f, "{file}, line {line}"),
            Self::File { file, line: None } => f.write_str(file),
            Self::Variable(name) | Self::Option(name) => f.write_str(name),
        }
    }
}

/// A setting that is not the default, and where it comes from. Not its value,
/// which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// The key of the `lock_store` block.
    pub key: &'static str,
    /// What counts of all that give it.
    pub source: Source,
}
