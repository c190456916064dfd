//! What the exporter says when it cannot start.

#![allow(clippy::unwrap_used)]

mod common;
mod scraping;

use std::net::TcpListener;

use common::Place;
use redis_fixture::{Server, documented_rights};

/// Asserts that it refused with one line that has all these texts.
#[track_caller]
fn refuses(place: &Place, arguments: &[&str], texts: &[&str]) {
    let arguments = [&["export"], arguments].concat();
    let mut command = common::bare(place, &arguments);
    let ended = place.start(&mut command).ended();
    ended.says(2, texts);
    assert_eq!(ended.stdout, "");
    assert!(!ended.stderr.contains("s3cr3t"), "{}", ended.stderr);
}

#[test]
fn an_address_that_is_none_is_refused() {
    let place = Place::new();
    for address in ["9465", "http://127.0.0.1:9465", "127.0.0.1:70000"] {
        let redis = ["--redis", "redis://127.0.0.1:1"];
        let arguments = [&["--listen", address], &redis[..]].concat();
        refuses(&place, &arguments, &["--listen", "such as 127.0.0.1:9464"]);
    }
    refuses(&place, &[], &["--listen <ADDR>", "required"]);
}

#[test]
fn an_address_that_is_taken_or_elsewhere_is_told() {
    let (server, place) = (Server::start(), Place::new());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    // 192.0.2.0/24 is for documentation, so no machine has it.
    for (address, text) in [
        (taken.as_str(), "another program does; choose another port"),
        ("192.0.2.1:9465", "must be an address of this machine"),
        ("no-such-host.invalid:9465", "cannot listen at no-such-host"),
    ] {
        let arguments = ["--listen", address, "--redis", &server.url()];
        refuses(&place, &arguments, &["error: ", address, text]);
    }
}

#[test]
fn in_memory_there_is_nothing_to_export() {
    let place = Place::new();
    let texts = ["in memory", "`export`", "--redis redis://"];
    refuses(&place, &["--listen", "127.0.0.1:0"], &texts);
}

#[test]
fn without_a_redis_it_does_not_start() {
    let place = Place::new();
    let server = Server::start();
    server.kill();
    let url = server.url().replace("://", "://user:s3cr3t@");
    let arguments = ["--listen", "127.0.0.1:0", "--redis", &url];
    refuses(&place, &arguments, &["cannot reach Redis at", "refused"]);
}

#[test]
fn a_right_that_is_missing_is_named() {
    let place = Place::new();
    let rights = documented_rights("bot").replace(" +scan", "");
    let server = Server::builder().acl_user("bot", "s3cr3t", &rights).start();
    let url = server.url().replace("://", "://bot:s3cr3t@");
    let arguments = ["--listen", "127.0.0.1:0", "--redis", &url];
    refuses(&place, &arguments, &["'scan'", "docs/REDIS.md"]);
}

#[test]
fn times_have_a_range() {
    let place = Place::new();
    let arguments = ["--listen", ":0", "--timeout", "0"];
    refuses(&place, &arguments, &["--timeout", "0.001"]);
}

#[test]
fn its_help_has_examples_and_exit_codes() {
    let place = Place::new();
    for (option, more) in [("-h", "Examples:"), ("--help", "Exit codes:")] {
        let mut command = common::bare(&place, &["export", option]);
        let ended = place.start(&mut command).ended();
        assert_eq!(ended.status.code(), Some(0));
        let example = "lock-store export --listen 127.0.0.1:9465";
        for part in [example, more, "--min-interval"] {
            assert!(ended.stdout.contains(part), "{part} in {}", ended.stdout);
        }
    }
}
