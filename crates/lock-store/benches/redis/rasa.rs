//! Rasa's own lock store, measured by `scripts/bench-rasa`.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

pub(crate) const NAME: &str = "Rasa 3.6 RedisLockStore";
pub(crate) const IN_MEMORY: &str = "Rasa 3.6 InMemoryLockStore";

/// The running script: it does nothing but what it is asked.
pub(crate) struct Rasa {
    process: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Rasa {
    pub(crate) fn start(script: &str, port: u16) -> Self {
        let mut command = Command::new(script);
        command.arg(port.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| {
            panic!("{script} does not start: {error}");
        });
        let (asks, answers) = (process.stdin.take(), process.stdout.take());
        let pipes = RefCell::new((asks.unwrap(), BufReader::new(answers.unwrap())));
        Self { process, pipes }
    }

    /// Locks and releases: per second, and the median and the 99th percentile
    /// of one, in µs.
    pub(crate) fn cycles(&self, store: &str, tasks: usize, seconds: f64) -> [f64; 3] {
        let answer = self.ask(&json!({
            "measure": "cycles", "store": store, "tasks": tasks, "seconds": seconds,
        }));
        ["per_second", "median_us", "p99_us"].map(|field| answer[field].as_f64().unwrap())
    }

    /// The hand-offs in µs, and how long it took, in seconds.
    pub(crate) fn burst(&self, messages: usize, work: f64) -> (Vec<f64>, f64) {
        let answer = self.ask(&json!({"measure": "burst", "messages": messages, "work": work}));
        let hand_offs = answer["hand_offs_us"].as_array().unwrap();
        (
            hand_offs.iter().filter_map(Value::as_f64).collect(),
            answer["elapsed_s"].as_f64().unwrap(),
        )
    }

    pub(crate) fn hold(&self, locks: usize) {
        self.ask(&json!({"measure": "hold", "locks": locks}));
    }

    pub(crate) fn let_go(&self) {
        self.ask(&json!({"measure": "let go"}));
    }

    fn ask(&self, measure: &Value) -> Value {
        let (asks, answers) = &mut *self.pipes.borrow_mut();
        writeln!(asks, "{measure}").unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).expect("bench-rasa has said why")
    }
}

impl Drop for Rasa {
    fn drop(&mut self) {
        // It would end by itself at the end of its input.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
