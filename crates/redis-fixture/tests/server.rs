//! One server, in every shape.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use redis_fixture::{Connection, Server, Version, until};

fn exists(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn folder(server: &Server) -> String {
    let texts = server.command(&["CONFIG", "GET", "dir"]).texts();
    texts[1].clone()
}

#[test]
fn a_server_answers_by_every_way() {
    let server = Server::start();
    server.command(&["SET", "a", "b"]).ok();
    let mut connection = Connection::tcp(&server.address()).unwrap();
    assert_eq!(connection.command(&["GET", "a"]).unwrap().text(), "b");
    let path = server.unix_url();
    let mut connection = Connection::unix(path.strip_prefix("unix://").unwrap()).unwrap();
    assert_eq!(connection.command(&["GET", "a"]).unwrap().text(), "b");
    assert_eq!(server.command(&["INCR", "a"]).error()[..3], *"ERR");
    assert!(server.command(&["GET", "nothing"]).is_nil());
    let address = format!("127.0.0.1:{}", server.port());
    assert_eq!(server.url(), format!("redis://{address}/0"));
    assert_eq!(server.info("process_id"), Some(server.pid().to_string()));
}

#[test]
fn it_tells_what_it_is() {
    let server = Server::start();
    let version = server.version();
    assert!(version >= Version::new(6, 2, 0), "{version}");
    let product = server.product();
    assert!(product.starts_with("redis ") || product.starts_with("valkey "));
    assert!(server.supports_command("evalsha"));
    assert!(!server.supports_command("no-such-command"));
    let has_functions = version >= Version::new(7, 0, 0);
    assert_eq!(server.supports_command("fcall"), has_functions);
    assert!(server.supports_config("maxmemory"));
    assert!(!server.supports_config("no-such-directive"));
}

#[test]
fn many_start_at_once() {
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let server = Server::start();
                assert_eq!(server.info("process_id"), Some(server.pid().to_string()));
            });
        }
    });
}

