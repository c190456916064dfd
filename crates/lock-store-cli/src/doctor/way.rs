//! The way to one server, step by step: its name, its port, TLS, an answer, the
//! login.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use lock_store::RedisConfig;
use lock_store::diagnose::{Address, Deployment, NoReply, Session};
use rustls::{AlertDescription, CertificateError, Error};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use super::certificate;
use super::finding::Finding;
use super::tls::{Handshake, in_words, shake_hands};

/// To see whether the other side speaks TLS, or does not.
const PROBE: Duration = Duration::from_secs(3);

/// A step on the way, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Dns,
    Tcp,
    Tls,
    Certificate,
    ClientCertificate,
    Answer,
    Login,
}

impl Stage {
    pub(super) const ALL: [Self; 7] = [
        Self::Dns,
        Self::Tcp,
        Self::Tls,
        Self::Certificate,
        Self::ClientCertificate,
        Self::Answer,
        Self::Login,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Certificate => "certificate",
            Self::ClientCertificate => "client_certificate",
            Self::Answer => "answer",
            Self::Login => "login",
        }
    }
}

/// How far it went.
pub(super) struct Way<'d> {
    pub(super) address: Address,
    pub(super) stages: BTreeMap<Stage, Finding>,
    /// There if it was gone to the end.
    pub(super) session: Option<Session<'d>>,
}

/// What is looked at on the way.
pub(super) struct Guide<'d> {
    pub(super) deployment: &'d Deployment,
    pub(super) config: &'d RedisConfig,
}

