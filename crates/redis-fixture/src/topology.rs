//! What a node of a cluster knows of all.

use crate::ports::BUS;
use crate::server::field_of;
use crate::{Reply, Server};

/// A line of `CLUSTER NODES`.
pub(crate) struct Known {
    pub(crate) port: u16,
    pub(crate) is_me: bool,
    pub(crate) is_up: bool,
    /// The id of its master, or `-`.
    pub(crate) master: String,
    pub(crate) epoch: u64,
    pub(crate) slots: Vec<(u16, u16)>,
}

impl Known {
    pub(crate) fn has(&self, slot: u16) -> bool {
        let mut slots = self.slots.iter();
        slots.any(|(first, last)| (*first..=*last).contains(&slot))
    }

    /// `id address:port@bus flags master ping pong epoch link slots…`
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.split(' ').collect();
        let (address, bus) = fields.get(1)?.split_once('@')?;
        let flags: Vec<_> = fields.get(2)?.split(',').collect();
        let is_me = flags.contains(&"myself");
        let has_failed = ["fail", "fail?", "handshake", "noaddr"]
            .iter()
            .any(|flag| flags.contains(flag));
        Some(Self {
            port: client_port(address, bus)?,
            is_me,
            is_up: !has_failed && (is_me || *fields.get(7)? == "connected"),
            master: (*fields.get(3)?).to_owned(),
            epoch: fields.get(6)?.parse().ok()?,
            slots: fields[8..].iter().filter_map(|text| range(text)).collect(),
        })
    }
}

/// The port for clients. A node with TLS only says 0 to a client without TLS,
/// which is what asks it here (from Redis 8 on); then the port of the bus tells.
fn client_port(address: &str, bus: &str) -> Option<u16> {
    let (_, port) = address.rsplit_once(':')?;
    match port.parse().ok()? {
        0 => bus.split(',').next()?.parse::<u16>().ok()?.checked_sub(BUS),
        port => Some(port),
    }
}

/// Of `first-last` or of one slot; not of `[slot->-node]`, which is moving.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// The nodes that a node knows, if it answers.
pub(crate) fn known_to(node: &Server) -> Option<Vec<Known>> {
    let reply = node.look(&["CLUSTER", "NODES"])?.text();
    Some(reply.lines().filter_map(Known::parse).collect())
}

/// Who has which slots, as a node says, in order.
pub(crate) fn owners(node: &Server) -> Option<Vec<((u16, u16), u16)>> {
    let known = known_to(node)?;
    let slots = known
        .iter()
        .flat_map(|known| known.slots.iter().map(|slots| (*slots, known.port)));
    let mut slots: Vec<_> = slots.collect();
    slots.sort_unstable();
    Some(slots)
}

/// Who is up as a replica of which master, as a node says, in order.
pub(crate) fn replicas(node: &Server) -> Option<Vec<(u16, String)>> {
    let known = known_to(node)?.into_iter();
    let is_replica = |known: &Known| known.is_up && known.master != "-";
    let replicas = known.filter(is_replica);
    let mut replicas: Vec<_> = replicas.map(|known| (known.port, known.master)).collect();
    replicas.sort_unstable();
    Some(replicas)
}

/// Whether it finds the cluster well, and its own master, if it has one.
pub(crate) fn is_well(node: &Server) -> bool {
    let ask = |command: [&str; 2]| node.look(&command).map(Reply::text);
    let state = ask(["CLUSTER", "INFO"]).and_then(|text| field_of(&text, "cluster_state"));
    let link = ask(["INFO", "replication"]).map(|text| field_of(&text, "master_link_status"));
    state.as_deref() == Some("ok") && link.is_some_and(|link| link.is_none_or(|it| it == "up"))
}

pub(crate) fn id(node: &Server) -> String {
    node.command(&["CLUSTER", "MYID"]).text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_any_version_is_read() {
        let of =
            |at: &str| format!("07c3 {at} myself,master - 0 1426 3 connected 0-5 7 [93->-a1b2]");
        for at in [
            "127.0.0.1:1@11",
            "127.0.0.1:1@11,host",
            "127.0.0.1:1@11,,shard-id=e",
            "127.0.0.1:0@10001",
            "127.0.0.1:0@10001,,shard-id=e",
        ] {
            let known = Known::parse(&of(at)).unwrap();
            assert_eq!((known.port, known.epoch), (1, 3));
            assert!(known.is_me && known.is_up);
            assert_eq!(known.slots, [(0, 5), (7, 7)]);
            assert!(known.has(7) && !known.has(6) && !known.has(93));
        }
        let replica = "a1b2 127.0.0.1:2@12 slave,fail? 07c3 1 2 3 connected";
        let known = Known::parse(replica).unwrap();
        assert_eq!(known.master, "07c3");
        assert!(!known.is_up && known.slots.is_empty());
    }
}
