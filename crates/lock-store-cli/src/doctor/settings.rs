//! What can be said without asking anybody.

use std::time::Duration;

use lock_store::diagnose::Deployment;
use lock_store::{DeploymentMode, Fallback, LockStoreConfig, RedisConfig, StoreType, Timing};

use super::finding::Finding;
use crate::args::Connection;

/// A pause of so long is nothing unusual for a process.
const PAUSE: Duration = Duration::from_secs(1);
/// For longer no conversation should stand still.
const STANDSTILL: Duration = Duration::from_secs(600);

/// An error of the configuration, which says after a `;` what would be right.
pub(super) fn refused(error: &anyhow::Error) -> Finding {
    let text = format!("{error:#}");
    let text = text.strip_prefix("configuration error: ").unwrap_or(&text);
    match text.split_once("; ") {
        Some((message, remedy)) => Finding::failure(message, remedy),
        None => Finding::failure(text, "docs/CONFIGURATION.md has every key and its values"),
    }
}

/// Where the settings come from.
pub(super) fn source(connection: &Connection) -> String {
    match (&connection.redis, &connection.endpoints) {
        (Some(_), _) => "--redis".into(),
        (None, Some(path)) => path.display().to_string(),
        (None, None) if std::path::Path::new("endpoints.yml").exists() => "endpoints.yml".into(),
        (None, None) => "no endpoints.yml here".into(),
    }
}

pub(super) fn in_memory(source: &str) -> Finding {
    Finding::ok(format!(
        "{source}: the locks are in memory: right for one process; several would each have locks \
         of their own, and need `type: redis`"
    ))
}

pub(super) fn in_redis(source: &str, deployment: &Deployment) -> Finding {
    let all: Vec<_> = deployment
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let all = all.join(", ");
    let place = match deployment.mode() {
        DeploymentMode::Sentinel => format!("Redis behind sentinels at {all}"),
        DeploymentMode::Cluster => format!("Redis Cluster at {all}"),
        _ => format!("Redis at {all}"),
    };
    let (tls, login) = (
        if deployment.uses_tls() {
            "with"
        } else {
            "without"
        },
        if deployment.has_password() {
            "with"
        } else {
            "without"
        },
    );
    Finding::ok(format!(
        "{source}: {place}, database {}, {tls} TLS, {login} a password, keys {}",
        deployment.db(),
        deployment.key_pattern()
    ))
}

pub(super) fn fallback(config: &RedisConfig) -> Finding {
    match config.fallback {
        Fallback::InMemory => Finding::warning(
            "a process that cannot reach Redis when it starts has locks of its own until it can \
             (fallback: in_memory)",
            "set `fallback: none` where several processes share conversations",
        ),
        _ => Finding::ok("a process that cannot reach Redis does not start (fallback: none)"),
    }
}

pub(super) fn timing(config: &LockStoreConfig) -> Finding {
    let Timing {
        lock_lifetime,
        wait_timeout,
        wait_time,
        claim_window,
        keep_alive,
    } = config.timing;
    // In memory nothing is asked, and every call arrives.
    let is_shared = config.store_type == StoreType::Redis;
    let patience = wait_timeout.unwrap_or(lock_lifetime);
    let mut found = Vec::new();
    let mut warn = |is_so: bool, message: String, remedy: &str| {
        if is_so {
            found.push(Finding::warning(message, remedy));
        }
    };
    let [lifetime, wait, window, timeout] = [
        lock_lifetime,
        wait_time,
        claim_window,
        config.redis.socket_timeout,
    ]
    .map(text);
    warn(
        claim_window > lock_lifetime,
        format!(
            "claim_window ({window}) is longer than lock_lifetime ({lifetime}), which counts instead"
        ),
        "make claim_window the shorter one",
    );
    warn(
        claim_window < PAUSE,
        format!(
            "a client that pauses for longer than claim_window ({window}) loses all its tickets in that queue"
        ),
        "set claim_window to 5",
    );
    warn(
        is_shared && wait_time * 3 > claim_window,
        format!(
            "wait_time ({wait}) is longer than a third of claim_window ({window}), which counts instead"
        ),
        "set wait_time to 1",
    );
    warn(
        patience < claim_window.min(lock_lifetime),
        format!(
            "waiters give up after {}, before a client that died gives way (claim_window, {window})",
            text(patience)
        ),
        "set wait_timeout higher than claim_window",
    );
    warn(
        is_shared && config.redis.socket_timeout >= lock_lifetime,
        format!(
            "one answer may take as long (socket_timeout, {timeout}) as a lease (lock_lifetime, {lifetime})"
        ),
        "set socket_timeout to a fraction of lock_lifetime",
    );
    warn(
        lock_lifetime < PAUSE && !keep_alive,
        format!("a lock is lost {lifetime} after its turn has come (lock_lifetime)"),
        "set a longer lock_lifetime, or keep_alive: true",
    );
    warn(
        lock_lifetime > STANDSTILL,
        format!(
            "the conversation of a holder that died stands still for {lifetime} (lock_lifetime)"
        ),
        "set a short lock_lifetime and keep_alive: true",
    );
    if found.is_empty() {
        let keep = if keep_alive {
            "extended"
        } else {
            "not extended"
        };
        return Finding::ok(format!(
            "leases of {lifetime}, {keep}; waits of {}; a dead client costs {window}",
            text(patience)
        ));
    }
    Finding::worst_of(found)
}

