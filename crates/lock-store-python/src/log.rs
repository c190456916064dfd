//! Events of the store, in Python's `logging`.
//!
//! An event may come from a thread of the runtime, which must not wait for
//! the interpreter lock. So it goes into a queue, and a thread that does
//! nothing else hands it to `logging`, under the target's name.

mod queue;

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};

pub(crate) use queue::Events;

use crate::process::current;

/// The level from which on `logging` wants to have events, in its numbers.
static WANTED: AtomicU8 = AtomicU8::new(NOTHING);

const NOTHING: u8 = u8::MAX;

/// An event on its way.
pub(crate) struct Event {
    level: u8,
    target: &'static str,
    message: String,
    fields: Vec<(&'static str, Value)>,
    at: SystemTime,
    thread: Option<String>,
}

#[derive(IntoPyObject)]
enum Value {
    Number(u64),
    Signed(i64),
    Float(f64),
    Truth(bool),
    Text(String),
}

/// From now on events go to `logging`, unless the program that Python is part
/// of takes them already.
pub(crate) fn begin(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_levels_changed, module)?)?;
    let _ = tracing::subscriber::set_global_default(ToLogging);
    Ok(())
}

/// Says from which level on `logging` wants events: whatever is lower then
/// costs one comparison.
#[pyfunction]
fn _levels_changed(level: i64) {
    let level = u8::try_from(level.max(0)).unwrap_or(NOTHING);
    if WANTED.swap(level, Ordering::AcqRel) != level {
        tracing::callsite::rebuild_interest_cache();
    }
}

/// In the numbers of `logging`.
const fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

struct ToLogging;

impl ToLogging {
    fn wants(metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && number(*metadata.level()) >= WANTED.load(Ordering::Relaxed)
            && metadata.target().starts_with("lock_store")
    }
}

impl Subscriber for ToLogging {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match WANTED.load(Ordering::Relaxed) {
            0..=5 => LevelFilter::TRACE,
            6..=10 => LevelFilter::DEBUG,
            11..=20 => LevelFilter::INFO,
            21..=30 => LevelFilter::WARN,
            31..=40 => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        })
    }

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        current().events.push(Event {
            level: number(*metadata.level()),
            target: metadata.target(),
            message: fields.message,
            fields: fields.others,
            at: SystemTime::now(),
            thread: std::thread::current().name().map(str::to_owned),
        });
    }

    // The store has no spans.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What is in an event.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        self.others.push((field.name(), value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" && self.message.is_empty() {
            // Into a string, which cannot fail.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.add(field, Value::Text(format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Number(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Signed(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Truth(value));
    }
}
