//! Which servers there are: the one that is named, the master that sentinels
//! name, or the nodes of a cluster.

use lock_store::DeploymentMode;
use lock_store::diagnose::{Address, Reply, Session};

use super::finding::Finding;
use super::server::{Hello, Info};
use super::way::{Guide, Stage, Way};

/// Every way that was gone.
pub(super) struct Tour<'d> {
    ways: Vec<(Part, Way<'d>)>,
    /// What sentinels or nodes say of the whole, and as which check.
    pub(super) shape: Option<(&'static str, Finding)>,
}

/// What a server is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Holds locks: nothing goes without it.
    Master,
    /// One of several that are named, of which one is enough.
    Named,
    /// May become a master.
    Replica,
}

/// A server that holds locks.
pub(super) struct Node<'d> {
    pub(super) address: Address,
    pub(super) session: Session<'d>,
    pub(super) hello: Hello,
    /// What `INFO` says, if this user may ask.
    pub(super) info: Option<Info>,
}

pub(super) async fn find<'d>(guide: &Guide<'d>) -> Tour<'d> {
    let mut tour = Tour {
        ways: Vec::new(),
        shape: None,
    };
    let mode = guide.deployment.mode();
    let part = match mode {
        DeploymentMode::Standard => Part::Master,
        _ => Part::Named,
    };
    for address in guide.deployment.addresses() {
        let way = guide.walk(&address, mode == DeploymentMode::Sentinel).await;
        tour.ways.push((part, way));
    }
    match mode {
        DeploymentMode::Sentinel => sentinels(guide, &mut tour).await,
        DeploymentMode::Cluster => cluster(guide, &mut tour).await,
        _ => {}
    }
    tour
}

impl<'d> Tour<'d> {
    /// What was found in this stage of all ways.
    pub(super) fn findings(&self, stage: Stage) -> Vec<Finding> {
        let one_is_there =
            |(part, way): &(Part, Way<'_>)| *part != Part::Replica && way.is_gone_to_the_end();
        let others_do = self.ways.iter().any(one_is_there);
        let found = self.ways.iter().filter_map(|(part, way)| {
            let finding = way.stages.get(&stage)?.clone();
            Some(match part {
                Part::Replica => finding.at_most_warning(),
                Part::Named if others_do => finding.at_most_warning(),
                Part::Named | Part::Master => finding,
            })
        });
        found.collect()
    }

    /// Those that hold locks, and those that may come to hold them.
    pub(super) fn masters_and_replicas(self) -> [Vec<Way<'d>>; 2] {
        let mut found = [Vec::new(), Vec::new()];
        for (part, way) in self.ways {
            match part {
                Part::Master => found[0].push(way),
                Part::Replica => found[1].push(way),
                Part::Named => {}
            }
        }
        found
    }

    fn sessions(&self) -> impl Iterator<Item = (&Address, &Session<'d>)> {
        let ways = self.ways.iter();
        ways.filter_map(|(_, way)| Some((&way.address, way.session.as_ref()?)))
    }
}

async fn sentinels<'d>(guide: &Guide<'d>, tour: &mut Tour<'d>) {
    let service = &guide.config.sentinel_service;
    let mut masters: Vec<Address> = Vec::new();
    let mut found = Vec::new();
    for (at, session) in tour.sessions() {
        match master(at, session, service).await {
            Ok((master, finding)) => {
                if !masters.contains(&master) {
                    masters.push(master);
                }
                found.push(finding);
            }
            Err(finding) => found.push(finding),
        }
    }
    if found.is_empty() {
        let finding = Finding::skipped("no sentinel could be asked");
        tour.shape = Some(("sentinels", finding));
        return;
    }
    if let [first, second, ..] = &masters[..] {
        found.push(Finding::failure(
            format!("the sentinels do not agree who is the master: {first} or {second}"),
            "wait for the failover to end; do they see each other (SENTINEL SENTINELS)?",
        ));
    }
    if guide.deployment.addresses().len() == 1 {
        found.push(Finding::warning(
            "one sentinel is named in the configuration: while it is down nobody can connect",
            "name all sentinels in lock_store.endpoints",
        ));
    }
    let replicas = replicas(tour, service).await;
    let count = masters.len();
    for master in masters {
        let way = guide.walk(&master, false).await;
        tour.ways.push((Part::Master, way));
    }
    for replica in replicas {
        let way = guide.walk(&replica, false).await;
        tour.ways.push((Part::Replica, way));
    }
    let finding = Finding::worst_of(found);
    // What one of them knows is enough.
    let finding = if count == 1 {
        finding.at_most_warning()
    } else {
        finding
    };
    tour.shape = Some(("sentinels", finding));
}

