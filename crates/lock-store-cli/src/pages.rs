//! Completions and man pages, made from the definitions of the options.

use std::fs;
use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::args::{Args, CompletionsArgs, ManArgs};
use crate::people::unless_closed;

pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<u8> {
    let mut command = Args::command();
    let name = command.get_name().to_owned();
    // In memory first: the writing of completions panics at a closed pipe.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut text);
    write_out(&text)
}

pub(crate) fn man(args: &ManArgs) -> anyhow::Result<u8> {
    let command = Args::command();
    let Some(folder) = &args.dir else {
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text)?;
        return write_out(&text);
    };
    let cannot_write = || format!("cannot write man pages into {}", folder.display());
    fs::create_dir_all(folder).with_context(cannot_write)?;
    clap_mangen::generate_to(command, folder).with_context(cannot_write)?;
    Ok(0)
}

fn write_out(text: &[u8]) -> anyhow::Result<u8> {
    let mut stdout = io::stdout().lock();
    unless_closed(stdout.write_all(text).and_then(|()| stdout.flush()))?;
    Ok(0)
}
