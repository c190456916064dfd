//! The replicas of the servers that hold locks.

use std::time::Duration;

use lock_store::{DeploymentMode, RedisConfig};

use super::finding::Finding;
use super::persistence::setting;
use super::server::{Info, may_not_ask};
use super::settings::text;
use super::together;
use super::tour::Node;

/// Replicas acknowledge every second.
const LAG: u64 = 5;
/// A replica that is as far behind has not the newest locks by far.
const BEHIND: u64 = 1_000_000;

pub(super) async fn check(nodes: &[Node<'_>], config: &RedisConfig) -> Finding {
    let mut found = Vec::new();
    for node in nodes {
        let finding = match &node.info {
            Some(info) => {
                let least = setting(node, "min-replicas-to-write").await;
                let least = least.and_then(|it| it.parse().ok()).unwrap_or(0);
                judge(&Replicas::read(info), config, least)
            }
            None => may_not_ask("INFO"),
        };
        found.push(finding);
    }
    together(nodes, found)
}

#[derive(Debug, Default)]
struct Replicas {
    online: usize,
    others: usize,
    /// Seconds since the last word of the slowest.
    lag: u64,
    /// How many bytes it is behind.
    behind: u64,
}

impl Replicas {
    /// From lines such as `slave0:ip=…,port=…,state=online,offset=…,lag=0`.
    fn read(info: &Info) -> Self {
        let mut replicas = Self::default();
        let end = info.number("master_repl_offset").unwrap_or(0);
        let count = info.number("connected_slaves").unwrap_or(0);
        for nth in 0..count {
            let Some(line) = info.text(&format!("slave{nth}")) else {
                continue;
            };
            let field = |name: &str| {
                let mut fields = line.split(',').filter_map(|it| it.split_once('='));
                fields.find(|(key, _)| *key == name).map(|(_, value)| value)
            };
            let number = |name| field(name).and_then(|it| it.parse::<u64>().ok());
            if field("state") == Some("online") {
                replicas.online += 1;
                replicas.lag = replicas.lag.max(number("lag").unwrap_or(0));
                let behind = end.saturating_sub(number("offset").unwrap_or(end));
                replicas.behind = replicas.behind.max(behind);
            } else {
                replicas.others += 1;
            }
        }
        replicas
    }
}

fn judge(replicas: &Replicas, config: &RedisConfig, least: usize) -> Finding {
    let Replicas {
        online,
        others,
        lag,
        behind,
    } = *replicas;
    let wanted = config.replicas;
    if online < wanted {
        return Finding::failure(
            format!(
                "{online} replicas are online, and every lock wants {wanted} (replicas: {wanted})"
            ),
            "start the replicas, or lower lock_store.replicas",
        );
    }
    if online < least {
        return Finding::failure(
            format!(
                "{online} replicas are online; without {least} Redis refuses to write (min-replicas-to-write)"
            ),
            "start the replicas, or lower min-replicas-to-write",
        );
    }
    if others > 0 {
        return Finding::warning(
            format!("{online} replicas are online, and {others} not in step yet"),
            "wait until they have their copy, or see their log",
        );
    }
    if lag > LAG || behind > BEHIND {
        return Finding::warning(
            format!(
                "a replica was last heard of {} ago, and is {behind} bytes behind: a failover to it forgets locks",
                text(Duration::from_secs(lag))
            ),
            "is its network or its machine too slow?",
        );
    }
    if online == 0 && config.deployment_mode != DeploymentMode::Standard {
        return Finding::warning(
            "no replica: nobody can take over",
            "start one, and make it a replica of this master",
        );
    }
    match (online, wanted) {
        (0, _) => Finding::ok("none, and none is wanted (replicas: 0)"),
        (_, 0) => Finding::ok(format!(
            "{online} online; a lock does not wait for them (replicas: 0)"
        )),
        _ => Finding::ok(format!("{online} online; each lock waits for {wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    #[test]
    fn missing_and_slow_ones_are_named() {
        let config = |replicas, deployment_mode| RedisConfig {
            replicas,
            deployment_mode,
            ..RedisConfig::default()
        };
        let of = |online, others, lag, behind| Replicas {
            online,
            others,
            lag,
            behind,
        };
        let (standard, sentinel) = (
            config(0, DeploymentMode::Standard),
            config(2, DeploymentMode::Sentinel),
        );
        let status = |replicas, config, least| judge(&replicas, config, least).status;
        assert_eq!(status(of(0, 0, 0, 0), &standard, 0), Status::Ok);
        assert_eq!(status(of(0, 0, 0, 0), &standard, 1), Status::Failure);
        assert_eq!(status(of(2, 0, 1, 10), &sentinel, 1), Status::Ok);
        assert_eq!(status(of(1, 0, 1, 10), &sentinel, 0), Status::Failure);
        assert_eq!(status(of(2, 1, 1, 10), &sentinel, 0), Status::Warning);
        assert_eq!(status(of(2, 0, 9, 10), &sentinel, 0), Status::Warning);
        assert_eq!(
            status(of(2, 0, 0, 2_000_000), &sentinel, 0),
            Status::Warning
        );
        let none = config(0, DeploymentMode::Cluster);
        assert_eq!(status(of(0, 0, 0, 0), &none, 0), Status::Warning);
    }
}
