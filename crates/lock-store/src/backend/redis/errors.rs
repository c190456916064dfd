//! What goes wrong with Redis, told apart by what can be done about it.

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use super::connect::Node;
use crate::error::LockError;

/// Why there is no connection.
#[derive(Debug, Clone)]
pub(super) struct ConnectError {
    /// What is wrong and what would be right, without any secret.
    pub(super) text: String,
    kind: ConnectErrorKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ConnectErrorKind {
    /// It may pass: not reachable, loading, in a failover.
    Passing,
    /// The server hung up instead of answering.
    Silence,
    /// Only a human can mend it: wrong password, certificate, database.
    Lasting,
}

impl ConnectError {
    pub(super) fn lasting(text: impl Into<String>) -> Self {
        let kind = ConnectErrorKind::Lasting;
        let text = text.into();
        Self { text, kind }
    }

    fn passing(text: impl Into<String>) -> Self {
        let kind = ConnectErrorKind::Passing;
        let text = text.into();
        Self { text, kind }
    }

    pub(super) fn is_lasting(&self) -> bool {
        self.kind == ConnectErrorKind::Lasting
    }

    pub(super) fn is_silence(&self) -> bool {
        self.kind == ConnectErrorKind::Silence
    }

    /// The one that says more.
    pub(super) fn or_worse(self, other: Self) -> Self {
        if other.kind > self.kind { other } else { self }
    }

    pub(super) fn into_error(self) -> LockError {
        if self.is_lasting() {
            LockError::config(self.text)
        } else {
            LockError::unavailable(self.text)
        }
    }

    pub(super) fn nobody_to_ask() -> Self {
        Self::passing("no server could be asked")
    }

    pub(super) fn unknown_service(sentinel: &Node, service: &str) -> Self {
        Self::lasting(format!(
            "the sentinel at {sentinel} knows no master called {service:?}; \
             see lock_store.sentinel_service"
        ))
    }

    pub(super) fn is_cluster(node: &Node) -> Self {
        Self::lasting(format!(
            "Redis at {node} is a cluster; set lock_store.deployment_mode: cluster"
        ))
    }

    pub(super) fn no_cluster(node: &Node) -> Self {
        Self::lasting(format!(
            "Redis at {node} is no cluster; see lock_store.deployment_mode"
        ))
    }

    pub(super) fn is_sentinel(node: &Node) -> Self {
        Self::lasting(format!(
            "Redis at {node} is a sentinel; set lock_store.deployment_mode: sentinel, and \
             lock_store.endpoints to the sentinels"
        ))
    }

    pub(super) fn no_sentinel(node: &Node) -> Self {
        Self::lasting(format!(
            "Redis at {node} is no sentinel; see lock_store.endpoints and \
             lock_store.deployment_mode"
        ))
    }

    pub(super) fn no_master(node: &Node, role: &str) -> Self {
        Self::passing(format!(
            "Redis at {node} should be the master, and says it is a {role}"
        ))
    }

    pub(super) fn speaks_tls(node: &Node) -> Self {
        Self::lasting(format!(
            "Redis at {node} speaks TLS; set lock_store.use_ssl: true, or use a rediss:// URL"
        ))
    }

    pub(super) fn speaks_no_tls(node: &Node) -> Self {
        Self::lasting(format!(
            "Redis at {node} does not speak TLS; set lock_store.use_ssl: false, or use a redis:// \
             URL"
        ))
    }

    pub(super) fn is_refused_login(error: &RedisError) -> bool {
        let text = error.to_string();
        error.kind() == ErrorKind::AuthenticationFailed
            || [
                "WRONGPASS",
                "invalid username-password",
                "without any password",
            ]
            .iter()
            .any(|sign| text.contains(sign))
    }

    /// Whether only a human can mend it that a command is refused.
    pub(super) fn is_refusal(error: &RedisError) -> bool {
        let text = error.to_string();
        text.contains("no permissions") || text.contains("unknown command")
    }

