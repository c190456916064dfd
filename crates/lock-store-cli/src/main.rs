//! The command `lock-store`: messages processed in order, one at a time per
//! conversation, different conversations in parallel.
//!
//! The way of a message through the code: `process/input` reads its line,
//! `process/message` understands it, `process/dispatch` takes its ticket,
//! `process/conversation` waits for its turn, `process/handler` processes it,
//! and `process/output` writes its line.

mod args;
mod bench;
mod connection;
mod doctor;
#[cfg(target_os = "linux")]
mod exec;
mod export;
mod fleet;
mod http;
mod list;
mod log;
mod metrics;
mod pages;
mod patient;
mod pauses;
mod people;
mod process;
mod program;
mod release;
mod screen;
mod settings;
mod show;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;

use args::{Args, Task};
use log::Log;
use metrics::Metrics;
use screen::Screen;
use settings::Settings;

/// Wrong use or configuration; clap uses the same.
const WRONG_USE: u8 = 2;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Some(code) = exec::child::become_the_command() {
        return code;
    }
    let args = Args::parse();
    let screen = Screen::new();
    let log = Log::start(&screen, args.verbose, args.log_format);
    let code = run(args, &screen, &log).unwrap_or_else(|error| {
        log.error(format_args!("{}", in_one_line(&error)));
        WRONG_USE
    });
    ExitCode::from(code)
}

fn run(args: Args, screen: &Screen, log: &Log) -> anyhow::Result<u8> {
    // What needs no runtime, or has to do something before there are threads.
    let task = match args.task {
        #[cfg(target_os = "linux")]
        Task::Exec(args) => return exec::run(&args, screen, log),
        Task::Completions(args) => return pages::completions(&args),
        Task::Man(args) => return pages::man(&args),
        task => task,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let code = match task {
        Task::Process(args) => runtime.block_on(async {
            let _metrics = Metrics::serve(&args.metrics, screen).await?;
            let settings = Settings::new(args, log).await?;
            process::run(settings, screen).await
        }),
        Task::Doctor(args) => runtime.block_on(doctor::run(args, screen, log)),
        Task::Export(args) => runtime.block_on(export::run(args, screen, log)),
        Task::Bench(args) => runtime.block_on(bench::run(args, screen, log)),
        Task::Watch(args) => runtime.block_on(watch::run(args, screen, log)),
        Task::List(args) => runtime.block_on(list::run(&args, screen, log)),
        Task::Show(args) => runtime.block_on(show::run(&args, screen, log)),
        Task::Release(args) => runtime.block_on(release::run(&args, screen, log)),
        #[cfg(target_os = "linux")]
        Task::Exec(_) => unreachable!("done above"),
        Task::Completions(_) | Task::Man(_) => unreachable!("done above"),
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
