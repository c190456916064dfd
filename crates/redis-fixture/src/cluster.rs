//! A cluster: masters that share the slots, and their replicas.

mod builder;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use self::builder::ClusterBuilder;
use crate::client::Access;
use crate::topology::{id, is_well, known_to, owners, replicas};
use crate::{FOR_EVER, Reply, Server, ServerBuilder, until, until_some};

const MASTERS: usize = 3;
const SLOTS: u16 = 16_384;

/// For how many ms a node may be silent until the others take it for dead: on
/// a busy machine, one that lives is silent for seconds.
const PATIENCE: &str = "30000";

/// The same while they get to know each other, while another is to become the
/// master, and once one was killed: so often they talk, and try again.
pub(crate) const HASTE: &str = "2000";

/// Three masters with a replica each. That one is down they notice, and a
/// replica takes over, within a few seconds once one was [killed]; until then
/// no replica does by itself.
///
/// [killed]: Self::kill_master_of_slot
///
/// ```
/// use redis_fixture::Cluster;
///
/// let cluster = Cluster::start();
/// let old = cluster.kill_master_of_slot(0);
/// assert_ne!(cluster.node_of_slot(0).port(), old.port());
/// ```
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
    /// Whether replicas take over by themselves.
    is_watchful: AtomicBool,
}

/// A slot on its way to another node: for its keys that are gone already, the
/// node that had it answers `ASK`. It stays so until it is finished.
#[derive(Debug)]
#[must_use]
pub struct Migration<'c> {
    cluster: &'c Cluster,
    slot: u16,
    from: &'c Server,
    to: &'c Server,
}

impl Cluster {
    /// Starts one without passwords or TLS, and waits until every node says
    /// that it is well.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// One to be started, with options.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    #[track_caller]
    fn of(node: &ServerBuilder) -> Self {
        let cluster = Self {
            nodes: (0..2 * MASTERS).map(|_| node.launch()).collect(),
            is_watchful: AtomicBool::new(false),
        };
        cluster.share_slots();
        let (first, others) = cluster.nodes.split_first().unwrap();
        for node in others {
            let port = node.node_port().to_string();
            first.command(&["CLUSTER", "MEET", "127.0.0.1", &port]).ok();
        }
        let (masters, replicas) = cluster.nodes.split_at(MASTERS);
        for (master, replica) in masters.iter().zip(replicas) {
            let id = id(master);
            until("the replica knows its master", || {
                replica.command(&["CLUSTER", "REPLICATE", &id]).is_ok()
            });
        }
        cluster.wait_until_settled();
        cluster.set("cluster-node-timeout", PATIENCE);
        cluster
    }

    /// All nodes: first those that were the masters at the start, then the
    /// replica of each, in the same order.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// `127.0.0.1:port` of each node; of the port for TLS, if it has one.
    pub fn addresses(&self) -> Vec<String> {
        let address = |node: &Server| format!("127.0.0.1:{}", node.node_port());
        self.nodes.iter().map(address).collect()
    }

    /// The slot of a key.
    #[track_caller]
    pub fn slot_of(&self, key: &str) -> u16 {
        let reply = until_some("a node answers", || {
            let mut nodes = self.nodes.iter();
            nodes.find_map(|node| node.look(&["CLUSTER", "KEYSLOT", key]))
        });
        u16::try_from(reply.integer()).unwrap()
    }

    /// The master of a slot. If it is down, this waits until there is
    /// another.
    #[track_caller]
    pub fn node_of_slot(&self, slot: u16) -> &Server {
        until_some("a master of the slot", || {
            let claims = self.nodes.iter().filter_map(|node| {
                let me = known_to(node)?.into_iter().find(|known| known.is_me)?;
                me.has(slot).then_some((me.epoch, node))
            });
            // One that was replaced claims it until it learns of that.
            claims.max_by_key(|(epoch, _)| *epoch).map(|(_, node)| node)
        })
    }

    /// The replica of the master of a slot.
    #[track_caller]
    pub fn replica_of_slot(&self, slot: u16) -> &Server {
        let master = id(self.node_of_slot(slot));
        until_some("a replica of the slot's master", || {
            self.nodes.iter().find(|node| {
                let known = known_to(node).unwrap_or_default();
                known.iter().any(|it| it.is_me && it.master == master)
            })
        })
    }

    /// Lets the replica of a slot's master take over, waits until all nodes
    /// know, and returns it.
    #[track_caller]
    pub fn failover_of_slot(&self, slot: u16) -> &Server {
        let new = self.replica_of_slot(slot);
        self.set("cluster-node-timeout", HASTE);
        // After five seconds, a node gives up.
        let patience = Duration::from_secs(6);
        let mut asked = None::<Instant>;
        until("the replica takes over", || {
            let is_due = asked.is_none_or(|asked| asked.elapsed() > patience);
            if is_due && new.command(&["CLUSTER", "FAILOVER"]).is_ok() {
                asked = Some(Instant::now());
            }
            new.command(&["ROLE"]).list()[0] == "master"
        });
        self.wait_until_settled();
        if !self.is_watchful.load(Ordering::Relaxed) {
            self.set("cluster-node-timeout", PATIENCE);
        }
        new
    }

