//! The proxy, with a server behind it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::mpsc;
use std::thread;

use redis_fixture::{Connection, Cut, Proxy, Server, until};

fn both() -> (Server, Proxy) {
    let server = Server::start();
    let proxy = Proxy::to(&server.address());
    (server, proxy)
}

fn connect(proxy: &Proxy) -> Connection {
    Connection::tcp(&proxy.address()).unwrap()
}

fn answers(connection: &mut Connection) -> bool {
    connection
        .command(&["PING"])
        .is_ok_and(|reply| reply == "PONG")
}

#[test]
fn it_forwards_both_ways() {
    let (server, proxy) = both();
    assert_eq!(proxy.url(), format!("redis://127.0.0.1:{}/0", proxy.port()));
    let mut connection = connect(&proxy);
    let long = "x".repeat(1_000_000);
    connection.command(&["SET", "a", &long]).unwrap().ok();
    assert_eq!(server.command(&["GET", "a"]).text(), long);
    let reply = connection.command(&["GET", "a"]).unwrap();
    assert_eq!(reply.text(), long);
    let mut another = connect(&proxy);
    assert!(answers(&mut another));
    assert_eq!((proxy.accepted(), proxy.connections()), (2, 2));
    drop((connection, another));
    until("they are closed", || proxy.connections() == 0);
    until("the server's are closed", || {
        server.info("connected_clients").as_deref() == Some("1")
    });
}

#[test]
fn all_connections_are_cut_and_new_ones_work() {
    let (_server, proxy) = both();
    let mut connections = [connect(&proxy), connect(&proxy)];
    assert!(connections.iter_mut().all(answers));
    proxy.cut_all();
    assert!(!connections.iter_mut().any(answers));
    assert!(answers(&mut connect(&proxy)));
    assert_eq!((proxy.accepted(), proxy.cuts()), (3, 0));
}

#[test]
fn new_connections_are_refused_and_old_ones_work() {
    let (_server, proxy) = both();
    let mut old = connect(&proxy);
    assert!(answers(&mut old));
    proxy.refuse(true);
    assert!(!answers(&mut connect(&proxy)));
    assert!(answers(&mut old));
    proxy.refuse(false);
    assert!(answers(&mut connect(&proxy)));
    assert_eq!(proxy.accepted(), 3);
}

#[test]
fn what_is_stalled_comes_later() {
    let (server, proxy) = both();
    let mut old = connect(&proxy);
    assert!(answers(&mut old));
    proxy.stall(true);
    let (replies, received) = mpsc::channel();
    thread::scope(|scope| {
        for (mut connection, key) in [(old, "old"), (connect(&proxy), "new")] {
            let replies = replies.clone();
            scope.spawn(move || {
                let reply = connection.command(&["SET", key, "1"]).unwrap();
                replies.send(reply).unwrap();
            });
        }
        until("both are accepted", || proxy.connections() == 2);
        // Neither the server nor a client gets anything.
        assert_eq!(server.command(&["DBSIZE"]).integer(), 0);
        assert!(received.try_recv().is_err());
        proxy.stall(false);
        received.recv().unwrap().ok();
        received.recv().unwrap().ok();
    });
    assert_eq!(server.command(&["DBSIZE"]).integer(), 2);
}

#[test]
fn held_connections_send_later_and_others_at_once() {
    let (server, proxy) = both();
    let mut held = connect(&proxy);
    let mut listener = connect(&proxy);
    assert!(answers(&mut held));
    listener.command(&["SUBSCRIBE", "news"]).unwrap();
    proxy.hold(&server.client_addresses("normal"));
    assert_eq!(proxy.held(), 1);
    held.send(&["SET", "a", "held"]).unwrap();
    // Other connections work both ways, old ones and new ones.
    listener.send(&["SUBSCRIBE", "more"]).unwrap();
    assert_eq!(listener.receive().unwrap().list()[1], "more");
    connect(&proxy).command(&["SET", "b", "new"]).unwrap().ok();
    assert!(server.command(&["GET", "a"]).is_nil());
    // What was sent arrives, though its client has gone.
    drop(held);
    proxy.let_go();
    until("the command has arrived", || {
        server.command(&["GET", "a"]) == "held"
    });
    assert_eq!(proxy.held(), 0);
}

