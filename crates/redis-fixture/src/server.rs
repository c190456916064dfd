//! One server, running.

use std::io;
use std::time::Duration;

use crate::builder::{Kind, Ports, ServerBuilder};
use crate::client::{Access, Connection};
use crate::process::Process;
use crate::{Certificates, ClientCertificate, FOR_EVER, Reply, Version, until};

/// How long a server may take to answer where not answering is normal.
const SOON: Duration = Duration::from_secs(2);

/// A Redis server on ports of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    ports: Ports,
    access: Option<Access>,
    kind: Kind,
    /// Read at each start.
    _certificates: Option<Certificates>,
}

impl Server {
    /// Starts one as it comes, without persistence.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// One to be started, with options.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// The log, if it does not start.
    #[track_caller]
    pub(crate) fn launch(builder: &ServerBuilder) -> Result<Self, String> {
        let server = Self {
            process: Process::new(builder.kind == Kind::Sentinel),
            ports: builder.ports(),
            access: builder.access(),
            kind: builder.kind,
            _certificates: builder.tls.as_ref().map(|(files, _)| files.clone()),
        };
        let Self { process, ports, .. } = &server;
        process.write_config(&builder.text(ports, &process.folder(), &process.socket()));
        server.begin()?;
        Ok(server)
    }

    /// The plain port.
    #[track_caller]
    pub fn port(&self) -> u16 {
        let port = self.ports.plain.as_ref();
        port.expect("a plain port").number()
    }

    /// The port for TLS.
    #[track_caller]
    pub fn tls_port(&self) -> u16 {
        let port = self.ports.tls.as_ref();
        port.expect("a port for TLS").number()
    }

    /// The port by which the other nodes of a cluster know it: that for TLS, if
    /// it has one.
    #[track_caller]
    pub(crate) fn node_port(&self) -> u16 {
        let port = self.ports.tls.as_ref().or(self.ports.plain.as_ref());
        port.expect("a port").number()
    }

