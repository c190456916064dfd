//! Which connection a conversation's steps go over: always the same one, so
//! that its tickets are issued in the order asked.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use redis::Value;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::connect::{Connector, Node, Topology, unsubscribed, within};
use super::connection::Connection;
use super::errors::ConnectError;
use super::keys::Tag;
use super::scripts::Scripts;
use crate::identity::ConversationId;

/// The map of a cluster is asked for at most so often.
const LEAST_AGE: Duration = Duration::from_millis(50);

/// The links to one server.
pub(super) type Links = Arc<[Connection]>;

/// Where steps go.
pub(super) enum Route {
    /// To one server, over so many links.
    One(Links),
    Cluster(Arc<Cluster>, AbortHandle),
}

/// The nodes of a cluster, and who has which slot.
pub(super) struct Cluster {
    connector: Arc<Connector>,
    scripts: Arc<Scripts>,
    connections: usize,
    map: RwLock<Map>,
    /// Asks for a new map.
    stale: Notify,
    /// Told when there is a new map.
    pub(super) renewed: Notify,
    runtime: Handle,
}

#[derive(Default)]
struct Map {
    /// By their first slot; the end is inclusive.
    ranges: Vec<(u16, u16, Node)>,
    /// Slots that moved since the ranges were asked for.
    moved: HashMap<u16, Node>,
    links: HashMap<Node, Links>,
}

impl Route {
    /// Its connections are supervised on this runtime.
    pub(super) fn new(
        connector: &Arc<Connector>,
        scripts: &Arc<Scripts>,
        connections: usize,
        runtime: &Handle,
    ) -> Self {
        match &connector.topology {
            Topology::Standalone(_) | Topology::Sentinel(..) => {
                Self::One(links(connector, scripts, connections, None, runtime))
            }
            Topology::Cluster(_) => {
                let cluster = Arc::new(Cluster {
                    connector: connector.clone(),
                    scripts: scripts.clone(),
                    connections,
                    map: RwLock::default(),
                    stale: Notify::new(),
                    renewed: Notify::new(),
                    runtime: runtime.clone(),
                });
                let renewing = runtime.spawn(keep_renewing(cluster.clone()));
                Self::Cluster(cluster, renewing.abort_handle())
            }
        }
    }

    /// The links of whoever has the conversation; `None` while that is not
    /// known.
    #[inline]
    pub(super) fn links_for(&self, id: &ConversationId) -> Option<Links> {
        match self {
            Self::One(links) => Some(links.clone()),
            Self::Cluster(cluster, _) => cluster.links_of_slot(Tag::of(id).slot()),
        }
    }

    /// The links of a node to which a step was sent on.
    pub(super) fn links_of(&self, node: &Node) -> Option<Links> {
        match self {
            Self::One(_) => None,
            Self::Cluster(cluster, _) => Some(cluster.links_of_node(node)),
        }
    }

    /// Whether steps of different conversations can share a call: in a cluster
    /// they are of different slots.
    pub(super) fn can_gather(&self) -> bool {
        matches!(self, Self::One(_))
    }

    pub(super) fn moved(&self, slot: u16, node: &Node) {
        if let Self::Cluster(cluster, _) = self {
            cluster.moved(slot, node);
        }
    }

    /// Whoever has the conversation may be another one by now.
    pub(super) fn doubt(&self) {
        if let Self::Cluster(cluster, _) = self {
            cluster.stale.notify_one();
        }
    }

    /// Waits for news of who has what. May come early.
    pub(super) async fn renewed(&self) {
        match self {
            Self::One(_) => std::future::pending().await,
            Self::Cluster(cluster, _) => cluster.renewed.notified().await,
        }
    }

    /// The links of every server that has a part of the conversations.
    pub(super) fn all_links(&self) -> Vec<Links> {
        match self {
            Self::One(links) => vec![links.clone()],
            Self::Cluster(cluster, _) => cluster.all_links(),
        }
    }

    /// Waits for the first connection, or for the first reason why there is
    /// none.
    pub(super) async fn first_outcome(&self) -> Result<Links, ConnectError> {
        let links = match self {
            Self::One(links) => links.clone(),
            Self::Cluster(cluster, _) => loop {
                if let Some(links) = cluster.all_links().into_iter().next() {
                    break links;
                }
                let renewed = cluster.renewed.notified();
                cluster.renew().await?;
                drop(renewed);
            },
        };
        let mut connect_error = ConnectError::nobody_to_ask();
        for link in links.iter() {
            match link.first_outcome().await {
                Ok(()) => return Ok(links),
                Err(found) => connect_error = found.or_worse(connect_error),
            }
        }
        Err(connect_error)
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        if let Self::Cluster(_, renewing) = self {
            renewing.abort();
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all_links()).finish()
    }
}

fn links(
    connector: &Arc<Connector>,
    scripts: &Arc<Scripts>,
    connections: usize,
    node: Option<&Node>,
    runtime: &Handle,
) -> Links {
    (0..connections)
        .map(|_| Connection::new(connector.clone(), node.cloned(), scripts.clone(), runtime))
        .collect()
}

impl Cluster {
    pub(super) fn links_of_slot(&self, slot: u16) -> Option<Links> {
        let map = self.read();
        map.links.get(map.node_of(slot)?).cloned()
    }

    pub(super) fn node_of_slot(&self, slot: u16) -> Option<Node> {
        self.read().node_of(slot).cloned()
    }

    fn links_of_node(&self, node: &Node) -> Links {
        let mut map = self.write();
        let links = map
            .links
            .entry(node.clone())
            .or_insert_with(|| self.open(node));
        links.clone()
    }

