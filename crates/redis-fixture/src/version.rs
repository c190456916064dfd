//! Which server it is.

use std::fmt::{self, Display, Formatter};

/// A version of Redis, which can be compared.
///
/// ```
/// use redis_fixture::{Server, Version};
///
/// let server = Server::start();
/// assert!(server.version() >= Version::new(6, 2, 0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
    /// The third number.
    pub patch: u16,
}

impl Version {
    /// From its three numbers.
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// From three numbers with dots, and perhaps more after them.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text
            .split(|character: char| !character.is_ascii_digit())
            .map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self::new(next()?, next()?, next()?))
    }
}

impl Display for Version {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            major,
            minor,
            patch,
        } = self;
        write!(formatter, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let version = Version::parse("7.0.15").unwrap();
        assert_eq!(version, Version::new(7, 0, 15));
        assert_eq!(version.to_string(), "7.0.15");
        assert!(version > Version::parse("6.2.5-rc1").unwrap());
        assert!(version < Version::parse("7.2.4").unwrap());
        assert_eq!(Version::parse("7.0"), None);
    }
}
