//! The terminal, and that it is found as it was left: however this ends.

use std::io::{self, IsTerminal as _, Stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use nix::unistd::{Pid, getppid, getsid};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

/// Whether the terminal is ours just now. There is only one.
static OURS: AtomicBool = AtomicBool::new(false);

/// The terminal while it is ours. Given back when dropped, and on a panic.
pub(crate) struct Stage {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

/// Whether there is somebody to look at it and to press keys.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

impl Stage {
    pub(crate) fn enter() -> io::Result<Self> {
        restore_on_panic();
        // The guard first: it gives back what was taken when a step fails.
        let guard = Leave;
        take()?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        std::mem::forget(guard);
        Ok(Self { terminal })
    }

    /// Draws, unless the terminal is left.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        if OURS.load(Ordering::Acquire) {
            self.terminal.draw(draw)?;
        }
        Ok(())
    }

    /// Makes room for a shell, until [`Stage::back`].
    pub(crate) fn leave() {
        give_back();
    }

    /// Takes the terminal again, whatever state it is in, and forgets what was
    /// drawn.
    pub(crate) fn back(&mut self) -> io::Result<()> {
        give_back();
        take()?;
        self.redraw()
    }

    /// Draws all of it next time.
    ///
    /// `Terminal::clear` would ask the terminal where its cursor is, and the
    /// answer goes to whoever reads the keys.
    pub(crate) fn redraw(&mut self) -> io::Result<()> {
        execute!(io::stdout(), Clear(ClearType::All))?;
        self.terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        give_back();
    }
}

struct Leave;

impl Drop for Leave {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<()> {
    OURS.store(true, Ordering::Release);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

/// Nobody could be told if it fails: the terminal is gone then.
fn give_back() {
    if OURS.swap(false, Ordering::AcqRel) {
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// So that what is said about a panic can be read, and the shell be used.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
    });
}

/// Whether a shell is there that would let us go on. Without one, as in a
/// container or as the command of `ssh`, nobody could.
pub(crate) fn can_suspend() -> bool {
    let parent = getppid();
    parent != Pid::from_raw(0) && getsid(Some(parent)).ok() == getsid(None).ok()
}
