//! Sentinels and clusters.

use redis_fixture::{Cluster, Sentinels, Server};

use crate::support::{
    Found, doctor, doctor_with, forget_slow_commands, healthy, redis, repeat_while,
};

fn behind(sentinels: &[String], more: &str) -> String {
    format!(
        "lock_store:\n  type: redis\n  fallback: none\n  db: 0\n  deployment_mode: sentinel\n  \
         endpoints: [{}]\n{more}",
        sentinels.join(", ")
    )
}

fn cluster_at(nodes: &[String]) -> String {
    format!(
        "lock_store:\n  type: redis\n  fallback: none\n  deployment_mode: cluster\n  endpoints: \
         [{}]\n",
        nodes.join(", ")
    )
}

/// The servers of the fixture have no persistence.
#[track_caller]
fn is_well_but_for_persistence(found: &Found) {
    found.warns("persistence", &["no persistence"]);
}

#[test]
fn sentinels() {
    let sentinels = Sentinels::start();
    forget_slow_commands(sentinels.master());
    let all = sentinels.sentinel_addresses();
    let found = with_replicas(&behind(&all, "  replicas: 2\n"));
    is_well_but_for_persistence(&found);
    found.says("sentinels", "ok", &["the master of mymaster"]);
    found.says("replicas", "ok", &["2 online; each lock waits for 2"]);
    // Of the sentinels, the master and its replicas.
    found.says("tcp", "ok", &["5 more"]);
    found.says("rights", "ok", &["all 23 commands"]);

    let found = doctor(&behind(&all, "  sentinel_service: other\n"));
    found.fails(
        "sentinels",
        &[
            "knows no master called \"other\"",
            "sentinel_service to mymaster",
        ],
    );
    found.skips(&["server", "rights", "hand_off"], "sentinels");

    let found = doctor(&behind(&all[..1], ""));
    found.says("sentinels", "warning", &["one sentinel is named"]);

    // A sentinel as master, and a master as sentinel.
    let found = doctor(&redis(&format!("redis://{}/1", all[0]), ""));
    found.fails("role", &["a sentinel", "deployment_mode: sentinel"]);
    let master = format!("127.0.0.1:{}", sentinels.current_master_port());
    let found = doctor(&behind(&[master], ""));
    found.says(
        "sentinels",
        "failure",
        &["is no sentinel", "lock_store.endpoints"],
    );

    // One of those that are named is not there.
    let gone = Server::start();
    gone.kill();
    let some = [all[0].clone(), gone.address(), all[1].clone()];
    let found = with_replicas(&behind(&some, ""));
    assert_eq!(found.with("warning"), ["tcp", "persistence"]);
    found.says("tcp", "warning", &[&gone.address(), "refused"]);
    found.says("hand_off", "ok", &[]);
    let found = doctor(&behind(&[gone.address()], ""));
    found.fails("tcp", &[&gone.address()]);
}

/// What is found when no replica was last heard of long ago: on a busy machine
/// they are late.
#[track_caller]
fn with_replicas(endpoints: &str) -> Found {
    let look = || doctor(endpoints);
    repeat_while(look, |found| found.with("warning").contains(&"replicas"))
}

/// Nodes tell of replicas only once something was replicated.
fn wait_for_replicas(cluster: &Cluster) {
    let nodes = cluster.nodes();
    for node in nodes {
        let seconds = ["CONFIG", "SET", "repl-ping-replica-period", "1"];
        node.command(&seconds).ok();
    }
    redis_fixture::until("all nodes tell of all replicas", || {
        nodes.iter().all(|node| {
            let slots = node.command(&["CLUSTER", "SLOTS"]).list();
            slots.into_iter().all(|range| range.list().len() == 4)
        })
    });
}

#[test]
fn cluster() {
    let cluster = Cluster::start();
    cluster.nodes().iter().for_each(forget_slow_commands);
    let all = cluster.addresses();
    wait_for_replicas(&cluster);
    let found = with_replicas(&cluster_at(&all[..2]));
    is_well_but_for_persistence(&found);
    found.says("cluster", "ok", &["3 masters", "3 replicas"]);
    found.says("tcp", "ok", &["5 more"]);
    found.says("rights", "ok", &["all 22 commands"]);
    found.says("replicas", "ok", &["1 online"]);

    // Without saying that it is one.
    for db in [0, 1] {
        let found = doctor(&redis(&format!("redis://{}/{db}", all[0]), ""));
        found.fails("role", &["a node of a cluster", "deployment_mode: cluster"]);
    }

    // A replica that is frozen is no reason to stop; it is named.
    let replica = cluster.replica_of_slot(0);
    replica.freeze();
    // In which all else has to be done as well, also on a busy machine.
    let timeouts = ["1", "5", "25"].into_iter();
    let mut looks = timeouts.map(|it| doctor_with(&cluster_at(&all), &["--timeout", it]));
    let found = looks.find(|found| found.with("ok").contains(&"hand_off"));
    replica.thaw();
    let found = found.expect("a hand-off beside a frozen replica");
    found.says(
        "answer",
        "warning",
        &[&replica.address(), "does not answer"],
    );
}

#[test]
fn no_cluster() {
    let server = healthy().start();
    let found = doctor(&cluster_at(&[server.address()]));
    found.fails("cluster", &["is no cluster", "deployment_mode: standard"]);
}
