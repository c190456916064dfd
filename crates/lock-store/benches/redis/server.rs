//! The server's own figures.

use std::cell::RefCell;
use std::fs;

use redis_fixture::{Connection, Server};

/// The server under measurement, asked over a connection of its own.
pub(crate) struct Watched {
    server: Server,
    connection: RefCell<Connection>,
}

/// What the server did of one command.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Done {
    pub(crate) calls: f64,
    pub(crate) micros: f64,
}

impl Done {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            calls: self.calls - earlier.calls,
            micros: self.micros - earlier.micros,
        }
    }

    pub(crate) fn micros_each(self) -> f64 {
        self.micros / self.calls
    }
}

impl Watched {
    pub(crate) fn start() -> Self {
        let server = Server::start();
        let connection = RefCell::new(server.connect().unwrap());
        Self { server, connection }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    pub(crate) fn product(&self) -> String {
        self.server.product()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> redis_fixture::Reply {
        self.connection.borrow_mut().command(arguments).unwrap()
    }

    /// What `INFO` says of a command, from `CONFIG RESETSTAT` on.
    pub(crate) fn done(&self, command: &str) -> Done {
        let Some(line) = self.info("commandstats", &format!("cmdstat_{command}")) else {
            return Done::default();
        };
        let number = |name: &str| {
            let mut fields = line.split(',').filter_map(|field| field.split_once('='));
            let (_, value) = fields.find(|(found, _)| *found == name).unwrap();
            value.parse().unwrap()
        };
        Done {
            calls: number("calls"),
            micros: number("usec"),
        }
    }

    /// Commands that were done so far, this one not included.
    pub(crate) fn commands(&self) -> f64 {
        let commands = self.info("stats", "total_commands_processed");
        commands.unwrap().parse().unwrap()
    }

    pub(crate) fn used_memory(&self) -> f64 {
        self.info("memory", "used_memory").unwrap().parse().unwrap()
    }

    /// Keys in all databases.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for db in ["0", "1"] {
            self.command(&["SELECT", db]).ok();
            keys.extend(self.command(&["KEYS", "*"]).texts());
        }
        self.command(&["SELECT", "0"]).ok();
        keys
    }

    /// Microseconds that the server was computing, where Linux tells.
    pub(crate) fn cpu(&self) -> Option<f64> {
        cpu_of(&self.server.pid().to_string())
    }

    fn info(&self, section: &str, field: &str) -> Option<String> {
        let text = self.command(&["INFO", section]).text();
        let mut fields = text.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = fields.find(|(name, _)| *name == field)?;
        Some(value.to_owned())
    }
}

/// Microseconds that this process was computing, where Linux tells.
pub(crate) fn own_cpu() -> Option<f64> {
    cpu_of("self")
}

fn cpu_of(process: &str) -> Option<f64> {
    let mut nanos = 0.0;
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()? {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanos += text.split(' ').next()?.parse::<f64>().ok()?;
    }
    Some(nanos / 1e3)
}
