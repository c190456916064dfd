//! Clocks, and how long an answer takes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lock_store::diagnose::Reply;

use super::finding::Finding;
use super::settings::text;
use super::together;
use super::tour::Node;

/// NTP keeps clocks far closer together.
const FAR: f64 = 1.0;
/// A hand-off takes two of them.
const SLOW: Duration = Duration::from_millis(10);
/// Of so many the median is taken.
const PINGS: usize = 21;

/// A server's clock, as seen from here.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// How far it is ahead, in seconds.
    ahead: f64,
    /// How wrong that may be.
    doubt: f64,
}

pub(super) async fn difference<'n>(nodes: impl Iterator<Item = &'n Node<'n>>) -> Finding {
    let mut seen = Vec::new();
    for node in nodes {
        match look(node).await {
            Ok(it) => seen.push(it),
            Err(why) => return Finding::skipped(format!("{}: {why}", node.address)),
        }
    }
    judge(&seen)
}

async fn look(node: &Node<'_>) -> Result<Seen, String> {
    let (asked, began) = (SystemTime::now(), Instant::now());
    let reply = node.session.ask(&["TIME"]).await;
    let half = began.elapsed() / 2;
    let reply = reply.map_err(|error| error.to_string())?;
    let [seconds, micros] = reply.list() else {
        return Err(reply
            .error()
            .unwrap_or("no answer to TIME that makes sense")
            .to_owned());
    };
    let number = |reply: &Reply| reply.integer().and_then(|it| u64::try_from(it).ok());
    let theirs = number(seconds)
        .zip(number(micros))
        .ok_or("TIME is no time")?;
    let theirs = Duration::from_secs(theirs.0) + Duration::from_micros(theirs.1);
    let ours = asked.duration_since(UNIX_EPOCH).unwrap_or_default() + half;
    Ok(Seen {
        ahead: theirs.as_secs_f64() - ours.as_secs_f64(),
        doubt: half.as_secs_f64(),
    })
}

fn judge(seen: &[Seen]) -> Finding {
    let ahead = |it: &Seen| it.ahead;
    let (first, last) = (
        seen.iter().map(ahead).fold(f64::INFINITY, f64::min),
        seen.iter().map(ahead).fold(f64::NEG_INFINITY, f64::max),
    );
    let doubt = seen.iter().map(|it| it.doubt).fold(0.0, f64::max);
    let span = |seconds: f64| text(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    let mut found = Vec::new();
    if last - first > FAR + 2.0 * doubt {
        found.push(Finding::warning(
            format!(
                "the clocks of the nodes are {} apart: after a failover leases end at another time, \
                 and tokens may not rise",
                span(last - first)
            ),
            "let NTP set the clocks of all nodes",
        ));
    }
    let farthest = if last.abs() > first.abs() {
        last
    } else {
        first
    };
    if farthest.abs() > FAR + doubt {
        let side = if farthest > 0.0 { "ahead of" } else { "behind" };
        found.push(Finding::warning(
            format!(
                "the server's clock is {} {side} this machine's; leases go by the server's alone, \
                 logs do not match",
                span(farthest.abs())
            ),
            "let NTP set both clocks",
        ));
    }
    if found.is_empty() {
        // Closer than one can tell from here is close enough.
        let most = farthest.abs().max(doubt);
        return Finding::ok(format!("at most {} from this machine's", span(most)));
    }
    Finding::worst_of(found)
}

pub(super) async fn round_trip(nodes: &[Node<'_>]) -> Finding {
    let mut found = Vec::new();
    for node in nodes {
        let finding = match median(node).await {
            Ok(median) => judge_median(median),
            Err(why) => Finding::failure(why, "is the server overloaded?"),
        };
        found.push(finding);
    }
    together(nodes, found)
}

async fn median(node: &Node<'_>) -> Result<Duration, String> {
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let began = Instant::now();
        node.session
            .ask(&["PING"])
            .await
            .map_err(|error| error.to_string())?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[PINGS / 2])
}

fn judge_median(median: Duration) -> Finding {
    let message = format!(
        "{} (median of {PINGS}); a hand-off takes about two",
        text(median)
    );
    if median > SLOW {
        return Finding::warning(
            message,
            "put Redis nearer to its clients, and see `slow_log` and the load of both machines",
        );
    }
    Finding::ok(message)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    fn found(ahead: &[f64], doubt: f64) -> Finding {
        let seen: Vec<_> = ahead.iter().map(|&ahead| Seen { ahead, doubt }).collect();
        judge(&seen)
    }

    #[test]
    fn clocks_that_differ_are_told() {
        assert_eq!(found(&[0.4], 0.0).status, Status::Ok);
        assert_eq!(found(&[1.5], 1.0).status, Status::Ok);
        let ahead = found(&[37.0], 0.01);
        assert_eq!(ahead.status, Status::Warning);
        assert!(ahead.message.contains("37 s ahead of"), "{}", ahead.message);
        assert!(found(&[-3.0], 0.01).message.contains("3 s behind"));
        assert!(found(&[0.9, -0.9], 0.01).message.contains("1.8 s apart"));
        assert_eq!(found(&[0.2, -0.2], 0.01).status, Status::Ok);
    }

    #[test]
    fn slow_answers_are_told() {
        let status = |millis| judge_median(Duration::from_millis(millis)).status;
        assert_eq!(status(1), Status::Ok);
        assert_eq!(status(11), Status::Warning);
    }
}