    /// Kills the master of a slot and returns it. The others still have to
    /// notice; [`node_of_slot`](Self::node_of_slot) waits for that.
    #[track_caller]
    pub fn kill_master_of_slot(&self, slot: u16) -> &Server {
        let master = self.node_of_slot(slot);
        self.is_watchful.store(true, Ordering::Relaxed);
        self.set("cluster-replica-no-failover", "no");
        self.set("cluster-node-timeout", HASTE);
        master.kill();
        master
    }

    /// Moves a slot with its keys to another master, and waits until all nodes
    /// know.
    #[track_caller]
    pub fn migrate_slot(&self, slot: u16, to: &Server) {
        let migration = self.begin_migration(slot, to);
        migration.move_keys();
        migration.finish();
    }

    /// Begins to move a slot to another master, which is a node of this
    /// cluster.
    #[track_caller]
    pub fn begin_migration<'c>(&'c self, slot: u16, to: &'c Server) -> Migration<'c> {
        let from = self.node_of_slot(slot);
        assert_ne!(from.node_port(), to.node_port(), "it is there already");
        let number = slot.to_string();
        let set_slot = |node: &Server, state: &str, other: &Server| {
            let command = ["CLUSTER", "SETSLOT", &number, state, &id(other)];
            node.command(&command).ok();
        };
        set_slot(to, "IMPORTING", from);
        set_slot(from, "MIGRATING", to);
        Migration {
            cluster: self,
            slot,
            from,
            to,
        }
    }

    /// Waits until all nodes say that the cluster is well, agree on who is up
    /// and who has which slots, and every replica is in touch with its master;
    /// without asking those that are down or frozen.
    #[track_caller]
    pub fn wait_until_settled(&self) {
        until("the nodes of the cluster agree", || {
            let awake: Vec<_> = self.nodes.iter().filter(|it| it.is_awake()).collect();
            let Some(first) = awake.first() else {
                return false;
            };
            let (Some(slots), Some(copies)) = (owners(first), replicas(first)) else {
                return false;
            };
            slots.iter().all(|(_, port)| {
                let mut awake = awake.iter();
                awake.any(|node| node.node_port() == *port)
            }) && awake.iter().all(|node| {
                is_well(node) && owners(node).as_ref() == Some(&slots) && {
                    // Every other awake one is known, and as what it is: a
                    // master votes for no replica that it takes for a master.
                    let known = known_to(node).unwrap_or_default();
                    let up = known.iter().filter(|known| known.is_up).count();
                    up == awake.len()
                        && copies.len() + MASTERS == awake.len()
                        && replicas(node).as_ref() == Some(&copies)
                }
            })
        });
    }

    /// Sets a directive at all nodes that are up.
    #[track_caller]
    fn set(&self, name: &str, value: &str) {
        for node in self.nodes.iter().filter(|node| node.is_awake()) {
            node.command(&["CONFIG", "SET", name, value]).ok();
        }
    }

    /// Gives each master its part, without waiting for the others to know.
    fn share_slots(&self) {
        let part = SLOTS.div_ceil(u16::try_from(MASTERS).unwrap());
        let firsts = (0..SLOTS).step_by(part.into());
        for (epoch, (node, first)) in (1..).zip(self.nodes.iter().zip(firsts)) {
            let slots = first..SLOTS.min(first + part);
            let slots: Vec<_> = slots.map(|slot| slot.to_string()).collect();
            let mut command = vec!["CLUSTER", "ADDSLOTS"];
            command.extend(slots.iter().map(String::as_str));
            node.command(&command).ok();
            // Each its own, so that they need not settle that first.
            let epoch = format!("{epoch}");
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).ok();
        }
    }
}

impl Migration<'_> {
    /// Moves the keys that are there.
    #[track_caller]
    pub fn move_keys(&self) {
        let slot = self.slot.to_string();
        let port = self.to.node_port().to_string();
        let access: Vec<&str> = match self.to.access() {
            None => Vec::new(),
            Some(Access {
                user: None,
                password,
            }) => vec!["AUTH", password],
            Some(Access {
                user: Some(user),
                password,
            }) => vec!["AUTH2", user, password],
        };
        loop {
            let keys = ["CLUSTER", "GETKEYSINSLOT", &slot, "100"];
            let keys = self.from.command(&keys).list();
            if keys.is_empty() {
                return;
            }
            let begin = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000"];
            let begin = begin.into_iter().chain(access.iter().copied());
            let begin = begin.chain(["KEYS"]).map(|text| text.as_bytes().to_vec());
            let command: Vec<_> = begin.chain(keys.into_iter().map(Reply::bytes)).collect();
            let reply = self.from.ask(&command, FOR_EVER).unwrap();
            assert!(reply.is_ok() || reply == "NOKEY", "{reply:?}");
        }
    }

    /// Gives the slot, of which all keys are moved, to the other master, and
    /// waits until all nodes know.
    #[track_caller]
    pub fn finish(self) {
        let (slot, new) = (self.slot.to_string(), id(self.to));
        // First who is to have it: so it has one owner at any time.
        for node in [self.to, self.from] {
            let command = ["CLUSTER", "SETSLOT", &slot, "NODE", &new];
            node.command(&command).ok();
        }
        self.cluster.wait_until_settled();
    }
}
