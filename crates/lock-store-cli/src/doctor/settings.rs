//! What can be said without asking anybody.

use std::path::Path;
use std::time::Duration;

use lock_store::diagnose::Deployment;
use lock_store::{
    DEFAULT_CLAIM_WINDOW, DeploymentMode, Fallback, LockStoreConfig, RedisConfig, Setting, Source,
    StoreType, Timing,
};

use super::finding::Finding;
use crate::args::Connection;
use crate::connection::{DEFAULT_ENDPOINTS, is_absent};

/// A pause of so long is nothing unusual for a process.
const PAUSE: Duration = Duration::from_secs(1);
/// For longer no conversation should stand still.
const STANDSTILL: Duration = Duration::from_secs(600);
/// The store waits at least so long for the reply to a step.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(500);

/// An error of the configuration, which says after a `;` what would be right.
pub(super) fn refused(error: &anyhow::Error) -> Finding {
    let text = format!("{error:#}");
    let text = text.strip_prefix("configuration error: ").unwrap_or(&text);
    match text.split_once("; ") {
        Some((message, remedy)) => Finding::failure(message, remedy),
        None => Finding::failure(text, "docs/CONFIGURATION.md has every key and its values"),
    }
}

/// Where the settings come from, in short: what says where the locks are.
pub(super) fn source(connection: &Connection, settings: &[Setting]) -> String {
    let server = ["url", "endpoints", "type"]
        .iter()
        .find_map(|key| settings.iter().find(|setting| setting.key == *key));
    match (server.map(|setting| &setting.source), &connection.endpoints) {
        (Some(Source::Variable(name) | Source::Option(name)), _) => name.clone(),
        (Some(Source::File { file, .. }), _) => file.clone(),
        (_, Some(path)) => path.display().to_string(),
        (_, None) if is_absent(Path::new(DEFAULT_ENDPOINTS)) => {
            format!("no {DEFAULT_ENDPOINTS} here")
        }
        (_, None) => DEFAULT_ENDPOINTS.into(),
    }
}

/// Where each setting comes from.
pub(super) fn settings(settings: &[Setting]) -> Finding {
    if settings.is_empty() {
        return Finding::ok("every setting is the default");
    }
    let told: Vec<_> = settings
        .iter()
        .map(|setting| match &setting.source {
            Source::File {
                file,
                line: Some(line),
            } => format!("{} ({file} line {line})", setting.key),
            source => format!("{} ({source})", setting.key),
        })
        .collect();
    Finding::ok(format!("{}; all others are the default", told.join(", ")))
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
        max_hold,
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
    warn(
        keep_alive && max_hold.is_some_and(|max_hold| max_hold < lock_lifetime),
        format!(
            "max_hold ({}) is shorter than lock_lifetime ({lifetime}), so no lease is extended",
            text(max_hold.unwrap_or_default())
        ),
        "set max_hold higher than lock_lifetime",
    );
    found.extend(slow_replies(config));
    if found.is_empty() {
        let keep = match (keep_alive, max_hold) {
            (false, _) => "not extended".to_owned(),
            (true, None) => "extended".to_owned(),
            (true, Some(most)) => format!("extended up to {}", text(most)),
        };
        return Finding::ok(format!(
            "leases of {lifetime}, {keep}; waits of {}; a dead client costs {window}",
            text(patience)
        ));
    }
    Finding::worst_of(found)
}

/// Whether a turn may be over before a reply is given up.
fn slow_replies(config: &LockStoreConfig) -> Option<Finding> {
    let timeout = config.redis.socket_timeout;
    let window = config.timing.claim_window;
    // Rasa's socket_timeout is the default, so beside the default window it is
    // no choice of the user's.
    let defaults = (RedisConfig::default().socket_timeout, DEFAULT_CLAIM_WINDOW);
    let is_shared = config.store_type == StoreType::Redis;
    if !is_shared || timeout <= window || (timeout, window) == defaults {
        return None;
    }
    let message = format!(
        "a reply may take longer (socket_timeout, {}) than a called ticket lives (claim_window, \
         {}); only the limit of one attempt ({}) saves the turn",
        text(timeout),
        text(window),
        text(attempt_limit(config))
    );
    let remedy = format!("set socket_timeout to {} or less", window.as_secs_f64());
    Some(Finding::warning(message, remedy))
}

/// How long the store waits for one reply to a step before it repeats the step.
fn attempt_limit(config: &LockStoreConfig) -> Duration {
    let timing = &config.timing;
    let urgent = (timing.claim_window / 3).min(timing.lock_lifetime / 4);
    urgent
        .max(SHORTEST_ATTEMPT)
        .min(config.redis.socket_timeout)
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
                "  socket_timeout: 6",
                "longer (socket_timeout, 6 s) than a called ticket lives (claim_window, 5 s); \
                 only the limit of one attempt (1.7 s)",
            ),
            (
                "  claim_window: 3",
                "(socket_timeout, 10 s) than a called ticket lives (claim_window, 3 s); \
                 only the limit of one attempt (1 s)",
            ),
            (
                "  lock_lifetime: 0.5\n  socket_timeout: 0.1",
                "lost 500 ms after its turn",
            ),
            ("  lock_lifetime: 86400", "stands still for 24 h"),
            (
                "  keep_alive: true\n  max_hold: 30",
                "max_hold (30 s) is shorter than lock_lifetime (60 s)",
            ),
        ] {
            let found = timing_of(yaml);
            assert_eq!(found.status, Status::Warning, "{yaml}");
            assert!(found.message.contains(name), "{yaml}: {}", found.message);
            assert!(found.remedy.is_some(), "{yaml}");
        }
    }

    #[test]
    fn a_socket_timeout_that_fits_the_claim_window_is_right() {
        for yaml in [
            "  socket_timeout: 5",
            "  socket_timeout: 6\n  claim_window: 6",
        ] {
            assert_eq!(timing_of(yaml).status, Status::Ok, "{yaml}");
        }
        let remedy = timing_of("  claim_window: 4.5").remedy;
        assert_eq!(remedy.unwrap(), "set socket_timeout to 4.5 or less");
        // In memory there are no replies.
        let in_memory = LockStoreConfig::from_yaml("lock_store:\n  claim_window: 3\n").unwrap();
        assert_eq!(timing(&in_memory).status, Status::Ok);
    }

    #[test]
    fn an_end_of_extensions_is_told() {
        let found = timing_of("  keep_alive: true\n  max_hold: 600");
        assert_eq!(found.status, Status::Ok);
        assert!(
            found.message.contains("extended up to 10 min"),
            "{}",
            found.message
        );
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