/// The replicas that the first sentinel that knows the service tells of.
async fn replicas(tour: &Tour<'_>, service: &str) -> Vec<Address> {
    for (_, session) in tour.sessions() {
        let Ok(reply) = session.ask(&["SENTINEL", "REPLICAS", service]).await else {
            continue;
        };
        if reply.error().is_some() {
            continue;
        }
        let address = |replica: &Reply| {
            let port = replica.field("port")?.integer()?;
            let host = replica.field("ip")?.text()?.to_owned();
            Some(Address::Tcp(host, u16::try_from(port).ok()?))
        };
        return reply.list().iter().filter_map(address).collect();
    }
    Vec::new()
}

/// Whom a sentinel calls the master, and what it thinks of that one.
async fn master(
    at: &Address,
    session: &Session<'_>,
    service: &str,
) -> Result<(Address, Finding), Finding> {
    let ask = async |words: &[&str]| session.ask(words).await;
    let reply = ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", service]).await;
    let reply = reply.map_err(|error| {
        let remedy = "is it a sentinel? see lock_store.endpoints";
        Finding::failure(format!("the sentinel at {at}: {error}"), remedy)
    })?;
    if let Some(error) = reply.error() {
        return Err(if error.contains("unknown command") {
            Finding::failure(
                format!("{at} is no sentinel"),
                "name the sentinels in lock_store.endpoints, mostly at port 26379, or set \
                 lock_store.deployment_mode: standard",
            )
        } else {
            let remedy = "let this user +sentinel, or turn the users of the sentinels off";
            Finding::failure(format!("the sentinel at {at}: {error}"), remedy)
        });
    }
    let master = match reply.list() {
        [host, port] => host
            .text()
            .zip(port.integer().and_then(|port| port.try_into().ok())),
        _ => None,
    };
    let Some((host, port)) = master else {
        let known = ask(&["SENTINEL", "MASTERS"]).await.ok();
        let names = known.iter().flat_map(Reply::list);
        let names: Vec<_> = names.filter_map(|it| it.field("name")?.text()).collect();
        return Err(Finding::failure(
            format!("the sentinel at {at} knows no master called {service:?}"),
            match &names[..] {
                [] => "let the sentinels monitor a master".to_owned(),
                names => format!("set lock_store.sentinel_service to {}", names.join(" or ")),
            },
        ));
    };
    let master = Address::Tcp(host.to_owned(), port);
    let opinion = ask(&["SENTINEL", "MASTER", service]).await.ok();
    let flags = opinion.as_ref().and_then(|it| it.field("flags")?.text());
    if flags.is_some_and(|flags| flags.contains("_down")) {
        let remedy = "is it running? a failover should follow";
        let message = format!("the sentinel at {at} takes the master {master} for down");
        return Ok((master, Finding::failure(message, remedy)));
    }
    let quorum = ask(&["SENTINEL", "CKQUORUM", service]).await.ok();
    if let Some(error) = quorum.as_ref().and_then(Reply::error) {
        let remedy = "start the other sentinels, and see whether they know each other";
        let message = format!("the sentinel at {at} finds too few others: {error}");
        return Ok((master, Finding::warning(message, remedy)));
    }
    let message = format!("{at} calls {master} the master of {service}");
    Ok((master, Finding::ok(message)))
}

async fn cluster<'d>(guide: &Guide<'d>, tour: &mut Tour<'d>) {
    let Some((at, session)) = tour.sessions().next() else {
        let finding = Finding::skipped("no node could be asked");
        tour.shape = Some(("cluster", finding));
        return;
    };
    let slots = session.ask(&["CLUSTER", "SLOTS"]).await;
    let state = session.ask(&["CLUSTER", "INFO"]).await.ok();
    let slots = match slots {
        Ok(reply) if reply.error().is_none() => reply,
        Ok(reply) => {
            let error = reply.error().unwrap_or_default();
            let finding = if error.contains("cluster support disabled") {
                Finding::failure(
                    format!("{at} is no cluster"),
                    "set lock_store.deployment_mode: standard, or name a node of the cluster",
                )
            } else {
                let remedy = "ACL SETUSER … +cluster|slots; docs/REDIS.md has all rights";
                Finding::failure(
                    format!("{at} does not say who has which slots: {error}"),
                    remedy,
                )
            };
            tour.shape = Some(("cluster", finding));
            return;
        }
        Err(error) => {
            let finding = Finding::failure(format!("{at}: {error}"), "see lock_store.endpoints");
            tour.shape = Some(("cluster", finding));
            return;
        }
    };
    let members = Members::of(&slots, at);
    let state = state.as_ref().and_then(Reply::text).unwrap_or_default();
    tour.shape = Some(("cluster", members.judge(state)));
    for (part, address) in [
        (Part::Master, &members.masters),
        (Part::Replica, &members.replicas),
    ]
    .into_iter()
    .flat_map(|(part, all)| all.iter().map(move |address| (part, address)))
    {
        let known = tour
            .ways
            .iter_mut()
            .find(|(_, way)| way.address == *address);
        match known {
            Some((known, _)) => *known = part,
            None => tour.ways.push((part, guide.walk(address, false).await)),
        }
    }
}