    /// `127.0.0.1:port`.
    #[track_caller]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// `redis://127.0.0.1:port/0`, without user or password.
    #[track_caller]
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address())
    }

    /// `rediss://127.0.0.1:port/0`, without user or password.
    #[track_caller]
    pub fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}/0", self.tls_port())
    }

    /// `unix://path`, for every server has a socket as well.
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.process.socket().display())
    }

    /// The id of its process, which must not have ended.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether its process has not ended. A frozen one has not.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Sends a command on a connection of its own, as a user who may do
    /// everything, and returns the reply, be it an error. What belongs to a
    /// connection, as `MULTI` or `WAIT`, needs [`connect`](Self::connect).
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Reply {
        self.ask(arguments, FOR_EVER)
            .unwrap_or_else(|error| panic!("no reply to {arguments:?}: {error}"))
    }

    /// The same for a server that may be down, or frozen: no reply within two
    /// seconds is an error.
    pub fn try_command(&self, arguments: &[&str]) -> io::Result<Reply> {
        self.ask(arguments, SOON)
    }

    /// A connection which is let in, by the socket of the server.
    pub fn connect(&self) -> io::Result<Connection> {
        self.connect_within(FOR_EVER)
    }

    /// A field of `INFO`, if there is such.
    #[track_caller]
    pub fn info(&self, field: &str) -> Option<String> {
        field_of(&self.command(&["INFO"]).text(), field)
    }

    /// The addresses of the clients of a type: `normal`, `pubsub` or `replica`.
    #[track_caller]
    pub fn client_addresses(&self, of_type: &str) -> Vec<String> {
        let list = self.command(&["CLIENT", "LIST", "TYPE", of_type]).text();
        let fields = list.lines().flat_map(|line| line.split(' '));
        let addresses = fields.filter_map(|field| field.strip_prefix("addr="));
        addresses.map(str::to_owned).collect()
    }

    /// The version of Redis. Valkey tells the one with which it is compatible.
    #[track_caller]
    pub fn version(&self) -> Version {
        let text = self.info("redis_version").expect("a version");
        Version::parse(&text).expect("a version of three numbers")
    }

    /// The name and the version of what runs, as in `valkey 8.1.1`.
    #[track_caller]
    pub fn product(&self) -> String {
        match self.info("valkey_version") {
            Some(version) => format!("valkey {version}"),
            None => format!("redis {}", self.version()),
        }
    }

    /// Whether it has this command, as `spublish` from 7.0.
    #[track_caller]
    pub fn supports_command(&self, name: &str) -> bool {
        let reply = self.command(&["COMMAND", "INFO", name]).list();
        !matches!(reply.as_slice(), [Reply::Nil] | [])
    }

    /// Whether it has this directive, as `shutdown-timeout` from 7.0.
    #[track_caller]
    pub fn supports_config(&self, name: &str) -> bool {
        !self.command(&["CONFIG", "GET", name]).list().is_empty()
    }

    /// Whether the binary was built with TLS.
    #[track_caller]
    pub fn supports_tls() -> bool {
        let certificates = Certificates::new();
        let builder = Self::builder().tls(&certificates, ClientCertificate::NotAsked);
        match builder.try_launch() {
            Ok(_) => true,
            Err(log) if log.contains("Failed finding TLS support") => false,
            // Until 7.0, it has no such directives then.
            Err(log) if log.contains("Bad directive") => false,
            Err(log) => panic!("redis-server does not start:\n{log}"),
        }
    }

    /// Ends it at once (`SIGKILL`), and waits for that.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Ends it in an orderly way (`SIGTERM`), and waits for that.
    #[track_caller]
    pub fn stop(&self) {
        self.process.stop();
    }

    /// Starts it again at the same ports, with its data: one that runs saves
    /// them and is stopped first; one that was killed has what it had saved.
    #[track_caller]
    pub fn restart(&self) {
        if self.is_running() {
            if self.kind != Kind::Sentinel {
                self.thaw();
                // It does not while it saves already, as for a replica.
                until("the data are saved", || self.command(&["SAVE"]).is_ok());
            }
            self.stop();
        }
        self.begin_again();
    }

    /// Ends it if it runs, and starts it again at the same ports, without data.
    /// A node of a cluster remembers the others.
    #[track_caller]
    pub fn restart_empty(&self) {
        assert!(self.kind != Kind::Sentinel, "a sentinel has no data");
        self.kill();
        self.process.forget();
        self.begin_again();
    }

    /// Stops it where it is (`SIGSTOP`): it does nothing, and its connections
    /// stay open.
    #[track_caller]
    pub fn freeze(&self) {
        self.process.freeze();
    }

    /// Lets a frozen one go on (`SIGCONT`).
    #[track_caller]
    pub fn thaw(&self) {
        self.process.thaw();
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    pub(crate) fn access(&self) -> Option<&Access> {
        self.access.as_ref()
    }

    /// Whether it runs and is not frozen.
    pub(crate) fn is_awake(&self) -> bool {
        self.process.is_awake()
    }

    /// The reply, if there is one and no error, as while it is loading.
    pub(crate) fn look(&self, arguments: &[&str]) -> Option<Reply> {
        if !self.is_awake() {
            return None;
        }
        let reply = self.try_command(arguments).ok()?;
        (!reply.is_error("")).then_some(reply)
    }

    /// As [`command`](Self::command), with arguments of any bytes.
    pub(crate) fn ask(&self, arguments: &[impl AsRef<[u8]>], limit: Duration) -> io::Result<Reply> {
        self.connect_within(limit)?.command(arguments)
    }

    fn connect_within(&self, limit: Duration) -> io::Result<Connection> {
        let mut connection = Connection::unix_within(&self.process.socket(), limit)?;
        if let Some(access) = &self.access {
            let reply = connection.authenticate(access)?;
            if let Reply::Error(message) = reply {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
            }
        }
        Ok(connection)
    }

    #[track_caller]
    fn begin_again(&self) {
        if let Err(log) = self.begin() {
            panic!("redis-server does not start again:\n{log}");
        }
    }

    /// Starts the process and waits until it answers, or returns its log.
    #[track_caller]
    fn begin(&self) -> Result<(), String> {
        self.process.start();
        let mut ended = false;
        until("the server answers", || {
            ended = !self.is_running();
            ended || self.answers()
        });
        if ended { Err(self.log()) } else { Ok(()) }
    }

    /// It does so only once all its ports are open.
    fn answers(&self) -> bool {
        match self.try_command(&["PING"]) {
            Ok(reply) => !reply.is_error("LOADING"),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                panic!("the fixture is not let in: {error}")
            }
            Err(_) => false,
        }
    }
}

/// A field of a text of `name:value` lines.
pub(crate) fn field_of(text: &str, field: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == field)
        .map(|(_, value)| value.to_owned())
}
