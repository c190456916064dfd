//! A process that measures what another one asks it to: JSON lines come and go
//! over its standard input and output. It ends when its input does, however
//! its parent ended.

use std::io::{self, BufRead as _, Write as _};
use std::path::PathBuf;
use std::thread;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use super::Halt;
use super::measured::Measured;
use super::plan::Plan;
use super::worker::{Order, Worker};
use crate::args::{Connection, RedisUrl};
use crate::connection;

/// What a child is told first.
#[derive(Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) plan: Plan,
    pub(super) number: usize,
    pub(super) place: Place,
}

/// Where the locks are. Not on the command line, as it may hold a password.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Place {
    redis: Option<String>,
    endpoints: Option<PathBuf>,
}

/// What it is told then.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tell {
    Measure(Order),
    /// To stop what is under way at this time.
    Halt(Halt),
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    Ready,
    Failed(String),
    Measured(Box<Measured>),
}

impl Place {
    pub(super) fn of(connection: &Connection) -> Self {
        Self {
            redis: connection.redis.as_ref().map(|url| url.expose().to_owned()),
            endpoints: connection.endpoints.clone(),
        }
    }

    fn connection(self) -> Connection {
        Connection {
            redis: self.redis.map(RedisUrl::from),
            endpoints: self.endpoints,
        }
    }
}

/// Does what it is told until there is no more.
pub(super) async fn run() -> anyhow::Result<u8> {
    let mut told = listen();
    let Some(start) = told.recv().await else {
        return Ok(0);
    };
    let Ok(start) = serde_json::from_str(&start) else {
        bail!("--worker is for processes that `bench --processes` starts");
    };
    let worker = match open(start).await {
        Ok(worker) => worker,
        Err(error) => {
            say(&Said::Failed(format!("{error:#}")))?;
            return Ok(2);
        }
    };
    say(&Said::Ready)?;
    let outcome = obey(&worker, &mut told).await;
    worker.close().await;
    // Nobody reads on: the parent has gone, and nobody could be told.
    outcome.map(|()| 0)
}

/// The lines of standard input, until it ends.
type Told = UnboundedReceiver<String>;

/// In a thread of its own, which may be left behind in the middle of a line.
fn listen() -> Told {
    let (lines, told) = unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    told
}

async fn open(start: Start) -> anyhow::Result<Worker> {
    let Start {
        plan,
        number,
        place,
    } = start;
    let config = connection::config(&place.connection())?;
    Worker::open(&config, plan, number).await
}

async fn obey(worker: &Worker, told: &mut Told) -> anyhow::Result<()> {
    while let Some(order) = next(told).await? {
        let Tell::Measure(order) = order else {
            continue;
        };
        let (halt, halted) = watch::channel(None);
        let measuring = worker.measure(order, halted);
        tokio::pin!(measuring);
        let mut may_halt = true;
        let measured = loop {
            tokio::select! {
                biased;
                measured = &mut measuring => break measured,
                more = next(told), if may_halt => {
                    may_halt = false;
                    // Or the parent is gone.
                    let now = Halt { at: super::clock::now(), signal: 0 };
                    halt.send_replace(Some(match more? {
                        Some(Tell::Halt(halt)) => halt,
                        _ => now,
                    }));
                }
            }
        };
        say(&Said::Measured(Box::new(measured)))?;
    }
    Ok(())
}

/// May be dropped at any point.
async fn next(told: &mut Told) -> anyhow::Result<Option<Tell>> {
    let Some(line) = told.recv().await else {
        return Ok(None);
    };
    let tell = serde_json::from_str(&line).context("the parent is of another version")?;
    Ok(Some(tell))
}

fn say(said: &Said) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    Ok(stdout.flush()?)
}