pub(super) fn connections(config: &RedisConfig) -> Finding {
    let wanted = config.connections;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if wanted > cores {
        return Finding::warning(
            format!("{wanted} connections for steps, and {cores} processor cores to use them"),
            "set `connections` to 1; more help only where one core of the client is full",
        );
    }
    let more = if config.replicas > 0 {
        ", 1 for WAIT"
    } else {
        ""
    };
    Finding::ok(format!(
        "each process opens {wanted} for steps, 1 for calls{more}, to each server that it uses"
    ))
}

/// A time, for people.
pub(super) fn text(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.001 {
        format!("{:.0} µs", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{} ms", significant(seconds * 1e3))
    } else if seconds < 120.0 {
        format!("{} s", significant(seconds))
    } else if seconds < 7200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else if seconds < 172_800.0 {
        format!("{:.0} h", seconds / 3600.0)
    } else {
        format!("{:.0} days", seconds / 86_400.0)
    }
}

/// One digit after the point, unless it is a zero.
fn significant(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    fn timing_of(yaml: &str) -> Finding {
        let yaml = format!("lock_store:\n  type: redis\n{yaml}");
        timing(&LockStoreConfig::from_yaml(&yaml).unwrap())
    }

    #[test]
    fn times_that_do_not_fit_are_named() {
        assert_eq!(timing_of("").status, Status::Ok);
        for (yaml, name) in [
            (
                "  lock_lifetime: 20\n  claim_window: 30",
                "claim_window (30 s) is longer than lock_lifetime",
            ),
            (
                "  claim_window: 0.5\n  wait_time: 0.1",
                "pauses for longer than claim_window (500 ms)",
            ),
            ("  wait_time: 3", "wait_time (3 s) is longer than a third"),
            ("  wait_timeout: 2", "waiters give up after 2 s"),
            ("  socket_timeout: 60", "socket_timeout, 60 s"),
            (
                "  lock_lifetime: 0.5\n  socket_timeout: 0.1",
                "lost 500 ms after its turn",
            ),
            ("  lock_lifetime: 86400", "stands still for 24 h"),
        ] {
            let found = timing_of(yaml);
            assert_eq!(found.status, Status::Warning, "{yaml}");
            assert!(found.message.contains(name), "{yaml}: {}", found.message);
            assert!(found.remedy.is_some(), "{yaml}");
        }
    }

    #[test]
    fn times_are_short() {
        let micros = Duration::from_micros;
        for (time, expected) in [
            (micros(412), "412 µs"),
            (micros(2_500), "2.5 ms"),
            (micros(5_000_000), "5 s"),
            (micros(240_000_000), "4 min"),
            (micros(86_400_000_000), "24 h"),
        ] {
            assert_eq!(text(time), expected);
        }
    }

    #[test]
    fn more_connections_than_cores_are_too_many() {
        let many = RedisConfig {
            connections: 10_000,
            ..RedisConfig::default()
        };
        assert_eq!(connections(&many).status, Status::Warning);
        assert_eq!(connections(&RedisConfig::default()).status, Status::Ok);
    }
}
