//! What a URL of Redis says.

use std::net::Ipv6Addr;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::Node;
use crate::error::LockError;

/// What a URL says; what it does not say comes from the other keys.
#[derive(Default)]
pub(super) struct UrlParts {
    pub(super) node: Node,
    pub(super) tls: bool,
    pub(super) db: Option<i64>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

/// Whether it is a mere host name. What is neither that nor a URL is not shown:
/// it may be a URL with a mistake, and have a password.
pub(super) fn is_host(address: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    address.parse::<Ipv6Addr>().is_ok() || !address.is_empty() && address.chars().all(is_name)
}

pub(super) fn parse_url(url: &str) -> Result<UrlParts, LockError> {
    // The library's own text is left out: it might show a part of the URL.
    let wrong = |what: &str| {
        LockError::config(format!(
            "the Redis URL {what}; it looks like \
             redis://[user[:password]@]host[:port][/db], rediss://… or unix:///path[?db=…]"
        ))
    };
    let parsed: ConnectionInfo = url
        .into_connection_info()
        .map_err(|_| wrong("cannot be read"))?;
    let (node, tls) = match parsed.addr() {
        ConnectionAddr::Tcp(host, port) => (Node::Tcp(host.clone(), *port), false),
        ConnectionAddr::TcpTls { insecure: true, .. } => {
            return Err(wrong(
                "asks for TLS without verification, which is not offered",
            ));
        }
        ConnectionAddr::TcpTls { host, port, .. } => (Node::Tcp(host.clone(), *port), true),
        ConnectionAddr::Unix(path) => (Node::Unix(path.clone()), false),
        _ => return Err(wrong("names an address of an unknown kind")),
    };
    let login = parsed.redis_settings();
    // 0 is also what the library says where the URL says nothing.
    let says_db = match url.split_once("://") {
        Some(("unix", rest)) => rest.contains("db="),
        Some((_, rest)) => rest
            .split(['?', '#'])
            .next()
            .is_some_and(|path| path.rsplit_once('/').is_some_and(|(_, db)| !db.is_empty())),
        None => false,
    };
    Ok(UrlParts {
        node,
        tls,
        db: says_db.then(|| login.db()),
        username: login.username().map(str::to_owned),
        password: login.password().map(str::to_owned),
    })
}
