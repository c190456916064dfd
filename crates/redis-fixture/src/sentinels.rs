//! A master and its replicas, watched by sentinels.

use crate::builder::{Kind, quoted};
use crate::client::Access;
use crate::{Reply, Server, ServerBuilder, until, until_some};

/// The name of the master among the sentinels.
const NAME: &str = "mymaster";

/// For how many ms the master may be silent until it is taken for dead: on a
/// busy machine, one that lives is silent for seconds.
const PATIENCE: &str = "30000";

/// The same as soon as it is killed or frozen.
const HASTE: &str = "1000";

/// A master with two replicas, and three sentinels of which two must agree
/// that it is down. They notice that after half a minute, and after about a
/// second from the first time on that a master is [killed] or [frozen].
///
/// [killed]: Self::kill_master
/// [frozen]: Self::freeze_master
///
/// ```
/// use redis_fixture::Sentinels;
///
/// let sentinels = Sentinels::start();
/// let old = sentinels.current_master_port();
/// sentinels.kill_master();
/// let new = sentinels.wait_for_new_master(old);
/// assert_ne!(new.port(), old);
/// ```
#[derive(Debug)]
pub struct Sentinels {
    sentinels: Vec<Server>,
    data: Vec<Server>,
}

/// Sentinels to be started.
#[derive(Debug, Default)]
#[must_use]
pub struct SentinelsBuilder {
    password: Option<String>,
    sentinel_password: Option<String>,
}

impl SentinelsBuilder {
    /// Sets the password of the master and the replicas.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Sets the password of the sentinels.
    pub fn sentinel_password(mut self, password: &str) -> Self {
        self.sentinel_password = Some(password.to_owned());
        self
    }

    /// Starts all, and waits until they know each other.
    #[track_caller]
    pub fn start(self) -> Sentinels {
        let master = self.data().launch();
        let replica = || self.data().replica_of(&master).launch();
        let data = vec![replica(), replica(), master];
        // First the replicas: of later ones, sentinels learn late.
        until("the replicas are online", || {
            let replication = data[2].command(&["INFO", "replication"]).text();
            replication.matches("state=online").count() == 2
        });
        let sentinel = || self.sentinel(data[2].port()).launch();
        let sentinels = Sentinels {
            sentinels: vec![sentinel(), sentinel(), sentinel()],
            data,
        };
        for sentinel in &sentinels.sentinels {
            hurry(sentinel);
        }
        sentinels.wait_until_settled();
        sentinels
    }

    fn data(&self) -> ServerBuilder {
        let builder = Server::builder();
        let Some(password) = &self.password else {
            return builder;
        };
        // The master may become a replica.
        builder.password(password).lets_itself_in(&Access {
            user: None,
            password: password.clone(),
        })
    }

    fn sentinel(&self, master: u16) -> ServerBuilder {
        let mut builder = Server::builder();
        builder.kind = Kind::Sentinel;
        let mut set = vec![
            format!("monitor {NAME} 127.0.0.1 {master} 2"),
            format!("down-after-milliseconds {NAME} {PATIENCE}"),
            format!("failover-timeout {NAME} 5000"),
            format!("parallel-syncs {NAME} 2"),
        ];
        if let Some(password) = &self.password {
            set.push(format!("auth-pass {NAME} {}", quoted(password)));
        }
        for line in set {
            builder = builder.config("sentinel", &line);
        }
        match &self.sentinel_password {
            Some(password) => builder.password(password),
            None => builder,
        }
    }
}

impl Sentinels {
    /// Starts all without passwords, and waits until they know each other.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Some to be started, with options.
    pub fn builder() -> SentinelsBuilder {
        SentinelsBuilder::default()
    }

