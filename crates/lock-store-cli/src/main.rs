//! The command `lock-store`: messages processed in order, one at a time per
//! conversation, different conversations in parallel.
//!
//! The way of a message through the code: `process/input` reads its line,
//! `process/message` understands it, `process/dispatch` takes its ticket,
//! `process/conversation` waits for its turn, `process/handler` processes it,
//! and `process/output` writes its line.

mod args;
mod connection;
mod doctor;
mod log;
mod patient;
mod process;
mod screen;
mod settings;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;

use args::{Args, Task};
use log::Log;
use screen::Screen;
use settings::Settings;

/// Wrong use or configuration; clap uses the same.
const WRONG_USE: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let screen = Screen::new();
    let log = Log::start(&screen, args.verbose);
    let code = run(args, &screen, &log).unwrap_or_else(|error| {
        screen.say(format_args!("error: {}", in_one_line(&error)));
        WRONG_USE
    });
    ExitCode::from(code)
}

fn run(args: Args, screen: &Screen, log: &Log) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let code = match args.task {
        Task::Doctor(args) => runtime.block_on(doctor::run(args, screen, log)),
        Task::Process(args) => runtime.block_on(async {
            let settings = Settings::new(args, log).await?;
            process::run(settings, screen).await
        }),
    };
    // After a second Ctrl-C tasks are still under way, and their commands with
    // them.
    process::handler::kill_all();
    runtime.shutdown_timeout(Duration::from_secs(5));
    code
}

/// An error and its causes, without those that the texts before have already.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn each_cause_is_told_once() {
        let wrong = |text| in_one_line(&anyhow!("at the bottom").context(text));
        assert_eq!(wrong("on top"), "on top: at the bottom");
        assert_eq!(
            wrong("on top: at the bottom; try again"),
            "on top: at the bottom; try again"
        );
    }
}