impl<'d> Guide<'d> {
    pub(super) async fn walk(&self, address: &Address, sentinel: bool) -> Way<'d> {
        let mut way = Way {
            address: address.clone(),
            stages: BTreeMap::new(),
            session: None,
        };
        if self.reach(&mut way).await {
            way.session = self.talk(&mut way, sentinel).await;
        }
        way
    }

    fn limit(&self) -> Duration {
        self.deployment.timeout()
    }

    /// Name, port and TLS.
    async fn reach(&self, way: &mut Way<'_>) -> bool {
        let limit = self.limit();
        match way.address.clone() {
            Address::Tcp(host, port) => {
                way.put(Stage::Dns, dns(&host, port, limit).await)
                    && way.put(Stage::Tcp, tcp(&way.address, &host, port, limit).await)
                    && self.encrypt(way, &host, port).await
            }
            Address::Unix(path) => {
                let opened = timeout(limit, UnixStream::connect(&path)).await;
                let opened = opened.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
                way.put(Stage::Tcp, opened_port(&way.address, opened.map(drop)))
            }
            other => way.put(
                Stage::Dns,
                Finding::failure(
                    format!("{other} is of an unknown kind"),
                    "see lock_store.url",
                ),
            ),
        }
    }

    async fn encrypt(&self, way: &mut Way<'_>, host: &str, port: u16) -> bool {
        let at = way.address.to_string();
        if !self.deployment.uses_tls() {
            return way.put(Stage::Tls, Finding::ok(format!("{at}: not used")));
        }
        let hands = match shake_hands(Some(self.config), host, port, self.limit()).await {
            Ok(hands) => hands,
            Err(error) => {
                let remedy = "see lock_store.ssl_certfile, ssl_keyfile and ssl_ca_certs";
                let message = format!("the certificates given here cannot be used: {error}");
                return way.put(Stage::Tls, Finding::failure(message, remedy));
            }
        };
        if !hands.was_answered() {
            let answers = speaks_plainly(host, port, PROBE.min(self.limit())).await;
            return way.put(Stage::Tls, no_handshake(&at, &hands, answers));
        }
        let mut goes_on = way.put(Stage::Tls, handshake(&at, host, &hands));
        if !hands.chain.is_empty() {
            goes_on &= way.put(
                Stage::Certificate,
                certificate::of_server(&hands.chain, &at),
            );
        }
        if let Some(finding) = self.client_certificate(&at, &hands) {
            goes_on &= way.put(Stage::ClientCertificate, finding);
        }
        goes_on
    }

    fn client_certificate(&self, at: &str, hands: &Handshake) -> Option<Finding> {
        let given = self.config.ssl_certfile.as_deref();
        if refuses_us(hands) {
            let refused = match given {
                Some(_) => "does not accept the certificate of this client",
                None => "wants a certificate of this client",
            };
            return Some(Finding::failure(
                format!("Redis at {at} {refused}"),
                "set lock_store.ssl_certfile and ssl_keyfile to one of an authority that it knows",
            ));
        }
        given.map(certificate::of_client)
    }

    /// An answer, and the login.
    async fn talk(&self, way: &mut Way<'_>, sentinel: bool) -> Option<Session<'d>> {
        let at = way.address.clone();
        let answer = match self.deployment.open(&at).await {
            Ok(session) => session.ask(&["PING"]).await.map(|reply| (session, reply)),
            Err(error) => Err(error),
        };
        let (session, reply) = match answer {
            Ok(answered) => answered,
            Err(error) => {
                let hides = matches!(error, NoReply::HungUp | NoReply::TimedOut);
                if hides && self.speaks_tls(&at).await {
                    way.stages.insert(Stage::Tls, speaks_tls(&at));
                } else {
                    way.put(Stage::Answer, silence(&at, &error, self.limit()));
                }
                return None;
            }
        };
        if !way.put(Stage::Answer, answered(&at, reply.error())) {
            return None;
        }
        let is_open = reply.error().is_none();
        let (session, login) = self.log_in(session, &at, sentinel, is_open).await;
        way.put(Stage::Login, login).then_some(session)
    }

    async fn speaks_tls(&self, at: &Address) -> bool {
        let Address::Tcp(host, port) = at else {
            return false;
        };
        if self.deployment.uses_tls() {
            return false;
        }
        let hands = shake_hands(None, host, *port, PROBE.min(self.limit())).await;
        hands.is_ok_and(|hands| hands.was_answered())
    }

    async fn log_in(
        &self,
        session: Session<'d>,
        at: &Address,
        sentinel: bool,
        is_open: bool,
    ) -> (Session<'d>, Finding) {
        const SEE: &str = "set lock_store.username and lock_store.password right; is the user on?";
        let reply = match session.log_in().await {
            Ok(reply) => reply,
            Err(error) => return (session, silence(at, &error, self.limit())),
        };
        if let Some(refusal) = reply.error() {
            // A sentinel has users of its own, and often none.
            if sentinel && is_open {
                return (session, Finding::ok(format!("{at} lets everybody in")));
            }
            let message =
                if refusal.starts_with("WRONGPASS") || refusal.contains("invalid username") {
                    format!("Redis at {at} refused the user name or the password")
                } else {
                    format!("Redis at {at} refused the login: {refusal}")
                };
            return (session, Finding::failure(message, SEE));
        }
        let db = self.deployment.db().to_string();
        let mut checks: Vec<&[&str]> = vec![&["PING"]];
        let select = ["SELECT", &db];
        // As the store does: 0 is where one is anyway.
        if !sentinel && db != "0" {
            checks.push(&select);
        }
        for words in checks {
            let finding = match session.ask(words).await {
                Err(error) => Some(silence(at, &error, self.limit())),
                Ok(reply) => reply.error().and_then(|refusal| refused(at, refusal, &db)),
            };
            if let Some(finding) = finding {
                return (session, finding);
            }
        }
        let finding = match (is_open, self.deployment.has_password()) {
            (true, false) => Finding::ok(format!("{at} lets everybody in, without a password")),
            (true, true) => Finding::ok(format!("{at} accepts the password, and needs none")),
            (false, _) => Finding::ok(format!("{at} accepts the user and the password")),
        };
        (session, finding)
    }
}

impl Way<'_> {
    /// Says whether it can go on.
    fn put(&mut self, stage: Stage, finding: Finding) -> bool {
        let goes_on = !finding.is_failure();
        self.stages.insert(stage, finding);
        goes_on
    }

    pub(super) fn is_gone_to_the_end(&self) -> bool {
        self.session.is_some()
    }
}

