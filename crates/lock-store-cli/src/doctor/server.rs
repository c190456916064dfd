//! Who a server says it is.

use std::collections::HashMap;

use lock_store::DeploymentMode;
use lock_store::diagnose::{Reply, Session};

use super::finding::Finding;
use super::of_each;
use super::tour::Node;
use super::way::Way;

/// What `HELLO` says.
#[derive(Debug, Default)]
pub(super) struct Hello {
    server: String,
    version: String,
    mode: String,
    role: String,
}

/// What `INFO` says.
#[derive(Debug, Default)]
pub(super) struct Info(HashMap<String, String>);

impl Info {
    fn parse(text: &str) -> Self {
        let fields = text
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'));
        Self(
            fields
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str)
    }

    pub(super) fn number(&self, field: &str) -> Option<u64> {
        self.text(field)?.parse().ok()
    }
}

/// Asks a server who it is.
pub(super) async fn know(way: Way<'_>) -> Option<Node<'_>> {
    let session = way.session?;
    let info = session.ask(&["INFO"]).await.ok();
    let info = info.as_ref().and_then(Reply::text).map(Info::parse);
    Some(Node {
        hello: hello(&session, info.as_ref()).await,
        address: way.address,
        session,
        info,
    })
}

async fn hello(session: &Session<'_>, info: Option<&Info>) -> Hello {
    let reply = session.ask(&["HELLO"]).await.ok();
    let field = |name: &str| {
        let text = reply.as_ref().and_then(|it| it.field(name)?.text());
        text.unwrap_or_default().to_owned()
    };
    if reply.as_ref().is_some_and(|reply| !reply.list().is_empty()) {
        return Hello {
            server: field("server"),
            version: field("version"),
            mode: field("mode"),
            role: field("role"),
        };
    }
    // Before Redis 6 there is no such command.
    let text = |name| {
        info.and_then(|info| info.text(name))
            .unwrap_or_default()
            .to_owned()
    };
    Hello {
        server: "redis".into(),
        version: text("redis_version"),
        mode: text("redis_mode"),
        role: text("role"),
    }
}

pub(super) fn version(nodes: &[Node<'_>], mode: DeploymentMode) -> Finding {
    of_each(nodes, |node| {
        judge_version(&node.hello.server, &node.hello.version, mode)
    })
}

fn judge_version(server: &str, version: &str, mode: DeploymentMode) -> Finding {
    let is_valkey = server == "valkey";
    let name = if is_valkey { "Valkey" } else { "Redis" };
    let is = format!("{name} {version}");
    let mut numbers = version.split('.').map_while(|it| it.parse::<u64>().ok());
    let Some(major) = numbers.next() else {
        return Finding::warning(
            "it does not say its version",
            "see that it is Redis 6.2 or newer, or Valkey 8 or newer",
        );
    };
    let found = (major, numbers.next().unwrap_or(0));
    let least = match (is_valkey, mode) {
        (true, _) => (8, 0),
        (false, DeploymentMode::Cluster) => (7, 0),
        (false, _) => (6, 2),
    };
    if found >= least {
        return Finding::ok(is);
    }
    let remedy = format!("upgrade it to {}.{} or newer", least.0, least.1);
    let message = format!("{is} is too old");
    // Nothing is known to be wrong with Valkey 7; it is not tested.
    if is_valkey {
        Finding::warning(message, remedy)
    } else {
        Finding::failure(message, remedy)
    }
}

pub(super) fn role(nodes: &[Node<'_>], mode: DeploymentMode) -> Finding {
    of_each(nodes, |node| {
        judge_role(
            &node.address.to_string(),
            &node.hello.mode,
            &node.hello.role,
            mode,
        )
    })
}

fn judge_role(at: &str, is: &str, role: &str, mode: DeploymentMode) -> Finding {
    let fail = |what: &str, remedy: &str| Finding::failure(format!("{at} is {what}"), remedy);
    match (mode, is, role) {
        (_, "sentinel", _) => fail(
            "a sentinel",
            "set lock_store.deployment_mode: sentinel, and lock_store.endpoints to the sentinels",
        ),
        (DeploymentMode::Cluster, "standalone", _) => fail(
            "no node of a cluster",
            "set lock_store.deployment_mode: standard, or name a node of the cluster",
        ),
        (DeploymentMode::Standard | DeploymentMode::Sentinel, "cluster", _) => fail(
            "a node of a cluster",
            "set lock_store.deployment_mode: cluster, and lock_store.endpoints to some nodes",
        ),
        (_, _, "replica" | "slave") => fail(
            "a replica, which takes no locks",
            match mode {
                DeploymentMode::Standard => {
                    "name the master, or set lock_store.deployment_mode: sentinel"
                }
                _ => "a failover may be under way: look again",
            },
        ),
        (DeploymentMode::Cluster, ..) => Finding::ok("a master of the cluster"),
        _ => Finding::ok("a standalone master"),
    }
}

/// For what needs `INFO`.
pub(super) fn may_not_ask(command: &str) -> Finding {
    Finding::skipped(format!(
        "this user may not ask {command}; to know it, run this with a user who may"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    #[test]
    fn old_versions_are_refused() {
        use DeploymentMode::{Cluster, Standard};
        use Status::{Failure, Ok, Warning};
        for (server, version, mode, expected) in [
            ("redis", "6.0.16", Standard, Failure),
            ("redis", "6.2.0", Standard, Ok),
            ("redis", "6.2.14", Cluster, Failure),
            ("redis", "7.0.15", Cluster, Ok),
            ("redis", "10.1.0", Standard, Ok),
            ("valkey", "7.2.5", Standard, Warning),
            ("valkey", "8.1.1", Cluster, Ok),
            ("redis", "", Standard, Warning),
        ] {
            let found = judge_version(server, version, mode);
            assert_eq!(found.status, expected, "{server} {version}");
        }
    }

    #[test]
    fn fields_of_info_are_read() {
        let info = Info::parse("# Memory\r\nmaxmemory:5\r\nmaxmemory_policy:noeviction\r\n");
        assert_eq!(info.number("maxmemory"), Some(5));
        assert_eq!(info.text("maxmemory_policy"), Some("noeviction"));
        assert_eq!(info.number("maxmemory_policy"), None);
    }
}
