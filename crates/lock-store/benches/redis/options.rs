//! How much is measured.

use std::time::Duration;

const USAGE: &str = "\
cargo bench -p lock-store --bench redis -- [OPTIONS]

    --quick         a smoke run of some seconds; its figures mean nothing
    --rounds N      rounds, 7 by default
    --threads N     worker threads of the runtime, 0 for a single thread; 2 by
                    default
    --rasa SCRIPT   scripts/bench-rasa, which measures Rasa's own lock store";

pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) threads: usize,
    pub(crate) rasa: Option<String>,
    /// All that follows is for one round: locks and releases of one task,
    pub(crate) cycles: usize,
    /// how long a rate is measured,
    pub(crate) slice: Duration,
    /// hand-offs in a line,
    pub(crate) hand_offs: usize,
    /// messages that come at once,
    pub(crate) messages: usize,
    /// queues in which each step is done once, and how often,
    pub(crate) queues: usize,
    pub(crate) steps: usize,
    /// locks held at once,
    pub(crate) locks: usize,
    /// loops of a call in a script.
    pub(crate) loops: usize,
    /// Waiters in the lines, with few, more and many.
    pub(crate) waiters: [usize; 3],
    /// Waiters behind which a step is measured, with few and many.
    pub(crate) queued: [usize; 2],
    /// How long idle waiters are watched, once.
    pub(crate) idle: Duration,
}

impl Options {
    /// # Errors
    ///
    /// The usage.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::thorough();
        let (mut rounds, mut threads, mut rasa) = (None, None, None);
        let number = |text: Option<String>| {
            let number = text.and_then(|text| text.parse().ok());
            number.ok_or_else(|| format!("a number is missing\n\n{USAGE}"))
        };
        while let Some(argument) = arguments.next() {
            match &*argument {
                // Cargo says so.
                "--bench" => {}
                "--quick" => options = Self::quick(),
                "--rounds" => rounds = Some(number(arguments.next())?),
                "--threads" => threads = Some(number(arguments.next())?),
                "--rasa" => rasa = arguments.next(),
                other => return Err(format!("what is {other:?}?\n\n{USAGE}")),
            }
        }
        options.rounds = rounds.unwrap_or(options.rounds).max(1);
        options.threads = threads.unwrap_or(options.threads);
        options.rasa = rasa;
        Ok(options)
    }

    fn thorough() -> Self {
        Self {
            rounds: 7,
            threads: 2,
            rasa: None,
            cycles: 4_000,
            slice: Duration::from_millis(500),
            hand_offs: 400,
            messages: 20,
            queues: 10,
            steps: 50,
            locks: 10_000,
            loops: 10,
            waiters: [2, 100, 10_000],
            queued: [10, 10_000],
            idle: Duration::from_secs(20),
        }
    }

    fn quick() -> Self {
        Self {
            rounds: 2,
            cycles: 200,
            slice: Duration::from_millis(50),
            hand_offs: 20,
            messages: 3,
            queues: 2,
            steps: 10,
            locks: 1_000,
            loops: 1,
            waiters: [2, 100, 1_000],
            queued: [10, 1_000],
            idle: Duration::from_secs(1),
            ..Self::thorough()
        }
    }
}
