//! What the user typed, checked and ready to run.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use lock_store::{LockStore, LockStoreConfig};

use crate::args::ProcessArgs;
use crate::connection;
use crate::log::Log;
use crate::patient::Patient;
use crate::process::handler::{Command, Handler, Post};

/// A server that has not answered for as long as Rasa's lock would be held.
const POST_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything that `process` needs.
pub(crate) struct Settings {
    pub(crate) source: Source,
    pub(crate) store: LockStore,
    pub(crate) tickets: TicketOptions,
    pub(crate) handler: Handler,
    pub(crate) id_field: String,
    pub(crate) concurrency: usize,
    pub(crate) read_ahead: usize,
    pub(crate) quiet: bool,
}

/// Where the messages come from.
pub(crate) struct Source {
    /// For what is said about it.
    pub(crate) name: String,
    /// How many bytes it has, if that is known.
    pub(crate) bytes: Option<u64>,
    pub(crate) reader: Box<dyn Read + Send>,
}

/// How tickets are taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TicketOptions {
    pub(crate) lifetime: Duration,
    pub(crate) wait_timeout: Duration,
    pub(crate) keep_alive: bool,
}

impl TicketOptions {
    /// How long whoever waits since then may go on waiting.
    pub(crate) fn wait_left(&self, since: Instant) -> Duration {
        self.wait_timeout.saturating_sub(since.elapsed())
    }
}

impl Settings {
    pub(crate) async fn new(args: ProcessArgs, log: &Log) -> anyhow::Result<Self> {
        let handler = handler(args.command, args.post, args.timeout)?;
        let mut config = connection::config(&args.connection)?;
        if let Some(lifetime) = args.lifetime {
            config.timing.lock_lifetime = lifetime;
        }
        Ok(Self {
            source: Source::open(args.file)?,
            store: store(&config, log).await?,
            tickets: TicketOptions {
                lifetime: config.timing.lock_lifetime,
                wait_timeout: args.wait_timeout.unwrap_or(Duration::MAX),
                keep_alive: args.keep_alive,
            },
            handler,
            id_field: args.id_field,
            concurrency: args.concurrency as usize,
            read_ahead: args.read_ahead as usize,
            quiet: args.quiet,
        })
    }
}

fn handler(
    command: Vec<std::ffi::OsString>,
    post: Option<String>,
    timeout: Option<Duration>,
) -> anyhow::Result<Handler> {
    if let Some(url) = post {
        let timeout = timeout.unwrap_or(POST_TIMEOUT);
        return Ok(Handler::Post(Post::to(&url, timeout)?));
    }
    let mut words = command.into_iter();
    let Some(program) = words.next() else {
        if timeout.is_some() {
            bail!("--timeout needs something that takes time: give --post URL or -- COMMAND");
        }
        return Ok(Handler::Echo);
    };
    Ok(Handler::Command(Command::find(
        &program,
        words.collect(),
        timeout,
    )?))
}

async fn store(config: &LockStoreConfig, log: &Log) -> anyhow::Result<LockStore> {
    let held = log.hold();
    let store = LockStore::create(config).await?;
    held.show();
    Ok(store)
}

impl Source {
    fn open(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let stdin = io::stdin();
        let path = match path {
            None if stdin.is_terminal() => bail!(
                "nothing to read: name a file with messages, or `-` to type them in; \
                 see lock-store process --help"
            ),
            None => PathBuf::from("-"),
            Some(path) => path,
        };
        if path.as_os_str() == "-" {
            return Ok(Self {
                name: "standard input".into(),
                bytes: None,
                reader: Box::new(Patient(stdin)),
            });
        }
        let name = path.display().to_string();
        let cannot_read = || format!("cannot read {name}");
        let is = fs::metadata(&path).with_context(cannot_read)?;
        if is.is_dir() {
            bail!("cannot read {name}: it is a directory; name a file with messages");
        }
        let file = File::open(&path).with_context(cannot_read)?;
        Ok(Self {
            bytes: is.is_file().then_some(is.len()),
            reader: Box::new(Patient(file)),
            name,
        })
    }
}