/// Who is in a cluster.
#[derive(Debug, Default, PartialEq, Eq)]
struct Members {
    masters: Vec<Address>,
    replicas: Vec<Address>,
    slots: i64,
}

impl Members {
    /// From `CLUSTER SLOTS`: first, last, master, replicas…; a host that is
    /// not told is that of the one who was asked.
    fn of(slots: &Reply, asked: &Address) -> Self {
        let mut members = Self::default();
        for range in slots.list() {
            let [first, last, nodes @ ..] = range.list() else {
                continue;
            };
            if let Some((first, last)) = first.integer().zip(last.integer()) {
                members.slots += last - first + 1;
            }
            for (nth, node) in nodes.iter().enumerate() {
                let Some(address) = address(node, asked) else {
                    continue;
                };
                let (of, other) = if nth == 0 {
                    (&mut members.masters, &mut members.replicas)
                } else {
                    (&mut members.replicas, &mut members.masters)
                };
                if !of.contains(&address) && !other.contains(&address) {
                    of.push(address);
                }
            }
        }
        members
    }

    fn judge(&self, info: &str) -> Finding {
        const SLOTS: i64 = 16_384;
        let told = info
            .lines()
            .find_map(|line| line.strip_prefix("cluster_state:"));
        let missing = SLOTS - self.slots;
        let (masters, replicas) = (self.masters.len(), self.replicas.len());
        if missing > 0 {
            return Finding::failure(
                format!(
                    "{missing} of {SLOTS} slots belong to no node: their conversations cannot be locked"
                ),
                "redis-cli --cluster check, and --cluster fix",
            );
        }
        if told.is_some_and(|state| state != "ok") {
            return Finding::failure(
                "the cluster says that it is not ok (cluster_state)",
                "redis-cli --cluster check; are all masters running?",
            );
        }
        Finding::ok(format!(
            "{masters} masters with all slots, {replicas} replicas"
        ))
    }
}

fn address(node: &Reply, asked: &Address) -> Option<Address> {
    let [host, port, ..] = node.list() else {
        return None;
    };
    let port = u16::try_from(port.integer()?).ok()?;
    let host = match (host.text().filter(|host| !host.is_empty()), asked) {
        (Some(host), _) => host.to_owned(),
        (None, Address::Tcp(host, _)) => host.clone(),
        (None, _) => return None,
    };
    Some(Address::Tcp(host, port))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    fn node(host: &str, port: i64) -> Reply {
        Reply::List(vec![Reply::Text(host.into()), Reply::Integer(port)])
    }

    fn range(first: i64, last: i64, nodes: Vec<Reply>) -> Reply {
        let ends = [Reply::Integer(first), Reply::Integer(last)];
        Reply::List(ends.into_iter().chain(nodes).collect())
    }

    #[test]
    fn members_are_told_by_the_slots() {
        let asked = Address::Tcp("here".into(), 1);
        let slots = Reply::List(vec![
            range(0, 99, vec![node("", 1), node("b", 2)]),
            range(100, 16_382, vec![node("c", 3)]),
        ]);
        let members = Members::of(&slots, &asked);
        assert_eq!(members.masters, [asked, Address::Tcp("c".into(), 3)]);
        assert_eq!(members.replicas, [Address::Tcp("b".into(), 2)]);
        let found = members.judge("cluster_state:ok\r\n");
        assert_eq!(found.status, Status::Failure);
        assert!(found.message.starts_with("1 of 16384 slots"));
    }

    #[test]
    fn a_cluster_that_has_failed_says_so() {
        let asked = Address::Tcp("here".into(), 1);
        let slots = Reply::List(vec![range(0, 16_383, vec![node("", 1)])]);
        let members = Members::of(&slots, &asked);
        assert_eq!(members.judge("").status, Status::Ok);
        assert_eq!(members.judge("cluster_state:ok\r\n").status, Status::Ok);
        assert_eq!(
            members.judge("cluster_state:fail\r\n").status,
            Status::Failure
        );
    }
}
