//! How near a server is to its limits, and what it does at them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lock_store::diagnose::Reply;

use super::finding::Finding;
use super::server::{Info, may_not_ask};
use super::settings::text;
use super::tour::Node;
use super::{of_each, together};

/// A command that took as long held up everybody else.
const SLOW: Duration = Duration::from_millis(50);
/// What was longer ago may have had its reason.
const RECENT: u64 = 3600;

pub(super) fn memory_policy(nodes: &[Node<'_>]) -> Finding {
    from_info(nodes, |info| {
        judge_policy(info.text("maxmemory_policy"), info.number("maxmemory"))
    })
}

fn from_info(nodes: &[Node<'_>], judge: impl Fn(&Info) -> Finding) -> Finding {
    of_each(nodes, |node| match &node.info {
        Some(info) => judge(info),
        None => may_not_ask("INFO"),
    })
}

fn judge_policy(policy: Option<&str>, limit: Option<u64>) -> Finding {
    const REMEDY: &str = "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf";
    let Some(policy) = policy else {
        return Finding::skipped("this server does not tell its maxmemory-policy");
    };
    match (policy, limit) {
        ("noeviction", _) => Finding::ok("noeviction: Redis throws no locks away"),
        (_, Some(0)) => Finding::warning(
            format!("{policy}: as soon as there is a maxmemory, Redis may throw locks away"),
            REMEDY,
        ),
        _ => Finding::failure(
            format!("{policy}: when its memory is full, Redis may throw locks away"),
            REMEDY,
        ),
    }
}

pub(super) fn memory(nodes: &[Node<'_>]) -> Finding {
    from_info(nodes, |info| {
        let number = |field| info.number(field);
        let limit = number("maxmemory").filter(|limit| *limit > 0);
        judge_memory(number("used_memory"), limit, number("total_system_memory"))
    })
}

fn judge_memory(used: Option<u64>, limit: Option<u64>, machine: Option<u64>) -> Finding {
    const REMEDY: &str = "raise maxmemory, or see what needs it (redis-cli --bigkeys)";
    let Some(used) = used else {
        return Finding::skipped("this server does not tell its memory");
    };
    let (of, limit) = match (limit, machine.filter(|all| *all > 0)) {
        (Some(limit), _) => ("maxmemory", limit),
        (None, Some(all)) => ("the machine's memory (there is no maxmemory)", all),
        (None, None) => return Finding::ok(format!("{} used, no maxmemory", size(used))),
    };
    let percent = used.saturating_mul(100) / limit;
    let message = format!("{} used, {percent} % of {of}, {}", size(used), size(limit));
    match percent {
        95.. => Finding::failure(format!("{message}: soon there are no new locks"), REMEDY),
        80.. => Finding::warning(message, REMEDY),
        _ => Finding::ok(message),
    }
}

pub(super) fn clients(nodes: &[Node<'_>]) -> Finding {
    from_info(nodes, |info| {
        judge_clients(info.number("connected_clients"), info.number("maxclients"))
    })
}

fn judge_clients(connected: Option<u64>, most: Option<u64>) -> Finding {
    let Some(connected) = connected else {
        return Finding::skipped("this server does not tell its clients");
    };
    match most {
        Some(most) if connected * 10 > most * 8 => Finding::warning(
            format!("{connected} of at most {most} clients are connected"),
            "raise maxclients, or see who opens so many connections with CLIENT LIST",
        ),
        Some(most) => Finding::ok(format!("{connected} of at most {most} are connected")),
        None => Finding::ok(format!("{connected} are connected")),
    }
}

pub(super) async fn slow_log(nodes: &[Node<'_>]) -> Finding {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut found = Vec::new();
    for node in nodes {
        let finding = match node.session.ask(&["SLOWLOG", "GET", "128"]).await {
            Ok(reply) if reply.error().is_none() => judge_slow_log(&reply, now.as_secs()),
            Ok(_) => may_not_ask("SLOWLOG"),
            Err(error) => Finding::skipped(error.to_string()),
        };
        found.push(finding);
    }
    together(nodes, found)
}

/// Entries are number, time, µs, words…: of the words only the first is told,
/// as others may be secrets.
fn judge_slow_log(entries: &Reply, now: u64) -> Finding {
    let mut slow = 0;
    let mut slowest = (Duration::ZERO, "");
    for entry in entries.list() {
        let [_, at, micros, words, ..] = entry.list() else {
            continue;
        };
        let number = |reply: &Reply| u64::try_from(reply.integer()?).ok();
        let (Some(at), Some(micros)) = (number(at), number(micros)) else {
            continue;
        };
        let took = Duration::from_micros(micros);
        if took < SLOW || at + RECENT < now {
            continue;
        }
        slow += 1;
        if took > slowest.0 {
            let name = words.list().first().and_then(Reply::text);
            slowest = (took, name.unwrap_or("?"));
        }
    }
    if slow == 0 {
        return Finding::ok(format!(
            "no command took {} or more in the last hour",
            text(SLOW)
        ));
    }
    let (took, name) = slowest;
    Finding::warning(
        format!(
            "{slow} commands held everybody up for {} or more in the last hour, {} for {}",
            text(SLOW),
            name.to_uppercase(),
            text(took)
        ),
        "see SLOWLOG GET, and give the locks a Redis of their own",
    )
}

#[allow(clippy::cast_precision_loss)] // one digit is shown
fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes < 1e6 {
        format!("{:.0} kB", bytes / 1e3)
    } else if bytes < 1e9 {
        format!("{:.1} MB", bytes / 1e6)
    } else {
        format!("{:.1} GB", bytes / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    #[test]
    fn whatever_may_evict_is_named() {
        let status = |policy, limit| judge_policy(Some(policy), limit).status;
        assert_eq!(status("noeviction", Some(1)), Status::Ok);
        for policy in ["allkeys-lru", "volatile-ttl", "volatile-lfu"] {
            assert_eq!(status(policy, Some(0)), Status::Warning);
            assert_eq!(status(policy, Some(1)), Status::Failure);
        }
    }

    #[test]
    fn fullness_is_graded() {
        let status = |used, limit| judge_memory(Some(used), limit, Some(1000)).status;
        assert_eq!(status(79, Some(100)), Status::Ok);
        assert_eq!(status(80, Some(100)), Status::Warning);
        assert_eq!(status(95, Some(100)), Status::Failure);
        assert_eq!(status(95, None), Status::Ok);
        assert_eq!(judge_clients(Some(80), Some(100)).status, Status::Ok);
        assert_eq!(judge_clients(Some(81), Some(100)).status, Status::Warning);
    }

    #[test]
    fn only_what_was_slow_lately_counts_and_no_argument_is_told() {
        let entry = |at, micros| {
            let words = ["keys", "s3cret"].map(|word| Reply::Text(word.into()));
            let words = Reply::List(words.to_vec());
            Reply::List(vec![
                Reply::Integer(1),
                Reply::Integer(at),
                Reply::Integer(micros),
                words,
            ])
        };
        let log = Reply::List(vec![
            entry(10_000, 60_000),
            entry(1, 900_000),
            entry(10_000, 9),
        ]);
        let found = judge_slow_log(&log, 10_001);
        assert_eq!(found.status, Status::Warning);
        assert!(found.message.starts_with("1 commands"), "{}", found.message);
        assert!(
            found.message.ends_with("KEYS for 60 ms"),
            "{}",
            found.message
        );
        assert_eq!(judge_slow_log(&log, 100_000).status, Status::Ok);
    }
}