    /// Why no connection could be opened.
    pub(super) fn connecting(node: &Node, tls: bool, error: &RedisError) -> Self {
        let text = said(error);
        let has = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
        let advice = if Self::is_refused_login(error) {
            "refused the user name or the password; see lock_store.username and \
             lock_store.password"
        } else if has(&["NOAUTH", "Authentication required", "already authenticated"]) {
            "wants a password; see lock_store.password"
        } else if has(&["NOPERM", "no permissions"]) {
            return Self::lasting(format!(
                "Redis at {node} does not let this user do what is needed: {}; {}docs/REDIS.md \
                 has the rights that it needs",
                without_user(&text),
                if text.contains("key") {
                    "see lock_store.key_prefix; "
                } else {
                    ""
                },
            ));
        } else if has(&["DB index is out of range", "invalid DB index"]) {
            "has no database of this number; see lock_store.db"
        } else if has(&["unknown command 'SELECT'"]) {
            return Self::is_sentinel(node);
        } else if has(&["SELECT is not allowed in cluster mode"]) {
            return Self::is_cluster(node);
        } else if has(&["unknown command", "unknown subcommand"]) {
            return Self::lasting(format!(
                "Redis at {node} lacks a command that is needed ({text}); it must be Redis 6.2 or \
                 newer, or Valkey, with all the commands that docs/REDIS.md names"
            ));
        } else if has(&["DENIED", "protected mode"]) {
            return Self::lasting(format!(
                "Redis at {node} takes no connections from this machine: {text}"
            ));
        } else if has(&["UnknownIssuer"]) {
            "has a certificate of an authority that is not known here; see \
             lock_store.ssl_ca_certs"
        } else if has(&["not valid for name", "NotValidForName"]) {
            "has a certificate for another name; give the name that is in it as \
             lock_store.url or lock_store.host"
        } else if has(&["CertificateRequired", "certificate required"]) {
            "wants a certificate of this client; see lock_store.ssl_certfile"
        } else if has(&[
            "UnknownCA",
            "BadCertificate",
            "CertificateUnknown",
            "CertificateExpired",
        ]) {
            "does not accept the certificate of this client; see lock_store.ssl_certfile"
        } else if tls && has(&["InvalidContentType", "corrupt message"]) {
            return Self::speaks_no_tls(node);
        } else if has(&["invalid peer certificate", "fatal alert"]) {
            return Self::lasting(format!(
                "Redis at {node} and this client do not agree: {text}"
            ));
        } else if error.kind() == ErrorKind::RESP3NotSupported {
            "is too old; it must be 6.2 or newer"
        } else if error.kind() == ErrorKind::Parse {
            "is not a Redis: its answer makes no sense; see lock_store.url or lock_store.host, and \
             lock_store.port"
        } else if error.is_timeout() {
            return Self::passing(format!(
                "cannot reach Redis at {node}: no answer in time; is it a Redis, and is \
                 lock_store.socket_timeout long enough?"
            ));
        } else if is_hung_up(error) {
            return Self {
                text: format!(
                    "the server at {node} hung up instead of answering; is it a Redis, and does \
                     it speak {}?",
                    if tls { "TLS" } else { "without TLS" }
                ),
                kind: ConnectErrorKind::Silence,
            };
        } else {
            return Self::passing(format!("cannot reach Redis at {node}: {}", plain(error)));
        };
        Self::lasting(format!("Redis at {node} {advice}"))
    }
}

/// What the server said, without the arguments that it repeats: there may be a
/// password among them. One sentence of it, of a pipeline that of its first error.
fn said(error: &RedisError) -> String {
    let text = error.to_string();
    let text = text
        .split_once("(Index 0, error: ")
        .map_or(&*text, |(_, first)| first);
    let end = text
        .find(", with args")
        .or_else(|| text.find(" `with args"));
    let text = &text[..end.unwrap_or(text.len())];
    let end = text.find(". ").map_or(text.len(), |at| at + 1);
    text[..end].to_owned()
}

/// Newer servers name the user.
fn without_user(text: &str) -> String {
    match text
        .split_once("User ")
        .zip(text.split_once(" has no permissions"))
    {
        Some(((before, _), (_, after))) => format!("{before}this user has no permissions{after}"),
        None => text.to_owned(),
    }
}

fn is_hung_up(error: &RedisError) -> bool {
    error.is_connection_dropped() && !error.is_connection_refusal()
}

/// What to do about an answer to a step that is an error.
#[derive(Debug)]
pub(super) enum Decision {
    /// The connection is of no use any more; the step may have been done.
    Reconnect,
    /// The server is not the one that it was.
    NewMaster,
    /// The server does not know the script: it was not done.
    NoScript,
    /// Another node has the slot.
    Moved(u16, Node),
    /// Another node has the key just now.
    Ask(Node),
    /// It passes.
    Wait,
    /// What is stored is no queue.
    Damaged(String),
    /// Trying again is of no use now.
    Refused,
}

pub(super) fn classify(error: &RedisError) -> Decision {
    if let Some((node, slot)) = error.redirect_node()
        && let Some(node) = Node::parse(node)
    {
        return match error.kind() {
            ErrorKind::Server(ServerErrorKind::Ask) => Decision::Ask(node),
            _ => Decision::Moved(slot, node),
        };
    }
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoScript) => Decision::NoScript,
        ErrorKind::Server(ServerErrorKind::ReadOnly) => Decision::NewMaster,
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain,
        ) => Decision::Wait,
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed => Decision::Reconnect,
        _ => classify_text(&error.to_string()),
    }
}

/// As [`classify`], by the text alone: raised inside a script, errors have no code
/// of their own everywhere.
pub(super) fn classify_text(text: &str) -> Decision {
    let has = |signs: &[&str]| signs.iter().any(|sign| text.contains(sign));
    if has(&["NOAUTH"]) {
        Decision::Reconnect
    } else if has(&["READONLY", "read only replica"]) {
        Decision::NewMaster
    } else if has(&[
        "NOREPLICAS",
        "BUSY",
        "MASTERDOWN",
        "LOADING",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "MISCONF",
        // The slot is moving, and the key went meanwhile: another node has it.
        "non local key",
    ]) {
        Decision::Wait
    } else if has(&["WRONGTYPE"]) {
        Decision::Damaged("a value of another type than a list".into())
    } else if let Some((_, found)) = text.split_once("DAMAGED ") {
        let found = found.split(" script: ").next().unwrap_or(found);
        Decision::Damaged(format!("the ticket {found}"))
    } else {
        Decision::Refused
    }
}

/// Whether this reply says that the server does not know a script (any more).
pub(super) fn is_unknown_script(reply: &Value) -> bool {
    let Value::ServerError(error) = reply else {
        return false;
    };
    matches!(classify(&error.clone().into()), Decision::NoScript)
}

/// The error for a caller.
pub(super) fn plain(error: &RedisError) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    said(error)
}