    fn moved(&self, slot: u16, node: &Node) {
        // A node may not know its own name, and then says only its port.
        let node = match node {
            Node::Tcp(host, port) if host.is_empty() => match self.node_of_slot(slot) {
                Some(Node::Tcp(host, _)) => Node::Tcp(host, *port),
                _ => return self.stale.notify_one(),
            },
            node => node.clone(),
        };
        self.links_of_node(&node);
        self.write().moved.insert(slot, node);
        self.stale.notify_one();
    }

    fn all_links(&self) -> Vec<Links> {
        let map = self.read();
        let mut nodes: Vec<_> = map.ranges.iter().map(|(_, _, node)| node).collect();
        nodes.sort_by_key(ToString::to_string);
        nodes.dedup();
        nodes
            .iter()
            .filter_map(|node| map.links.get(*node).cloned())
            .collect()
    }

    fn open(&self, node: &Node) -> Links {
        links(
            &self.connector,
            &self.scripts,
            self.connections,
            Some(node),
            &self.runtime,
        )
    }

    /// Asks the cluster who has what: first the nodes that are known, then
    /// those that are configured.
    async fn renew(&self) -> Result<(), ConnectError> {
        let known: Vec<_> = self.read().links.values().cloned().collect();
        for links in known {
            let Some(mut live) = links[0].live() else {
                continue;
            };
            let asked = redis::cmd("CLUSTER").arg("SLOTS").to_owned();
            let answer = within(ASKING, asked.query_async(&mut live.connection)).await;
            if let Some(ranges) = answer
                .ok()
                .and_then(|answer: Value| read_slots(answer, &links[0]))
            {
                self.put(ranges);
                return Ok(());
            }
        }
        let Topology::Cluster(seeds) = &self.connector.topology else {
            return Ok(());
        };
        let mut connect_error = ConnectError::nobody_to_ask();
        for seed in seeds {
            match self.ask_seed(seed).await {
                Ok(ranges) => {
                    self.put(ranges);
                    return Ok(());
                }
                Err(found) => connect_error = found.or_worse(connect_error),
            }
        }
        Err(connect_error)
    }

    async fn ask_seed(&self, seed: &Node) -> Result<Vec<(u16, u16, Node)>, ConnectError> {
        let mut connection = self.connector.open_to(seed, unsubscribed).await?;
        let asked = redis::cmd("CLUSTER").arg("SLOTS").to_owned();
        let answer: Value = within(self.connector.timeout, asked.query_async(&mut connection))
            .await
            .map_err(|error| {
                if error.to_string().contains("cluster support disabled") {
                    return ConnectError::lasting(format!(
                        "Redis at {seed} is no cluster; see lock_store.deployment_mode"
                    ));
                }
                ConnectError::connecting(seed, false, &error)
            })?;
        read_slots_from(answer, seed).ok_or_else(ConnectError::nobody_to_ask)
    }

    fn put(&self, ranges: Vec<(u16, u16, Node)>) {
        let mut map = self.write();
        let mut links = std::mem::take(&mut map.links);
        for (_, _, node) in &ranges {
            if !map.links.contains_key(node) {
                let known = links.remove(node);
                let opened = known.unwrap_or_else(|| self.open(node));
                map.links.insert(node.clone(), opened);
            }
        }
        map.ranges = ranges;
        map.moved.clear();
        drop(map);
        // What is left is of nodes that have nothing any more.
        drop(links);
        self.renewed.notify_waiters();
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Map> {
        self.map
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Map> {
        self.map
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Map {
    fn node_of(&self, slot: u16) -> Option<&Node> {
        if let Some(node) = self.moved.get(&slot) {
            return Some(node);
        }
        let after = self.ranges.partition_point(|(first, _, _)| *first <= slot);
        let (_, last, node) = self.ranges.get(after.checked_sub(1)?)?;
        (*last >= slot).then_some(node)
    }
}

/// How long a node may take to say who has what.
const ASKING: Duration = Duration::from_secs(1);

/// Renews the map whenever somebody doubts it.
async fn keep_renewing(cluster: Arc<Cluster>) {
    loop {
        if cluster.renew().await.is_err() {
            tokio::time::sleep(4 * LEAST_AGE).await;
            continue;
        }
        tokio::time::sleep(LEAST_AGE).await;
        cluster.stale.notified().await;
    }
}

fn read_slots(answer: Value, link: &Connection) -> Option<Vec<(u16, u16, Node)>> {
    read_slots_from(answer, link.node()?)
}

/// `CLUSTER SLOTS`: first slot, last slot, master, replicas. An empty host is
/// that of the node that was asked.
fn read_slots_from(answer: Value, asked: &Node) -> Option<Vec<(u16, u16, Node)>> {
    let Value::Array(items) = answer else {
        return None;
    };
    let mut ranges = Vec::with_capacity(items.len());
    for item in items {
        let Value::Array(fields) = item else {
            return None;
        };
        let [
            Value::Int(first),
            Value::Int(last),
            Value::Array(master),
            ..,
        ] = &fields[..]
        else {
            return None;
        };
        let [host, Value::Int(port), ..] = &master[..] else {
            return None;
        };
        let host = match host {
            Value::BulkString(host) => String::from_utf8_lossy(host).into_owned(),
            _ => String::new(),
        };
        let host = match (host.is_empty() || host == "?", asked) {
            (true, Node::Tcp(host, _)) => host.clone(),
            _ => host,
        };
        let node = Node::Tcp(host, u16::try_from(*port).ok()?);
        ranges.push((
            u16::try_from(*first).ok()?,
            u16::try_from(*last).ok()?,
            node,
        ));
    }
    ranges.sort_by_key(|(first, _, _)| *first);
    (!ranges.is_empty()).then_some(ranges)
}