    /// The name of the master among the sentinels.
    pub fn master_name(&self) -> &'static str {
        NAME
    }

    /// The sentinels.
    pub fn sentinels(&self) -> &[Server] {
        &self.sentinels
    }

    /// `127.0.0.1:port` of each sentinel.
    pub fn sentinel_addresses(&self) -> Vec<String> {
        self.sentinels.iter().map(Server::address).collect()
    }

    /// The current master, as the sentinels say, be it up or down.
    #[track_caller]
    pub fn master(&self) -> &Server {
        self.of_port(self.current_master_port())
    }

    /// The servers that are not the current master.
    #[track_caller]
    pub fn replicas(&self) -> Vec<&Server> {
        let master = self.current_master_port();
        let is_replica = |server: &&Server| server.port() != master;
        self.data.iter().filter(is_replica).collect()
    }

    /// The port of the current master, as the first sentinel that answers says.
    #[track_caller]
    pub fn current_master_port(&self) -> u16 {
        until_some("a sentinel knows the master", || {
            self.sentinels.iter().find_map(view)
        })
        .port
    }

    /// Lets the sentinels make a replica the master, and waits for
    /// [that](Self::wait_for_new_master).
    #[track_caller]
    pub fn failover(&self) -> &Server {
        let old = self.current_master_port();
        until("a failover", || {
            let sentinel = self.awake_sentinels().next();
            let sentinel = sentinel.expect("a sentinel that is up");
            let Some(view) = view(sentinel) else {
                return false;
            };
            if view.port == old && !view.flags.contains("failover_in_progress") {
                // Where it cannot yet, or was given up, it is asked again.
                let _ = sentinel.try_command(&["SENTINEL", "FAILOVER", NAME]);
            }
            view.port != old
        });
        self.wait_for_new_master(old)
    }

    /// Kills the current master and returns it. The sentinels still have to
    /// notice.
    #[track_caller]
    pub fn kill_master(&self) -> &Server {
        let master = self.master();
        self.notice_soon();
        master.kill();
        master
    }

    /// Freezes the current master and returns it. The sentinels still have to
    /// notice.
    #[track_caller]
    pub fn freeze_master(&self) -> &Server {
        let master = self.master();
        self.notice_soon();
        master.freeze();
        master
    }

    #[track_caller]
    fn notice_soon(&self) {
        for sentinel in self.awake_sentinels() {
            let command = ["SENTINEL", "SET", NAME, "down-after-milliseconds", HASTE];
            sentinel.command(&command).ok();
        }
    }

    /// Waits until another than `old` is the master, every sentinel says so,
    /// and every other server is its replica, without those that are down or
    /// frozen.
    #[track_caller]
    pub fn wait_for_new_master(&self, old: u16) -> &Server {
        until("a new master", || {
            self.awake_sentinels()
                .all(|sentinel| view(sentinel).is_some_and(|view| view.port != old))
        });
        self.wait_until_settled();
        self.master()
    }

    /// Waits until all agree on the master, and every sentinel knows two
    /// replicas and two others, without asking those that are down or frozen.
    #[track_caller]
    pub fn wait_until_settled(&self) {
        until("master, replicas and sentinels agree", || {
            let master = self.current_master_port();
            self.awake_sentinels().all(|sentinel| {
                view(sentinel).is_some_and(|view| {
                    view.port == master && view.flags == "master" && view.is_complete
                }) && self.sees_replicas(sentinel)
            }) && self
                .data
                .iter()
                .filter(|server| server.is_awake())
                .all(|server| match role(server) {
                    Some(Role::Master) => server.port() == master,
                    Some(Role::ReplicaOf(port)) => port == master,
                    None => false,
                })
        });
    }

    /// Whether it has reached every replica that is up.
    fn sees_replicas(&self, sentinel: &Server) -> bool {
        let Some(reply) = sentinel.look(&["SENTINEL", "REPLICAS", NAME]) else {
            return false;
        };
        let seen: Vec<_> = reply
            .list()
            .into_iter()
            .filter(|replica| text(replica, "flags") == "slave")
            .filter(|replica| text(replica, "master-link-status") == "ok")
            .map(|replica| text(&replica, "port"))
            .collect();
        self.replicas()
            .into_iter()
            .filter(|replica| replica.is_awake())
            .all(|replica| seen.contains(&replica.port().to_string()))
    }

    fn awake_sentinels(&self) -> impl Iterator<Item = &Server> {
        self.sentinels.iter().filter(|server| server.is_awake())
    }

    #[track_caller]
    fn of_port(&self, port: u16) -> &Server {
        let mut data = self.data.iter();
        data.find(|server| server.port() == port)
            .expect("a server of this fixture")
    }
}

/// What a sentinel thinks of the master.
struct View {
    port: u16,
    flags: String,
    /// Whether it knows everyone.
    is_complete: bool,
}

enum Role {
    Master,
    /// Of the master at this port, in touch with it.
    ReplicaOf(u16),
}

fn view(sentinel: &Server) -> Option<View> {
    let reply = sentinel.look(&["SENTINEL", "MASTER", NAME])?;
    Some(View {
        port: text(&reply, "port").parse().ok()?,
        flags: text(&reply, "flags"),
        is_complete: ["num-slaves", "num-other-sentinels"]
            .iter()
            .all(|count| text(&reply, count) == "2"),
    })
}

fn role(server: &Server) -> Option<Role> {
    let reply = server.look(&["ROLE"])?.list();
    if reply[0] == "master" {
        return Some(Role::Master);
    }
    let port = reply[2].clone().integer();
    (reply[3] == "connected").then(|| Role::ReplicaOf(u16::try_from(port).unwrap()))
}

fn text(reply: &Reply, field: &str) -> String {
    let value = reply.clone().field(field);
    value.map(Reply::text).unwrap_or_default()
}

/// Lets it talk and ask more often, and recover soon from being starved of
/// the processor, where it can (from 7.0). What it decides stays the same.
fn hurry(sentinel: &Server) {
    let periods = ["publish-period", "500", "info-period", "1000"];
    let tilt = ["tilt-period", "5000"];
    let command = [&["SENTINEL", "DEBUG"], &periods[..], &tilt].concat();
    let _ = sentinel.command(&command);
}
