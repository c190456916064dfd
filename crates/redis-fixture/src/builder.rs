//! What a server is to be like, and its configuration.

use std::fmt::Write as _;
use std::path::Path;

use crate::client::Access;
use crate::cluster::HASTE;
use crate::ports::Port;
use crate::{Certificates, Server, until};

/// A server to be started.
///
/// ```
/// use redis_fixture::Server;
///
/// let server = Server::builder()
///     .config("maxmemory", "1mb")
///     .password("secret")
///     .start();
/// assert_eq!(server.command(&["PING"]).text(), "PONG");
/// ```
#[derive(Debug, Default)]
#[must_use]
pub struct ServerBuilder {
    pub(crate) kind: Kind,
    lines: String,
    password: Option<String>,
    default_user_off: bool,
    pub(crate) tls: Option<(Certificates, ClientCertificate)>,
    pub(crate) tls_only: bool,
    replicates: bool,
}

/// Whether a TLS server wants to see a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It asks for none.
    NotAsked,
    /// It refuses clients without one of its authority.
    Required,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Alone,
    Sentinel,
    ClusterNode,
}

/// Where a server listens.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) plain: Option<Port>,
    pub(crate) tls: Option<Port>,
}

/// The fixture's own user where the default user is off.
const ADMIN: &str = "redis-fixture";

impl ServerBuilder {
    /// Adds a line to the configuration: a directive and its arguments, as in
    /// `redis.conf`. It overrides what the fixture sets, which is no saving.
    pub fn config(mut self, name: &str, value: &str) -> Self {
        writeln!(self.lines, "{name} {value}").unwrap();
        self
    }

    /// Sets the password of the default user.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Adds a user with these ACL rules, as in `~lock:* &* +@all`.
    pub fn acl_user(self, name: &str, password: &str, rules: &str) -> Self {
        let password = quoted(&format!(">{password}"));
        self.config("user", &format!("{name} on {password} {rules}"))
    }

    /// Turns the default user off, so that clients must name one. The fixture
    /// adds a user of its own for [`Server::command`].
    pub fn without_default_user(mut self) -> Self {
        self.default_user_off = true;
        self
    }

    /// Opens a port for TLS beside the plain one.
    pub fn tls(mut self, certificates: &Certificates, client: ClientCertificate) -> Self {
        self.tls = Some((certificates.clone(), client));
        self
    }

    /// Opens no plain port. [`Server::command`] goes by a socket in the
    /// server's folder and works all the same.
    pub fn without_plain_port(mut self) -> Self {
        self.tls_only = true;
        self
    }

    /// Makes it a replica of another, of which it knows how to be let in.
    /// [`start`](Self::start) then waits until it has caught up.
    pub fn replica_of(mut self, master: &Server) -> Self {
        self.replicates = true;
        let builder = self.config("replicaof", &format!("127.0.0.1 {}", master.port()));
        match master.access() {
            Some(access) => builder.lets_itself_in(access),
            None => builder,
        }
    }

    /// Starts it, and waits until it answers.
    #[track_caller]
    pub fn start(self) -> Server {
        let server = self.launch();
        if self.replicates {
            until("the replica has caught up", || {
                server.info("master_link_status").as_deref() == Some("up")
            });
        }
        server
    }

    /// Starts it without waiting for its master.
    #[track_caller]
    pub(crate) fn launch(&self) -> Server {
        match self.try_launch() {
            Ok(server) => server,
            Err(log) => panic!("redis-server does not start:\n{log}"),
        }
    }

    /// The log, if it does not start.
    #[track_caller]
    pub(crate) fn try_launch(&self) -> Result<Server, String> {
        // Other programs than this fixture may take a port that was free.
        for _ in 0..20 {
            match Server::launch(self) {
                Err(log) if log.contains("Address already in use") => {}
                started => return started,
            }
        }
        panic!("redis-server finds no free port");
    }

    /// What it tells its master, now or when it has become a replica.
    pub(crate) fn lets_itself_in(self, access: &Access) -> Self {
        let builder = match &access.user {
            Some(user) => self.config("masteruser", user),
            None => self,
        };
        builder.config("masterauth", &quoted(&access.password))
    }

    /// How the fixture is let in.
    pub(crate) fn access(&self) -> Option<Access> {
        if self.default_user_off {
            let user = Some(ADMIN.to_owned());
            let password = ADMIN.to_owned();
            return Some(Access { user, password });
        }
        let password = self.password.clone()?;
        let user = None;
        Some(Access { user, password })
    }

    pub(crate) fn ports(&self) -> Ports {
        assert!(!self.tls_only || self.tls.is_some(), "no port at all");
        let port = || match self.kind {
            Kind::ClusterNode => Port::free_with_bus(),
            Kind::Alone | Kind::Sentinel => Port::free(),
        };
        Ports {
            plain: (!self.tls_only).then(port),
            tls: self.tls.as_ref().map(|_| port()),
        }
    }

    /// The text of `redis.conf`. Where a line is repeated, the last one holds.
    pub(crate) fn text(&self, ports: &Ports, folder: &Path, socket: &Path) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| writeln!(text, "{name} {value}").unwrap();
        let plain = ports.plain.as_ref().map_or(0, Port::number);
        line("bind", "127.0.0.1");
        line("port", &plain.to_string());
        line("unixsocket", &quoted_path(socket));
        line("daemonize", "no");
        line("dir", &quoted_path(folder));
        if self.kind != Kind::Sentinel {
            line("save", "\"\"");
            line("appendonly", "no");
            // A replica gets its copy at once.
            line("repl-diskless-sync-delay", "0");
        }
        if self.kind == Kind::ClusterNode {
            line("cluster-enabled", "yes");
            line("cluster-config-file", "nodes.conf");
            line("cluster-node-timeout", HASTE);
            // However old its copy is, a replica may take over.
            line("cluster-replica-validity-factor", "0");
            // None does so by itself until a master is killed.
            line("cluster-replica-no-failover", "yes");
        }
        if let (Some(port), Some((certificates, client))) = (&ports.tls, &self.tls) {
            line("tls-port", &port.number().to_string());
            line("tls-cert-file", &quoted_path(&certificates.server()));
            line("tls-key-file", &quoted_path(&certificates.server_key()));
            line("tls-ca-cert-file", &quoted_path(&certificates.authority()));
            line(
                "tls-auth-clients",
                match client {
                    ClientCertificate::NotAsked => "no",
                    ClientCertificate::Required => "yes",
                },
            );
            if self.kind == Kind::ClusterNode {
                line("tls-cluster", "yes");
                line("tls-replication", "yes");
                // The bus always asks who calls.
                line("tls-client-cert-file", &quoted_path(&certificates.client()));
                line(
                    "tls-client-key-file",
                    &quoted_path(&certificates.client_key()),
                );
            }
        }
        if let Some(password) = &self.password {
            line("requirepass", &quoted(password));
        }
        if self.default_user_off {
            assert!(self.password.is_none(), "a password of a user who is off");
            line("user", "default off");
            line("user", &format!("{ADMIN} on >{ADMIN} ~* &* +@all"));
        }
        text + &self.lines
    }
}

/// As one argument of a directive.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

fn quoted_path(path: &Path) -> String {
    quoted(path.to_str().expect("a path in UTF-8"))
}
