//! A cluster.

use redis_fixture::{Certificates, ClientCertificate, Cluster, Connection, Server};

/// A key of each third of the slots.
const KEYS: [&str; 3] = ["b", "c", "a"];

/// The node whose replies to `GET` are values, no redirections.
fn has(node: &Server, key: &str, value: &str) -> bool {
    node.command(&["GET", key]) == value
}

#[test]
fn the_masters_share_the_slots() {
    let cluster = Cluster::start();
    assert_eq!(cluster.nodes().len(), 6);
    assert_eq!(cluster.addresses()[5], cluster.nodes()[5].address());
    for (index, key) in KEYS.iter().enumerate() {
        let slot = cluster.slot_of(key);
        let node = cluster.node_of_slot(slot);
        assert_eq!(node.port(), cluster.nodes()[index].port(), "{slot}");
        let replica = cluster.replica_of_slot(slot);
        assert_eq!(replica.port(), cluster.nodes()[index + 3].port());
        node.command(&["SET", key, "1"]).ok();
        let other = &cluster.nodes()[(index + 1) % 3];
        let moved = format!("MOVED {slot} {}", node.address());
        assert_eq!(other.command(&["GET", key]).error(), moved);
    }
    for node in cluster.nodes() {
        let info = node.command(&["CLUSTER", "INFO"]).text();
        assert!(info.contains("cluster_state:ok"), "{info}");
        assert!(info.contains("cluster_slots_ok:16384"), "{info}");
        assert!(info.contains("cluster_known_nodes:6"), "{info}");
    }
}

#[test]
fn a_replica_takes_over() {
    let cluster = Cluster::start();
    let slot = cluster.slot_of("a");
    let old = cluster.node_of_slot(slot);
    old.command(&["SET", "a", "1"]).ok();
    let new = cluster.failover_of_slot(slot);
    assert_ne!(new.port(), old.port());
    assert_eq!(cluster.node_of_slot(slot).port(), new.port());
    assert!(has(new, "a", "1"));
    assert!(old.command(&["SET", "a", "2"]).is_error("MOVED"));
    // And back.
    let again = cluster.failover_of_slot(slot);
    assert_eq!(again.port(), old.port());
}

#[test]
fn a_master_that_dies_is_replaced_and_comes_back_as_a_replica() {
    let cluster = Cluster::start();
    let slot = cluster.slot_of("a");
    // `WAIT` is for what was written on the same connection.
    let mut connection = cluster.node_of_slot(slot).connect().unwrap();
    connection.command(&["SET", "a", "1"]).unwrap().ok();
    let copies = connection.command(&["WAIT", "1", "0"]).unwrap();
    assert_eq!(copies.integer(), 1);
    let old = cluster.kill_master_of_slot(slot);
    let new = cluster.node_of_slot(slot);
    assert_ne!(new.port(), old.port());
    cluster.wait_until_settled();
    assert!(has(new, "a", "1"));
    old.restart_empty();
    cluster.wait_until_settled();
    assert_eq!(cluster.replica_of_slot(slot).port(), old.port());
}

#[test]
fn a_slot_moves_with_its_keys() {
    let cluster = Cluster::start();
    let slot = cluster.slot_of("{a}");
    let from = cluster.node_of_slot(slot);
    let keys: Vec<_> = (0..250).map(|index| format!("{{a}}{index}")).collect();
    for key in &keys {
        from.command(&["SET", key, key]).ok();
    }
    let to = cluster.node_of_slot(cluster.slot_of("b"));
    assert_ne!(from.port(), to.port());
    cluster.migrate_slot(slot, to);
    assert_eq!(cluster.node_of_slot(slot).port(), to.port());
    assert!(keys.iter().all(|key| has(to, key, key)));
    assert!(from.command(&["GET", &keys[0]]).is_error("MOVED"));
    cluster.migrate_slot(slot, from);
    assert!(keys.iter().all(|key| has(from, key, key)));
}

#[test]
fn a_slot_on_its_way_asks_for_the_other_node() {
    let cluster = Cluster::start();
    let slot = cluster.slot_of("a");
    let from = cluster.node_of_slot(slot);
    from.command(&["SET", "a", "1"]).ok();
    let to = cluster.node_of_slot(cluster.slot_of("b"));
    let migration = cluster.begin_migration(slot, to);
    assert!(has(from, "a", "1"));
    assert!(to.command(&["GET", "a"]).is_error("MOVED"));
    migration.move_keys();
    let asked = format!("ASK {slot} {}", to.address());
    assert_eq!(from.command(&["GET", "a"]).error(), asked);
    let mut connection = to.connect().unwrap();
    connection.command(&["ASKING"]).unwrap().ok();
    assert_eq!(connection.command(&["GET", "a"]).unwrap().text(), "1");
    migration.finish();
    assert!(has(to, "a", "1"));
}

/// What a cluster is there for: copies, another master, slots that move.
fn works(cluster: &Cluster) {
    let slot = cluster.slot_of("a");
    let old = cluster.node_of_slot(slot);
    old.command(&["SET", "a", "1"]).ok();
    let new = cluster.failover_of_slot(slot);
    assert_ne!(new.pid(), old.pid());
    assert!(has(new, "a", "1"));
    let to = cluster.node_of_slot(cluster.slot_of("b"));
    cluster.migrate_slot(slot, to);
    assert!(has(to, "a", "1"));
    assert_eq!(cluster.node_of_slot(slot).pid(), to.pid());
    cluster.kill_master_of_slot(slot);
    assert!(cluster.node_of_slot(slot).is_running());
}

#[test]
fn a_cluster_with_a_password() {
    let cluster = Cluster::builder().password("sesame").start();
    for address in cluster.addresses() {
        let mut stranger = Connection::tcp(&address).unwrap();
        assert!(stranger.command(&["PING"]).unwrap().is_error("NOAUTH"));
    }
    works(&cluster);
}

#[test]
fn a_cluster_with_tls_and_users() {
    if !Server::supports_tls() {
        return;
    }
    let certificates = Certificates::new();
    let cluster = Cluster::builder()
        .acl_user("ali", "sesame", "~* &* +@all")
        .without_default_user()
        .tls(&certificates, ClientCertificate::Required)
        .start();
    for node in cluster.nodes() {
        assert!(
            cluster
                .addresses()
                .contains(&format!("127.0.0.1:{}", node.tls_port()))
        );
        let mut connection = node.connect().unwrap();
        let known = connection.command(&["AUTH", "ali", "sesame"]).unwrap();
        assert!(known.is_ok());
    }
    works(&cluster);
}