async fn dns(host: &str, port: u16, limit: Duration) -> Finding {
    const SEE: &str = "is the name right (lock_store.url, host or endpoints), and does this \
                       machine's resolver know it?";
    if host.parse::<IpAddr>().is_ok() {
        return Finding::ok(format!("{host} is an address"));
    }
    match timeout(limit, lookup_host((host, port))).await {
        Err(_) => Finding::failure(format!("{host}: no answer in time"), SEE),
        Ok(Err(error)) => Finding::failure(format!("{host} is not found: {error}"), SEE),
        Ok(Ok(found)) => {
            let mut found: Vec<_> = found.map(|address| address.ip().to_string()).collect();
            found.dedup();
            Finding::ok(format!("{host} is {}", found.join(", ")))
        }
    }
}

async fn tcp(at: &Address, host: &str, port: u16, limit: Duration) -> Finding {
    let opened = timeout(limit, TcpStream::connect((host, port))).await;
    let opened = opened.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
    opened_port(at, opened.map(drop))
}

fn opened_port(at: &Address, opened: io::Result<()>) -> Finding {
    match opened {
        Ok(()) => Finding::ok(format!("{at} takes connections")),
        Err(error) if matches!(at, Address::Unix(_)) => Finding::failure(
            format!("{at}: {}", error.kind()),
            "is Redis running, with this `unixsocket`, and may this user open it (`unixsocketperm`)?",
        ),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Finding::failure(
            format!("nothing listens at {at}: connection refused"),
            "is Redis running, is the port right, and does it listen on that address (`bind` in \
             redis.conf)?",
        ),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Finding::failure(
            format!("{at} cannot be reached: no answer in time"),
            "does a firewall or a network policy drop what goes there?",
        ),
        Err(error) => Finding::failure(
            format!("{at} cannot be reached: {error}"),
            "is the address right (lock_store.url, host, port or endpoints)?",
        ),
    }
}

/// Whether anything of a Redis is heard without TLS.
async fn speaks_plainly(host: &str, port: u16, limit: Duration) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let talk = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut first = [0];
        stream.read_exact(&mut first).await?;
        io::Result::Ok(matches!(first, [b'+' | b'-']))
    };
    matches!(timeout(limit, talk).await, Ok(Ok(true)))
}

fn no_handshake(at: &str, hands: &Handshake, answers_plainly: bool) -> Finding {
    if answers_plainly {
        return Finding::failure(
            format!("Redis at {at} does not speak TLS"),
            "set lock_store.use_ssl: false, or use a redis:// URL; or give Redis a tls-port",
        );
    }
    let why = match &hands.outcome {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        Err(error) => in_words(error),
        Ok(()) => "no certificate was shown".to_owned(),
    };
    Finding::failure(
        format!("{at} does not shake hands: {why}"),
        "is it a Redis, at its tls-port?",
    )
}

fn speaks_tls(at: &Address) -> Finding {
    Finding::failure(
        format!("Redis at {at} speaks TLS, and is spoken to without"),
        "set lock_store.use_ssl: true, or use a rediss:// URL",
    )
}

fn refuses_us(hands: &Handshake) -> bool {
    use AlertDescription::{
        AccessDenied, BadCertificate, CertificateExpired, CertificateRequired, CertificateUnknown,
        HandshakeFailure, UnknownCA, UnsupportedCertificate,
    };
    // Alerts are of the other side; what is found here is in the verdict.
    hands.verdict.is_ok()
        && matches!(
            hands.alert(),
            Some(Error::AlertReceived(
                AccessDenied
                    | BadCertificate
                    | CertificateExpired
                    | CertificateRequired
                    | CertificateUnknown
                    | HandshakeFailure
                    | UnknownCA
                    | UnsupportedCertificate
            ))
        )
}

