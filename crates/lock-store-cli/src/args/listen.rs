//! Where a command listens.

use std::fmt;
use std::str::FromStr;

/// The metrics of the command itself
#[derive(Debug, clap::Args)]
pub(crate) struct MetricsOption {
    /// Serve this process' own metrics for Prometheus at http://ADDR/metrics
    /// while it runs, such as 127.0.0.1:9464.
    ///
    /// Without a host, as in :9464, on all interfaces. With the port 0 the
    /// system chooses one, which is said on standard error.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<ListenAddress>,
}

/// A host, or all interfaces, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    host: Option<String>,
    port: u16,
}

impl ListenAddress {
    /// What to bind: each of them, if there are several.
    pub(crate) fn sockets(&self) -> Vec<(&str, u16)> {
        match &self.host {
            Some(host) => vec![(host, self.port)],
            // One for both families, or, where there is no IPv6, the other.
            None => vec![("::", self.port), ("0.0.0.0", self.port)],
        }
    }

    /// Whether the system chooses the port.
    pub(crate) fn is_open(&self) -> bool {
        self.port == 0
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "it must be a host and a port, such as 127.0.0.1:9464, [::1]:9464 or :9464".to_owned()
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        // `parse` would take a sign.
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
        let in_brackets = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match (host, in_brackets) {
            ("", _) => None,
            (_, Some(host)) if host.parse::<std::net::Ipv6Addr>().is_ok() => Some(host),
            (_, Some(_)) => return Err(wrong()),
            (host, None) if host.contains([':', '/', '[', ']', ' ', '@']) => return Err(wrong()),
            (host, None) => Some(host),
        };
        Ok(Self {
            host: host.map(ToOwned::to_owned),
            port,
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or_default();
        if host.contains(':') {
            write!(f, "[{host}]:{}", self.port)
        } else {
            write!(f, "{host}:{}", self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_and_all_interfaces_are_understood() {
        for text in ["127.0.0.1:9464", "[::1]:9464", "localhost:0", ":9464"] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.is_open(), text.ends_with(":0"));
        }
    }

    #[test]
    fn anything_else_says_what_would_be_right() {
        let url = "http://127.0.0.1:9464";
        for text in [
            "", "9464", "a:", "a:b", "a:+1", "a:65536", "::1:9464", "[a]:1", url, "a:1/m",
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err();
            assert!(error.contains("such as 127.0.0.1:9464"), "{text}: {error}");
        }
    }
}
