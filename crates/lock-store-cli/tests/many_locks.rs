//! A hundred thousand conversations, and a server that is not held up.

#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stderr)] // what was measured, for whoever wants to see it

mod common;
mod scraping;

use std::time::Instant;

use common::until;
use redis_fixture::Server;
use scraping::Scraped;

const CONVERSATIONS: u32 = 100_000;

/// The longest that a command may take, in µs.
const LONGEST: f64 = 10_000.0;

/// How long a scrape may take, in an optimized build.
const SOON: f64 = 2.0;

/// Locks as they are in Redis, all at once.
const FILL: &str = "
    local time = redis.call('TIME')
    local now = time[1] .. string.format('%06d', time[2])
    for i = ARGV[1], ARGV[2] do
        local key = 'lock-store:tickets:conversation-' .. i
        local last = ' 60000000 6000000000 %d ' .. now .. ' ' .. now .. ' '
        redis.call('RPUSH', key, '00000000000000ab.1' .. last:format(0) .. 'C')
        redis.call('RPUSH', key, '00000000000000ab.2' .. last:format(1) .. 'W')
        redis.call('PEXPIRE', key, 6000000)
    end";

#[test]
fn no_command_holds_the_server_up() {
    let server = Server::start();
    for from in (0..CONVERSATIONS).step_by(1000) {
        let (from, to) = (from.to_string(), (from + 999).to_string());
        server.command(&["EVAL", FILL, "0", &from, &to]);
    }
    server.command(&["CONFIG", "RESETSTAT"]).ok();
    // Half a minute is for machines that do other things at the same time.
    let options = ["--min-interval", "0", "--timeout", "60"];
    let exporter = Scraped::export(&server.url(), &options);
    let seen = exporter.scrape();
    seen.assert_has(&[
        ("lock_store_fleet_conversations", CONVERSATIONS),
        ("lock_store_fleet_contended_conversations", CONVERSATIONS),
        ("lock_store_fleet_waiting", CONVERSATIONS),
    ]);
    // Nothing that grows with the number of keys or with the length of a queue.
    let stats = server.command(&["INFO", "commandstats"]).text();
    for endless in ["keys", "sort", "smembers", "hgetall"] {
        assert!(!stats.contains(&format!("cmdstat_{endless}:")), "{stats}");
    }
    let calls = |name: &str| -> u32 {
        let after = stats
            .split_once(&format!("cmdstat_{name}:calls="))
            .unwrap()
            .1;
        after.split(',').next().unwrap().parse().unwrap()
    };
    assert!(calls("scan") >= CONVERSATIONS / 1000, "{stats}");
    // A command's own time, on the average of all of its kind: a single one may
    // be held up by the machine, which does other things at the same time.
    for line in stats.lines().filter(|line| line.starts_with("cmdstat_")) {
        let after = line.split_once("usec_per_call=").unwrap().1;
        let micros: f64 = after.split(',').next().unwrap().parse().unwrap();
        assert!(micros < LONGEST, "{line}");
    }
    until("a scrape is soon done", || {
        let begun = Instant::now();
        exporter.scrape();
        let took = begun.elapsed().as_secs_f64();
        eprintln!("a scrape of {CONVERSATIONS} conversations: {took:.2} s");
        took < SOON || cfg!(debug_assertions)
    });
}
