//! Completions and man pages, made from the definitions of the options.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

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
    let text = String::from_utf8(text)?;
    // clap_complete 4.6.11 tells subcommands by names that it builds in two
    // ways, which differ where the name of the command has a hyphen; then no
    // option of a subcommand is completed.
    let text = text.replace("lock__subcmd__store", "lock__store");
    write_out(text.as_bytes())
}

pub(crate) fn man(args: &ManArgs) -> anyhow::Result<u8> {
    // Each page names all its subcommands, and `help` is not worth one.
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &args.dir else {
        return write_out(page(command)?.as_bytes());
    };
    let cannot_write = || format!("cannot write man pages into {}", folder.display());
    fs::create_dir_all(folder).with_context(cannot_write)?;
    write_pages(command, folder).with_context(cannot_write)?;
    Ok(0)
}

fn write_pages(command: clap::Command, folder: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        write_pages(subcommand.clone(), folder)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name());
    let file = folder.join(format!("{name}.1"));
    fs::write(file, page(command)?)
}

/// A page whose examples and exit codes stay in their lines, which are made to
/// be looked at, and whose text is not stretched to the margin.
fn page(command: clap::Command) -> io::Result<String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    let mut page = String::with_capacity(text.len());
    let mut is_set = false;
    for line in text.lines() {
        if is_set && line.starts_with(".SH") {
            page.push_str(".fi\n");
            is_set = false;
        }
        if line == ".SH EXTRA" {
            page.push_str(".SH EXAMPLES\n.nf\n");
            is_set = true;
            continue;
        }
        page.push_str(line);
        page.push('\n');
        if line.starts_with(".TH") {
            page.push_str(".ad l\n.nh\n");
        }
    }
    Ok(page)
}

fn write_out(text: &[u8]) -> anyhow::Result<u8> {
    let mut stdout = io::stdout().lock();
    unless_closed(stdout.write_all(text).and_then(|()| stdout.flush()))?;
    Ok(0)
}
