//! The options of `completions` and `man`.

use std::path::PathBuf;

/// Write the completions of a shell to standard output
///
/// Made from the same definitions as this help.
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

/// Write the man page to standard output, or all of them into a folder
///
/// Made from the same definitions as this help.
#[derive(Debug, clap::Args)]
#[command(after_help = MAN)]
pub(crate) struct ManArgs {
    /// Write a page for the command and one for each subcommand into this
    /// folder, which is made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

const COMPLETIONS: &str = "Examples:
  lock-store completions bash > ~/.local/share/bash-completion/completions/lock-store
          For new shells of this user
  lock-store completions zsh > /usr/local/share/zsh/site-functions/_lock-store
          For all users
  lock-store completions fish > ~/.config/fish/completions/lock-store.fish
          For fish";

const MAN: &str = "Examples:
  lock-store man > lock-store.1 && man ./lock-store.1
          Read the main page
  lock-store man --dir /usr/local/share/man/man1
          Install all pages: man lock-store-exec";
