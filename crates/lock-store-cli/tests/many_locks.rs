//! A hundred thousand conversations, and a server that is not held up by those
//! who look at them.

#![allow(clippy::unwrap_used)]
#![allow(clippy::print_stderr)] // what was measured, for whoever wants to see it

mod common;
mod scraping;

use std::time::Instant;

use common::{Place, bare, until};
use redis_fixture::Server;
use scraping::Scraped;

const CONVERSATIONS: u32 = 100_000;

/// The longest that a command may take, in µs.
const LONGEST: &str = "10000";

/// How long a look at all of them may take, in seconds. Without optimization it
/// takes twice as long.
const SOON: f64 = if cfg!(debug_assertions) { 4.0 } else { 2.0 };

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

/// Asserts that a look at all locks is soon done, and that no command of it
/// holds the server up. A busy machine may hold up some of them: one look that
/// went as it should shows that they can.
#[track_caller]
fn is_soon_done(what: &str, server: &Server, look: impl Fn()) {
    until(what, || {
        server.command(&["SLOWLOG", "RESET"]).ok();
        let begun = Instant::now();
        look();
        let took = begun.elapsed().as_secs_f64();
        let slow = server.command(&["SLOWLOG", "LEN"]).integer();
        eprintln!("{what} of {CONVERSATIONS} conversations: {took:.2} s, {slow} slow commands");
        took < SOON && slow == 0
    });
}

#[test]
fn looks_at_a_hundred_thousand_locks_are_soon_done_and_hold_nobody_up() {
    let server = Server::builder()
        .config("slowlog-log-slower-than", LONGEST)
        .start();
    for from in (0..CONVERSATIONS).step_by(1000) {
        let (from, to) = (from.to_string(), (from + 999).to_string());
        server.command(&["EVAL", FILL, "0", &from, &to]);
    }
    server.command(&["CONFIG", "RESETSTAT"]).ok();
    // Half a minute is for machines that do other things at the same time.
    let options = ["--min-interval", "0", "--timeout", "60"];
    let exporter = Scraped::export(&server.url(), &options);
    is_soon_done("a scrape", &server, || {
        exporter.scrape().assert_has(&[
            ("lock_store_fleet_conversations", CONVERSATIONS),
            ("lock_store_fleet_contended_conversations", CONVERSATIONS),
            ("lock_store_fleet_waiting", CONVERSATIONS),
        ]);
    });
    is_soon_done("a list", &server, || {
        let place = Place::new();
        let arguments = ["list", "--redis", &server.url()];
        let ended = place.start(&mut bare(&place, &arguments)).ended();
        ended.says(0, &["100000 conversations, 100000 tickets waiting"]);
        // With a heading.
        assert_eq!(ended.stdout.lines().count(), CONVERSATIONS as usize + 1);
    });
    // Nothing that grows with the number of keys or with the length of a queue.
    let stats = server.command(&["INFO", "commandstats"]).text();
    for endless in ["keys", "sort", "smembers", "hgetall"] {
        assert!(!stats.contains(&format!("cmdstat_{endless}:")), "{stats}");
    }
    let calls = stats.split_once("cmdstat_scan:calls=").unwrap().1;
    let scans: u32 = calls.split(',').next().unwrap().parse().unwrap();
    assert!(scans >= 2 * CONVERSATIONS / 1000, "{stats}");
}