#[test]
fn a_held_connection_can_be_cut() {
    let (server, proxy) = both();
    let mut connection = connect(&proxy);
    assert!(answers(&mut connection));
    proxy.hold(&server.client_addresses("normal"));
    connection.send(&["SET", "a", "1"]).unwrap();
    proxy.cut_all();
    assert!(connection.receive().is_err());
    proxy.let_go();
    assert!(answers(&mut connect(&proxy)));
    assert!(server.command(&["GET", "a"]).is_nil());
}

#[test]
fn what_is_stalled_can_be_cut() {
    let (server, proxy) = both();
    let mut connection = connect(&proxy);
    proxy.stall(true);
    connection.send(&["SET", "a", "1"]).unwrap();
    until("it is accepted", || proxy.connections() == 1);
    proxy.cut_all();
    assert!(connection.receive().is_err());
    proxy.stall(false);
    assert!(answers(&mut connect(&proxy)));
    assert!(server.command(&["GET", "a"]).is_nil());
}

#[test]
fn a_command_that_is_cut_off_is_not_carried_out() {
    let (server, proxy) = both();
    proxy.cut_when(Cut::command("INCR").after(1));
    let mut connection = connect(&proxy);
    let mut count = || connection.command(&["INCR", "a"]);
    assert_eq!(count().unwrap().integer(), 1);
    assert!(count().is_err());
    assert_eq!(proxy.cuts(), 1);
    let mut connection = connect(&proxy);
    let reply = connection.command(&["INCR", "a"]).unwrap();
    assert_eq!(reply.integer(), 2);
    assert_eq!(server.command(&["GET", "a"]).text(), "2");
    assert_eq!(proxy.cuts(), 1);
}

#[test]
fn a_command_whose_reply_is_cut_off_is_carried_out() {
    let (server, proxy) = both();
    proxy.cut_when(Cut::reply("INCR"));
    proxy.cut_when(Cut::reply("INCR").after(2));
    for expected in [Err(1), Ok(2), Err(3)] {
        let mut connection = connect(&proxy);
        assert!(answers(&mut connection));
        let reply = connection.command(&["INCR", "a"]);
        match expected {
            Ok(count) => assert_eq!(reply.unwrap().integer(), count),
            Err(_) => assert!(reply.is_err()),
        }
        let (Ok(count) | Err(count)) = expected;
        let stored = server.command(&["GET", "a"]).text();
        assert_eq!(stored, count.to_string());
    }
    assert_eq!(proxy.cuts(), 2);
    proxy.cut_when(Cut::reply("INCR"));
    proxy.cut_no_more();
    let reply = connect(&proxy).command(&["INCR", "a"]).unwrap();
    assert_eq!(reply.integer(), 4);
    assert_eq!(proxy.cuts(), 2);
}

#[test]
fn a_reply_that_comes_late_is_cut_off_as_well() {
    let (server, proxy) = both();
    proxy.cut_when(Cut::reply("BLPOP"));
    let mut connection = connect(&proxy);
    connection.send(&["BLPOP", "line", "0"]).unwrap();
    until("it waits", || {
        server.info("blocked_clients").as_deref() == Some("1")
    });
    assert_eq!(proxy.cuts(), 0);
    server.command(&["RPUSH", "line", "a"]).integer();
    assert!(connection.receive().is_err());
    assert_eq!(proxy.cuts(), 1);
    assert!(server.command(&["GET", "line"]).is_nil());
}

#[test]
fn a_server_may_go_and_come_back() {
    let (server, proxy) = both();
    let mut connection = connect(&proxy);
    assert!(answers(&mut connection));
    server.kill();
    assert!(!answers(&mut connection));
    assert!(!answers(&mut connect(&proxy)));
    server.restart();
    assert!(answers(&mut connect(&proxy)));
}
