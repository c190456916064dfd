//! Where the locks are, and what is said when they cannot be there.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Ended, Place, until};
use redis_fixture::Server;

const SECRET: &str = "s3cr3t-w0rd";

fn one_message() -> Place {
    let place = Place::new();
    place.messages([("anna", "hello".to_owned())]);
    place
}

/// A `lock_store` block for this Redis.
fn endpoints(url: &str, more: &str) -> String {
    format!("lock_store:\n  type: redis\n  url: {url}\n{more}")
}

/// Asserts that it refused with one line that has all these texts.
#[track_caller]
fn refuses(ended: &Ended, texts: &[&str]) {
    ended.says(2, texts);
    let said = &ended.stderr;
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("error: "), "{said}");
    assert!(!said.contains(SECRET), "{said}");
    assert_eq!(ended.stdout, "");
}

/// `redis://` with something in place of the user and the password.
fn with_login(server: &Server, login: &str) -> String {
    server.url().replace("://", &format!("://{login}@"))
}

/// A URL where nobody listens.
fn nobody() -> String {
    let server = Server::start();
    server.kill();
    server.url()
}

#[test]
fn the_locks_are_in_the_redis_that_is_named() {
    let server = Server::start();
    let place = one_message();
    // Not even looked at.
    place.write("endpoints.yml", "broken");
    let script = "redis-cli -s \"$SOCKET\" dbsize";
    let mut command = place.command(["input.jsonl", "--redis", &server.url()]);
    command
        .args(["--", "sh", "-c", script])
        .env("SOCKET", server.unix_url().trim_start_matches("unix://"));
    let ended = place.start(&mut command).ended();
    let results = ended.results(0);
    assert_eq!(results[0]["response"], 1);
    assert_eq!(server.command(&["DBSIZE"]).integer(), 0);
    assert!(!ended.stderr.contains("WARN"), "{}", ended.stderr);
}

#[test]
fn it_is_one_or_the_other() {
    let place = one_message();
    place
        .process(&["--redis", "redis://localhost", "--endpoints", "x.yml"])
        .says(2, &["--redis", "--endpoints", "cannot be used with"]);
}

#[test]
fn a_url_that_is_none_is_refused_without_showing_it() {
    let place = one_message();
    let port = format!("redis://:{SECRET}@localhost:port");
    let scheme = format!("http://:{SECRET}@localhost");
    let none = format!(":{SECRET}@localhost:6379");
    for url in [&port, &scheme, &none] {
        refuses(&place.process(&["--redis", url]), &["redis://"]);
    }
}

#[test]
fn without_a_redis_it_does_not_start() {
    let place = one_message();
    let url = nobody().replace("://", &format!("://user:{SECRET}@"));
    let ended = place.process(&["--redis", &url]);
    refuses(&ended, &["cannot reach Redis at 127.0.0.1:", "refused"]);
    place.write("endpoints.yml", endpoints(&url, "  fallback: none\n"));
    refuses(&place.process(&[]), &["cannot reach Redis at 127.0.0.1:"]);
}

#[test]
fn a_wrong_password_is_told_and_not_shown() {
    let server = Server::builder().password("right").start();
    let place = one_message();
    let wrong = with_login(&server, &format!(":{SECRET}"));
    let ended = place.process(&["--redis", &wrong]);
    refuses(&ended, &["refused the user name or the password"]);
    refuses(
        &place.process(&["--redis", &server.url()]),
        &["wants a password"],
    );
    let right = with_login(&server, ":right");
    place.process(&["--redis", &right]).results(0);
    // No fallback for what a human has to mend.
    place.write("endpoints.yml", endpoints(&wrong, ""));
    refuses(&place.process(&[]), &["refused the user name"]);
}

/// With more said, the warnings that are held back otherwise are shown.
#[test]
fn whoever_wants_more_sees_more() {
    let place = one_message();
    let ended = place.process(&["-v", "--redis", &nobody()]);
    ended.says(2, &["WARN lock_store: cannot connect to Redis", "error: "]);
}

#[test]
fn a_start_without_redis_is_told_where_it_is_allowed() {
    let server = Server::start();
    server.kill();
    let place = one_message();
    place.write("endpoints.yml", endpoints(&server.url(), ""));
    let ended = place.process(&[]);
    ended.results(0);
    ended.says(
        0,
        &[
            "WARN lock_store: Redis cannot be reached: the locks are in the memory of this process",
            "other processes do not see them",
            "refused",
        ],
    );
}

/// A file that is there and leads nowhere is no reason for other locks.
#[test]
fn a_dangling_link_is_not_taken_for_no_configuration() {
    let place = one_message();
    std::os::unix::fs::symlink("gone.yml", place.path("endpoints.yml")).unwrap();
    let ended = place.process(&[]);
    refuses(&ended, &["cannot read endpoints.yml", "No such file"]);
    // Each cause is told once.
    assert_eq!(ended.stderr.matches("No such file").count(), 1);
}

#[test]
fn the_name_of_a_process_list_is_all_that_shows_a_password() {
    let server = Server::builder().password(SECRET).start();
    let place = one_message();
    let url = with_login(&server, &format!(":{SECRET}"));
    let mut command = place.command(["input.jsonl", "-vv", "--redis", &url]);
    let mut running = place.start(&mut command);
    until("its end", || !running.is_running());
    let ended = running.ended();
    ended.says(0, &["connected to Redis"]);
    assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
}

#[test]
fn the_environment_says_where_the_locks_are() {
    let server = Server::builder().password(SECRET).start();
    let place = one_message();
    place.write("endpoints.yml", endpoints(&nobody(), "  fallback: none\n"));
    let script = "echo $LOCK_STORE_TICKET";
    let mut command = place.command(["input.jsonl", "--", "sh", "-c", script]);
    let url = server.url();
    command
        .env("LOCK_STORE_URL", &url)
        .env("LOCK_STORE_PASSWORD", SECRET);
    let ended = place.start(&mut command).ended();
    assert_eq!(ended.results(0)[0]["response"], 0);
    assert!(!ended.stderr.contains("WARN"), "{}", ended.stderr);
    // A password need not be in the URL that everybody sees.
    let mut command = place.command(["input.jsonl", "--redis", &url]);
    command.env("LOCK_STORE_PASSWORD", SECRET);
    place.start(&mut command).ended().results(0);
    let mut command = place.command(["input.jsonl", "--redis", &url]);
    command.env("LOCK_STORE_CONNECTIONS", "many");
    let ended = place.start(&mut command).ended();
    refuses(&ended, &["LOCK_STORE_CONNECTIONS is \"many\"", "1 to 64"]);
}
