//! What the URL of a Redis may be.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

const SCHEMES: [&str; 3] = ["redis://", "rediss://", "unix://"];

/// Where a server listens.
pub(crate) enum Server {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// What a URL says; other keys give what it leaves out. Not `Debug`: it may
/// hold a password.
pub(crate) struct UrlParts {
    pub(crate) server: Server,
    pub(crate) has_tls: bool,
    pub(crate) db: Option<u32>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

impl UrlParts {
    pub(super) fn has_login(&self) -> bool {
        self.username.is_some() || self.password.is_some()
    }
}

/// Reads the key `url`, which may be a host name; `port` belongs to such a name.
pub(crate) fn parse_address(address: &str, port: u16) -> Result<UrlParts, String> {
    if !is_host(address) {
        return parse_url(address);
    }
    Ok(UrlParts {
        server: Server::Tcp(address.to_owned(), port),
        has_tls: false,
        db: None,
        username: None,
        password: None,
    })
}

/// Whether it is a host name or an address, and no URL.
pub(super) fn is_host(address: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    address.parse::<Ipv6Addr>().is_ok() || !address.is_empty() && address.chars().all(is_name)
}

/// Reads a URL; the error says what is wrong without showing a part of it.
pub(super) fn parse_url(url: &str) -> Result<UrlParts, String> {
    if !SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        let wanted =
            "must be a host name, or a URL that begins with redis://, rediss:// or unix://";
        return Err(wanted.to_owned());
    }
    let wrong = |what: &str| {
        format!(
            "is a URL that {what}; it must look like \
             redis://[user[:password]@]host[:port][/db], rediss://… or unix:///path[?db=…]"
        )
    };
    // The library's own text is left out: it might show a part of the URL.
    let parsed: ConnectionInfo = url
        .into_connection_info()
        .map_err(|_| wrong("cannot be read"))?;
    let (server, has_tls) = match parsed.addr() {
        ConnectionAddr::Tcp(_, 0) | ConnectionAddr::TcpTls { port: 0, .. } => {
            return Err(wrong("has the port 0"));
        }
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            let what = "asks for TLS without verification, which is not offered";
            return Err(wrong(what));
        }
        ConnectionAddr::Tcp(host, port) => (Server::Tcp(host.clone(), *port), false),
        ConnectionAddr::TcpTls { host, port, .. } => (Server::Tcp(host.clone(), *port), true),
        ConnectionAddr::Unix(path) => (Server::Unix(path.clone()), false),
        _ => return Err(wrong("names an address of an unknown kind")),
    };
    let login = parsed.redis_settings();
    let Ok(db) = u32::try_from(login.db()) else {
        return Err(wrong("has a database that is not one"));
    };
    Ok(UrlParts {
        server,
        has_tls,
        db: has_db(url).then_some(db),
        username: login.username().map(str::to_owned),
        password: login.password().map(str::to_owned),
    })
}

/// The library says 0 also where the URL says nothing.
fn has_db(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if scheme == "unix" {
        return query.split('&').any(|pair| pair.starts_with("db="));
    }
    path.split_once('/')
        .is_some_and(|(_, db)| !db.trim_matches('/').is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_its_database_or_none() {
        for (url, db) in [
            ("redis://localhost/1", Some(1)),
            ("redis://localhost:6379/1/", Some(1)),
            ("redis://localhost/0", Some(0)),
            ("redis://localhost", None),
            ("redis://localhost/", None),
            ("redis://localhost/2?protocol=resp3", Some(2)),
            ("unix:///run/redis.sock?db=3", Some(3)),
            ("unix:///run/db=3.sock", None),
            ("localhost", None),
        ] {
            let parts = parse_address(url, 6379).unwrap();
            assert_eq!(parts.db, db, "{url}");
        }
    }
}