#[test]
fn it_ends_when_it_is_dropped() {
    let server = Server::start();
    let (pid, folder, address) = (server.pid(), folder(&server), server.address());
    server.freeze();
    drop(server);
    assert!(!exists(pid));
    assert!(!Path::new(&folder).exists());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn its_configuration_is_given() {
    let server = Server::builder()
        .config("maxmemory", "1mb")
        .config("maxmemory-policy", "noeviction")
        .config("client-output-buffer-limit", "normal 2mb 0 0")
        .start();
    let reply = server.command(&["CONFIG", "GET", "maxmemory"]);
    assert_eq!(reply.field("maxmemory").unwrap(), "1048576");
    let reply = server.command(&["CONFIG", "GET", "save"]).texts();
    assert_eq!(reply[1], "");
}

#[test]
#[should_panic(expected = "no-such-directive")]
fn a_failed_start_shows_the_log() {
    Server::builder().config("no-such-directive", "1").start();
}

#[test]
fn data_survive_a_restart_but_no_crash() {
    let server = Server::start();
    let (address, first) = (server.address(), server.pid());
    server.command(&["SET", "a", "1"]).ok();
    server.restart();
    assert_eq!(server.address(), address);
    assert_ne!(server.pid(), first);
    assert_eq!(server.command(&["GET", "a"]).text(), "1");
    server.command(&["SET", "a", "2"]).ok();
    server.kill();
    assert!(!server.is_running() && !exists(first));
    assert!(server.try_command(&["PING"]).is_err());
    server.restart();
    assert_eq!(server.command(&["GET", "a"]).text(), "1");
    server.restart_empty();
    assert!(server.command(&["GET", "a"]).is_nil());
    server.stop();
    assert!(!server.is_running());
    server.restart();
    assert_eq!(server.command(&["DBSIZE"]).integer(), 0);
}

#[test]
fn what_is_appended_survives_a_crash() {
    let server = Server::builder()
        .config("appendonly", "yes")
        .config("appendfsync", "always")
        .start();
    server.command(&["SET", "a", "1"]).ok();
    server.kill();
    server.restart();
    assert_eq!(server.command(&["GET", "a"]).text(), "1");
    server.restart_empty();
    assert!(server.command(&["GET", "a"]).is_nil());
}

#[test]
fn a_frozen_one_does_nothing_until_it_is_thawed() {
    let server = Server::start();
    server.freeze();
    assert!(server.is_running());
    let status = format!("/proc/{}/stat", server.pid());
    assert!(fs::read_to_string(&status).unwrap().contains(") T "));
    let mut connection = Connection::tcp(&server.address()).unwrap();
    connection.send(&["SET", "a", "1"]).unwrap();
    assert!(server.try_command(&["PING"]).is_err());
    server.thaw();
    connection.receive().unwrap().ok();
    assert_eq!(server.command(&["GET", "a"]).text(), "1");
    server.freeze();
    server.stop();
    server.restart();
    server.freeze();
    server.restart();
    assert_eq!(server.command(&["PING"]).text(), "PONG");
}

#[test]
fn a_password_is_asked_of_others() {
    let password = r#"a "quoted" \ password"#;
    let server = Server::builder().password(password).start();
    assert_eq!(server.command(&["PING"]).text(), "PONG");
    let mut connection = Connection::tcp(&server.address()).unwrap();
    let reply = connection.command(&["PING"]).unwrap();
    assert!(reply.is_error("NOAUTH"), "{reply:?}");
    connection.command(&["AUTH", password]).unwrap().ok();
    assert_eq!(connection.command(&["PING"]).unwrap().text(), "PONG");
    server.restart();
    assert_eq!(server.command(&["PING"]).text(), "PONG");
}

#[test]
fn users_may_do_what_their_rules_say() {
    let server = Server::builder()
        .acl_user("reader", "secret", "~lock:* +get +ping")
        .without_default_user()
        .start();
    server.command(&["SET", "lock:a", "1"]).ok();
    let mut connection = Connection::tcp(&server.address()).unwrap();
    assert!(connection.command(&["PING"]).unwrap().is_error("NOAUTH"));
    let mut as_reader = |command: &[&str]| connection.command(command).unwrap();
    as_reader(&["AUTH", "reader", "secret"]).ok();
    assert_eq!(as_reader(&["GET", "lock:a"]).text(), "1");
    assert!(as_reader(&["GET", "other"]).is_error("NOPERM"));
    assert!(as_reader(&["SET", "lock:a", "2"]).is_error("NOPERM"));
    let mut connection = server.connect().unwrap();
    assert_eq!(connection.command(&["PING"]).unwrap().text(), "PONG");
}

#[test]
fn a_replica_follows_its_master() {
    let masters = [
        Server::start(),
        Server::builder().password("secret").start(),
        Server::builder().without_default_user().start(),
    ];
    for master in masters {
        master.command(&["SET", "a", "1"]).ok();
        let replica = Server::builder().replica_of(&master).start();
        assert_eq!(replica.command(&["GET", "a"]).text(), "1");
        master.command(&["SET", "a", "2"]).ok();
        until("the replica has it", || {
            replica.command(&["GET", "a"]) == "2"
        });
        assert!(replica.command(&["SET", "a", "3"]).is_error("READONLY"));
        master.restart();
        until("the replica is back", || {
            replica.info("master_link_status").as_deref() == Some("up")
        });
    }
}

#[test]
fn a_blocked_reply_can_be_received_later() {
    let server = Server::start();
    let mut waiting = server.connect().unwrap();
    waiting.send(&["BLPOP", "line", "0"]).unwrap();
    until("it waits", || {
        server.info("blocked_clients").as_deref() == Some("1")
    });
    std::thread::scope(|scope| {
        let received = scope.spawn(|| waiting.receive().unwrap().texts());
        assert_eq!(server.command(&["RPUSH", "line", "a"]).integer(), 1);
        assert_eq!(received.join().unwrap(), ["line", "a"]);
    });
}
