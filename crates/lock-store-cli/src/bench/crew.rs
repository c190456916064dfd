//! All processes that measure: this one, or its children.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::child::{Place, Said, Start, Tell};
use super::measured::Measured;
use super::plan::{Part, Plan};
use super::worker::{Order, Worker};
use super::{Halted, SOON, clock};
use crate::args::Connection;

/// In which an order has surely reached every process.
const LEAD: Duration = Duration::from_millis(100);

/// How long a child may take to connect, or to answer after the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The processes that measure.
pub(super) enum Crew<'w> {
    /// This one.
    Here(&'w Worker),
    Children(Vec<Process>),
}

/// A child.
pub(super) struct Process {
    number: usize,
    child: Child,
    /// Its input ends it.
    told: Option<ChildStdin>,
    said: Lines<BufReader<ChildStdout>>,
    has_ended: bool,
}

impl<'w> Crew<'w> {
    pub(super) async fn gather(
        here: &'w Worker,
        plan: &Plan,
        connection: &Connection,
    ) -> anyhow::Result<Self> {
        if plan.processes == 1 {
            return Ok(Self::Here(here));
        }
        let mut processes = Vec::new();
        for number in 0..plan.processes {
            let start = Start {
                plan: plan.clone(),
                number,
                place: Place::of(connection),
            };
            processes.push(Process::start(number, &start).await?);
        }
        for process in &mut processes {
            let number = process.number;
            match timeout(PATIENCE, process.next()).await {
                Ok(Ok(Said::Ready)) => {}
                Ok(Ok(Said::Failed(why))) => bail!("process {number}: {why}"),
                Ok(Ok(Said::Measured(_))) => bail!("process {number} is not ready"),
                Ok(Err(error)) => return Err(error),
                Err(_) => bail!("process {number} does not become ready"),
            }
        }
        Ok(Self::Children(processes))
    }

    /// When a part that begins now is measured.
    pub(super) fn order(&self, part: Part, plan: &Plan) -> Order {
        let lead = match self {
            Self::Here(_) => Duration::ZERO,
            Self::Children(_) => LEAD,
        };
        let from = clock::now() + clock::nanos(lead + plan.warm_up);
        let until = from.saturating_add(clock::nanos(plan.length));
        let window = clock::Window { from, until };
        Order { part, window }
    }

    /// Measures a part, and returns what each process found.
    pub(super) async fn measure(&mut self, order: Order, halted: &Halted) -> Vec<Measured> {
        match self {
            Self::Here(worker) => vec![worker.measure(order, halted.clone()).await],
            Self::Children(processes) => {
                // One task alone.
                let wanted = match order.part {
                    Part::OneTask => 1,
                    Part::Load | Part::HandOff => processes.len(),
                };
                let mut all = Vec::new();
                let asked = &mut processes[..wanted];
                for process in &mut *asked {
                    process.tell(&Tell::Measure(order)).await;
                }
                let mut halt = halted.clone();
                for process in asked {
                    all.push(process.measured(order, &mut halt).await);
                }
                all
            }
        }
    }

    /// Ends all, and waits until they have given back their tickets.
    pub(super) async fn dismiss(self) {
        let Self::Children(mut processes) = self else {
            return;
        };
        for process in &mut processes {
            process.told = None;
        }
        for mut process in processes {
            // Their own limit is shorter. Whoever does not end is killed.
            let _ = timeout(3 * SOON, process.child.wait()).await;
        }
    }
}

impl Process {
    async fn start(number: usize, start: &Start) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own file is unknown")?;
        let mut child = Command::new(program)
            .args(["bench", "--worker"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            // A terminal's Ctrl-C is for the parent, which ends them in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("process {number} cannot be started"))?;
        let (Some(told), Some(said)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("process {number} has no pipes");
        };
        let mut process = Self {
            number,
            child,
            told: Some(told),
            said: BufReader::new(said).lines(),
            has_ended: false,
        };
        process.tell(start).await;
        Ok(process)
    }

    /// Whether it is still there is seen when it is to answer.
    async fn tell(&mut self, what: &impl Serialize) {
        let Some(told) = &mut self.told else { return };
        if let Ok(mut line) = serde_json::to_vec(what) {
            line.push(b'\n');
            let _ = told.write_all(&line).await;
        }
    }

    async fn next(&mut self) -> anyhow::Result<Said> {
        let number = self.number;
        let Some(line) = self.said.next_line().await? else {
            let status = self.child.wait().await?;
            bail!("process {number} ended: {}", ending(status));
        };
        serde_json::from_str(&line).with_context(|| format!("process {number} is not understood"))
    }

    /// What it found; nothing but a fault if it is gone.
    async fn measured(&mut self, order: Order, halted: &mut Halted) -> Measured {
        let mut measured = Measured::new();
        if self.has_ended {
            return measured;
        }
        match self.answer(order, halted).await {
            Ok(found) => return found,
            Err(error) => {
                self.has_ended = true;
                measured.faults.add_all("process", 1, &format!("{error:#}"));
            }
        }
        measured
    }

    async fn answer(&mut self, order: Order, halted: &mut Halted) -> anyhow::Result<Measured> {
        let mut latest = clock::at(order.window.until) + PATIENCE;
        let mut may_halt = true;
        loop {
            tokio::select! {
                biased;
                said = self.next() => return match said? {
                    Said::Measured(measured) => Ok(*measured),
                    said => bail!("process {} said {said:?}", self.number),
                },
                stopped = halted.wait_for(Option::is_some), if may_halt => {
                    may_halt = false;
                    let halt = stopped.ok().and_then(|halt| *halt);
                    if let Some(halt) = halt {
                        self.tell(&Tell::Halt(halt)).await;
                        latest = clock::at(halt.at) + 2 * SOON;
                    }
                }
                () = tokio::time::sleep_until(latest) => {
                    bail!("process {} does not answer", self.number);
                }
            }
        }
    }
}

fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "how is unknown".into(),
    }
}
