//! A master and its replicas under Sentinel.

use redis_fixture::{Connection, Sentinels, until};

#[test]
fn all_know_each_other_and_a_failover_gives_a_new_master() {
    let sentinels = Sentinels::start();
    let old = sentinels.current_master_port();
    assert_eq!(sentinels.master().port(), old);
    assert_eq!(sentinels.replicas().len(), 2);
    assert_eq!(sentinels.sentinel_addresses().len(), 3);
    for sentinel in sentinels.sentinels() {
        let command = ["SENTINEL", "CKQUORUM", sentinels.master_name()];
        let reply = sentinel.command(&command).text();
        assert!(reply.starts_with("OK 3 usable"), "{reply}");
    }
    // `WAIT` is for what was written on the same connection.
    let mut connection = sentinels.master().connect().unwrap();
    connection.command(&["SET", "a", "1"]).unwrap().ok();
    let copies = connection.command(&["WAIT", "2", "0"]).unwrap();
    assert_eq!(copies.integer(), 2);

    let new = sentinels.failover();
    assert_ne!(new.port(), old);
    assert_eq!(sentinels.current_master_port(), new.port());
    assert_eq!(new.command(&["GET", "a"]).text(), "1");
    new.command(&["SET", "a", "2"]).ok();
    for replica in sentinels.replicas() {
        until("the replicas follow", || {
            replica.command(&["GET", "a"]) == "2"
        });
    }

    // And again, at once.
    let next = sentinels.failover();
    assert_ne!(next.port(), new.port());
}

#[test]
fn a_master_that_dies_is_replaced_and_comes_back_as_a_replica() {
    let sentinels = Sentinels::start();
    let old = sentinels.kill_master();
    let new = sentinels.wait_for_new_master(old.port());
    new.command(&["SET", "a", "1"]).ok();
    old.restart();
    sentinels.wait_until_settled();
    assert_eq!(sentinels.current_master_port(), new.port());
    until("the old one follows", || old.command(&["GET", "a"]) == "1");
}

#[test]
fn a_master_that_freezes_is_replaced() {
    let sentinels = Sentinels::start();
    let old = sentinels.freeze_master();
    let new = sentinels.wait_for_new_master(old.port());
    old.thaw();
    sentinels.wait_until_settled();
    assert_eq!(sentinels.current_master_port(), new.port());
    let replicas = sentinels.replicas();
    assert!(replicas.iter().any(|it| it.port() == old.port()));
}

#[test]
fn passwords_are_asked_of_others() {
    let sentinels = Sentinels::builder()
        .password("secret")
        .sentinel_password("hidden")
        .start();
    let asks = |address: &str| {
        let mut connection = Connection::tcp(address).unwrap();
        connection.command(&["PING"]).unwrap().is_error("NOAUTH")
    };
    assert!(sentinels.sentinel_addresses().iter().all(|at| asks(at)));
    assert!(asks(&sentinels.master().address()));
    assert!(asks(&sentinels.replicas()[0].address()));
    let old = sentinels.current_master_port();
    sentinels.kill_master();
    let new = sentinels.wait_for_new_master(old);
    new.command(&["SET", "a", "1"]).ok();
}
