//! The command `lock-store`: messages processed in order, one at a time per
//! conversation, different conversations in parallel.
//!
//! The way of a message through the code: `process/input` reads its line,
//! `process/message` understands it, `process/dispatch` takes its ticket,
//! `process/conversation` waits for its turn, `process/handler` processes it,
//! and `process/output` writes its line.

mod args;
mod process;
mod screen;
mod settings;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use args::{Args, Task};
use screen::Screen;
use settings::Settings;

/// Wrong use or configuration; clap uses the same.
const WRONG_USE: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let screen = Screen::new();
    log_to(&screen, args.verbose);
    let code = run(args, &screen).unwrap_or_else(|error| {
        screen.say(format_args!("error: {error:#}"));
        WRONG_USE
    });
    ExitCode::from(code)
}

fn run(args: Args, screen: &Screen) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let code = match args.task {
        Task::Process(args) => runtime.block_on(async {
            let settings = Settings::new(args).await?;
            process::run(settings, screen).await
        }),
    };
    // After a second Ctrl-C tasks are still under way: they are dropped here,
    // and their commands killed.
    runtime.shutdown_timeout(Duration::from_secs(5));
    code
}

fn log_to(screen: &Screen, verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(screen.clone())
        .with_ansi(false)
        .init();
}
