//! What steps cost in Redis, in commands.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use lock_store::{Claimed, Issue, Issued, TicketName};
use redis_fixture::Server;

use support::bench::Bench;

/// How often each command was called since the last look, by what the server
/// counts, inside scripts too.
fn commands(server: &Server) -> BTreeMap<String, u64> {
    let stats = server.command(&["INFO", "commandstats"]).text();
    server.command(&["CONFIG", "RESETSTAT"]).ok();
    // What this look itself costs, and pings that come when they come.
    let is_ours = |name: &str| !["info", "ping"].contains(&name) && !name.starts_with("config");
    stats
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split_once(":calls="))
        .filter(|(name, _)| is_ours(name))
        .map(|(name, rest)| {
            (
                name.to_owned(),
                rest.split(',').next().unwrap().parse().unwrap(),
            )
        })
        .collect()
}

/// The commands of each kind of step, with so many waiters.
async fn costs(server: &Server, waiters: u64) -> Vec<(&'static str, BTreeMap<String, u64>)> {
    let bench = Bench::new(server, &format!("with {waiters}")).await;
    bench.fill(waiters).await;
    let (middle, last) = (waiters / 2, waiters + 1);
    let mut costs = Vec::new();
    let mut cost = |step| costs.push((step, commands(server)));
    cost("");
    assert!(matches!(
        bench.issue(Bench::ask(last)).await,
        Issued::Waiting { .. }
    ));
    cost("issue");
    let again = Issue {
        repeated: true,
        ..Bench::ask(last)
    };
    assert!(matches!(bench.issue(again).await, Issued::Waiting { .. }));
    cost("issue again");
    let without_queue = Issue {
        queue: false,
        ..Bench::ask(last + 1)
    };
    assert_eq!(bench.issue(without_queue).await, Issued::Taken);
    cost("try");
    assert!(matches!(bench.claim(0, 0).await, Claimed::Served { .. }));
    cost("extend");
    for sequence in [1, middle, last] {
        assert!(matches!(
            bench.claim(sequence, sequence).await,
            Claimed::Waiting { .. }
        ));
        cost("look");
    }
    assert!(
        bench
            .finish(TicketName::Owner(Bench::owner(0)), Some(0))
            .await
            .found
    );
    cost("finish and call");
    assert!(matches!(bench.claim(1, 1).await, Claimed::Served { .. }));
    cost("claim");
    assert!(!bench.finish(TicketName::Nobodys, None).await.found);
    cost("see after the head");
    assert_eq!(bench.claim(5_000_000, 5_000_000).await, Claimed::Gone);
    cost("gone");
    assert!(bench.finish(TicketName::Number(last), None).await.found);
    cost("finish by number");
    assert!(
        bench
            .finish(TicketName::Owner(Bench::owner(middle)), Some(middle))
            .await
            .found
    );
    cost("leave the middle");
    costs.split_off(1)
}

/// Without what the clock decides: a time to live is set anew if it would grow,
/// by a millisecond at least.
fn but_for_clock((step, costs): &(&'static str, BTreeMap<String, u64>)) -> String {
    let mut costs = costs.clone();
    costs.remove("pexpire");
    format!("{step}: {costs:?}")
}

#[tokio::test]
async fn steps_cost_the_same_however_many_wait() {
    let server = Server::start();
    let few = costs(&server, 10).await;
    let many = costs(&server, 10_000).await;
    for (few, many) in few.iter().zip(&many) {
        let calls: u64 = few.1.values().sum();
        assert!((2..=18).contains(&calls), "{few:?}");
        if ["gone", "finish and call"].contains(&few.0) {
            // Where nothing is, it is looked for by halves; and for another client
            // than the one that is called in doubled steps.
            let lindex = |costs: &BTreeMap<String, u64>| costs["lindex"];
            assert!(lindex(&many.1) <= lindex(&few.1) + 12, "{few:?} {many:?}");
        } else {
            assert_eq!(but_for_clock(few), but_for_clock(many));
        }
    }
}

/// Whoever leaves the middle leaves a gap in the numbers.
#[tokio::test]
async fn gaps_in_the_numbers_cost_little() {
    let server = Server::start();
    let bench = Bench::new(&server, "a").await;
    bench.fill(10_000).await;
    for sequence in (1..1_000).step_by(10) {
        assert!(
            bench
                .finish(TicketName::Owner(Bench::owner(sequence)), Some(sequence))
                .await
                .found
        );
    }
    for sequence in [5, 500, 999, 5_000, 10_000] {
        commands(&server);
        let claimed = bench.claim(sequence, sequence).await;
        let left = (1..1_000)
            .step_by(10)
            .filter(|gone| *gone < sequence)
            .count() as u64;
        assert!(
            matches!(claimed, Claimed::Waiting { ahead, .. } if ahead == sequence - left),
            "{claimed:?}"
        );
        let costs = commands(&server);
        assert!(costs["lindex"] <= 2 + 15, "{costs:?}");
    }
}