fn handshake(at: &str, host: &str, hands: &Handshake) -> Finding {
    use CertificateError::{NotValidForName, NotValidForNameContext, UnknownIssuer};
    let Some(shown) = hands.chain.first() else {
        return Finding::failure(
            format!("{at} refuses to speak TLS with us: {:?}", hands.alert()),
            "do both sides have a version and a cipher suite in common (TLS 1.2 or 1.3)?",
        );
    };
    let names = certificate::names(shown).join(", ");
    match &hands.verdict {
        Ok(()) => Finding::ok(format!("{at} is trusted; its certificate is for {names}")),
        // That is told by `certificate`.
        Err(_) if hands.is_out_of_date() => Finding::ok(format!("{at} speaks TLS, for {names}")),
        Err(Error::InvalidCertificate(UnknownIssuer)) => Finding::failure(
            format!(
                "the certificate of {at} comes from an authority that is not known here: {}",
                certificate::issuer(shown)
            ),
            "set lock_store.ssl_ca_certs to the PEM file of that authority",
        ),
        Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
            Finding::failure(
                format!("the certificate of {at} is not for {host}; it is for {names}"),
                "give one of these names as lock_store.url or host (or in endpoints), or renew \
                 the certificate with this name in it",
            )
        }
        Err(error) => Finding::failure(
            format!("the certificate of {at} is not trusted: {error}"),
            "renew the server's certificate, or see lock_store.ssl_ca_certs",
        ),
    }
}

/// Whether what answers is a Redis at work; an error may be an answer, too.
fn answered(at: &Address, error: Option<&str>) -> Finding {
    let Some(error) = error else {
        return Finding::ok(format!("{at} answers"));
    };
    let (code, _) = error.split_once(' ').unwrap_or((error, ""));
    match code {
        "LOADING" => Finding::failure(
            format!("Redis at {at} is loading its data"),
            "wait until it is done; the store waits, too",
        ),
        "MASTERDOWN" => Finding::failure(
            format!("Redis at {at} is a replica that has lost its master"),
            "name the master, or set deployment_mode: sentinel",
        ),
        "DENIED" => Finding::failure(
            format!(
                "Redis at {at} is in protected mode, and takes connections of its own machine only"
            ),
            "give it a password (requirepass, or ACL users) and `protected-mode no`",
        ),
        "BUSY" => Finding::failure(
            format!("Redis at {at} runs a script that does not end"),
            "look at SLOWLOG and CLIENT LIST, and end it with SCRIPT KILL",
        ),
        "ERR" if error.contains("max number of clients") => Finding::failure(
            format!("Redis at {at} has as many clients as it may"),
            "raise maxclients, or see who opens so many connections with CLIENT LIST",
        ),
        _ => Finding::ok(format!("{at} answers")),
    }
}

pub(super) fn silence(at: &Address, error: &NoReply, limit: Duration) -> Finding {
    match error {
        NoReply::TimedOut => Finding::failure(
            format!(
                "{at} takes connections, and does not answer within {}",
                super::settings::text(limit)
            ),
            "is it frozen or overloaded, is it a Redis at all, and is socket_timeout (or \
             --timeout) long enough?",
        ),
        NoReply::HungUp => Finding::failure(
            format!("{at} hung up instead of answering"),
            "is it a Redis? see lock_store.url or host, and lock_store.port",
        ),
        NoReply::Nonsense => Finding::failure(
            format!("what answers at {at} is no Redis"),
            "see lock_store.url or host, and lock_store.port",
        ),
        other => Finding::failure(
            format!("{at} cannot be asked: {other}"),
            "see lock_store.url or host, and lock_store.port",
        ),
    }
}

/// What a login is worth that is refused the simplest things.
fn refused(at: &Address, refusal: &str, db: &str) -> Option<Finding> {
    if refusal.starts_with("NOAUTH") {
        return Some(Finding::failure(
            format!("Redis at {at} wants a password"),
            "set lock_store.password, and lock_store.username if it has ACL users",
        ));
    }
    if refusal.contains("DB index") {
        return Some(Finding::failure(
            format!("Redis at {at} has no database {db}"),
            "set lock_store.db to a lower number, or raise `databases` in redis.conf",
        ));
    }
    // Missing rights are told all together, and wrong kinds of servers by `role`.
    None
}
