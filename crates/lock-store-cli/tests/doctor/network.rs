//! Servers that are not there, or are none.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use redis_fixture::Server;

use crate::support::{SECRET, doctor, doctor_with, healthy, redis};

#[test]
fn unknown_host_name() {
    let found = doctor(&redis("redis://nowhere.invalid:6379", ""));
    found.fails("dns", &["nowhere.invalid", "lock_store.url"]);
    found.skips(
        &[
            "tcp", "tls", "answer", "login", "role", "rights", "hand_off",
        ],
        "dns",
    );
}

#[test]
fn nothing_listens() {
    let server = Server::start();
    server.kill();
    let found = doctor(&redis(&server.url(), ""));
    found.fails("tcp", &[&server.address(), "refused", "is Redis running"]);
    found.skips(&["answer", "login", "server", "leftovers"], "tcp");
    let found = doctor(&redis(&server.unix_url(), ""));
    found.fails("tcp", &["/socket: connection refused", "unixsocket"]);
}

/// A server that answers everybody with this, or hangs up.
fn no_redis(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It ends with the process of the test.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        }
    });
    format!("redis://127.0.0.1:{port}")
}

#[test]
fn no_redis_at_that_port() {
    let found = doctor(&redis(&no_redis(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ""));
    found.fails("answer", &["no Redis", "lock_store.port"]);
    found.skips(&["login", "server", "hand_off"], "answer");
    let found = doctor(&redis(&no_redis(b""), ""));
    found.fails("answer", &["hung up"]);
}

#[test]
fn a_frozen_server() {
    let server = Server::start();
    server.freeze();
    let found = doctor_with(&redis(&server.url(), ""), &["--timeout", "0.5"]);
    found.fails("answer", &["does not answer within 500 ms", "frozen"]);
    found.skips(&["login", "hand_off"], "answer");
    server.thaw();
}

#[test]
fn a_server_that_is_loading() {
    let server = Server::builder()
        .config("key-load-delay", "200000")
        .config("loading-process-events-interval-bytes", "1024")
        .start();
    let value = "x".repeat(2000);
    for key in 0..200 {
        server.command(&["SET", &key.to_string(), &value]).ok();
    }
    std::thread::scope(|scope| {
        // That waits until everything is loaded, or until it is killed.
        let restarting = scope.spawn(|| {
            let restart = std::panic::AssertUnwindSafe(|| server.restart());
            std::panic::catch_unwind(restart)
        });
        redis_fixture::until("it is loading", || {
            let reply = server.try_command(&["PING"]);
            reply.is_ok_and(|reply| reply.is_error("LOADING"))
        });
        let found = doctor(&redis(&server.url(), ""));
        server.kill();
        let _ = restarting.join();
        found.fails("answer", &["is loading its data", "wait"]);
    });
}

#[test]
fn wrong_password() {
    let server = healthy().password("right").start();
    let found = doctor(&redis(&server.url(), &format!("  password: {SECRET}\n")));
    found.fails(
        "login",
        &[
            "refused the user name or the password",
            "lock_store.password",
        ],
    );
    found.skips(&["server", "role", "rights", "hand_off"], "login");
    let found = doctor(&redis(&server.url(), ""));
    found.fails("login", &["wants a password", "lock_store.password"]);
    doctor(&redis(&server.url(), "  password: right\n")).is_well();
}

#[test]
fn a_password_that_nobody_asked_for_does_no_harm() {
    let server = healthy().start();
    let found = doctor(&redis(&server.url(), &format!("  password: {SECRET}\n")));
    found.is_well();
    found.says("login", "ok", &["needs none"]);
}

#[test]
fn no_such_database() {
    let server = healthy().start();
    let url = format!("redis://{}/99", server.address());
    doctor(&redis(&url, "")).fails("login", &["no database 99", "lock_store.db"]);
}
