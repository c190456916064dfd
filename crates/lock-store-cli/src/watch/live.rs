//! The picture: news and keys in, the screen out.

use std::future::pending;
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use crossterm::event::{Event, EventStream, KeyEvent, KeyEventKind};
use futures_util::StreamExt as _;
use lock_store::LockError;

use super::app::{Action, App, Release};
use super::looker::{Looker, News};
use super::signals::{self, Signals, Wanted};
use super::terminal::{self, Stage};
use super::text;
use super::view::{self, Theme};
use crate::connection::Fleet;
use crate::process::interrupt::exit_code;

/// How often what is shown about time is drawn anew.
const TICK: Duration = Duration::from_millis(250);

type Releasing = Pin<Box<dyn Future<Output = (Release, Result<bool, LockError>)> + Send>>;

pub(crate) struct Live {
    fleet: Fleet,
    looker: Looker,
    start: Instant,
    /// How many more looks are wanted.
    looks: Option<u64>,
    app: App,
    releasing: Option<Releasing>,
}

enum Happened {
    News(News),
    Event(Event),
    Signal(Wanted),
    Released(Release, Result<bool, LockError>),
    Time,
}

impl Live {
    pub(crate) fn new(fleet: Fleet, looker: Looker, start: Instant, looks: Option<u64>) -> Self {
        Self {
            fleet,
            looker,
            start,
            looks,
            app: App::default(),
            releasing: None,
        }
    }

    /// Until the user, a signal or the number of looks ends it: with an exit
    /// code.
    pub(crate) async fn run(mut self, first: News) -> anyhow::Result<u8> {
        let mut signals = Signals::listen().context("signals cannot be listened to")?;
        let mut stage = Stage::enter().context("the terminal cannot be used")?;
        let mut events = EventStream::new();
        let theme = Theme::from_environment();
        let mut ticks = tokio::time::interval(TICK);
        let mut happened = Happened::News(first);
        loop {
            if let Some(code) = self.handle(happened, &mut stage)? {
                return Ok(code);
            }
            self.app.now = self.start.elapsed();
            self.app.connected = self.fleet.redis.is_connected();
            let app = &mut self.app;
            stage
                .draw(|frame| app.page = view::draw(frame, app, theme))
                .context("the terminal cannot be written to")?;
            happened = tokio::select! {
                news = self.looker.next() => Happened::News(news?),
                event = events.next() => Happened::Event(
                    event
                        .context("the terminal is gone")?
                        .context("the terminal cannot be read")?,
                ),
                wanted = signals.next() => Happened::Signal(wanted),
                (release, outcome) = outcome(&mut self.releasing) => {
                    Happened::Released(release, outcome)
                }
                _ = ticks.tick() => Happened::Time,
            };
        }
    }

    /// What happened, and the exit code if that is the end.
    fn handle(&mut self, happened: Happened, stage: &mut Stage) -> anyhow::Result<Option<u8>> {
        match happened {
            Happened::News(news) => return Ok(self.news(news)),
            Happened::Event(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                return self.key(key, stage);
            }
            Happened::Released(release, outcome) => {
                self.releasing = None;
                let outcome = outcome.map_err(|error| text::visible(&error.to_string()));
                self.app.released(&release, outcome);
                self.looker.at_once();
            }
            Happened::Signal(Wanted::End(signal)) => return Ok(Some(exit_code(signal))),
            Happened::Signal(Wanted::Suspend) => suspend()?,
            Happened::Signal(Wanted::Continue) => stage.back()?,
            Happened::Event(_) | Happened::Time => {}
        }
        Ok(None)
    }

    fn news(&mut self, news: News) -> Option<u8> {
        let is_look = matches!(news, News::Look(_));
        self.app.take(news);
        let looks = self.looks.as_mut().filter(|_| is_look)?;
        *looks = looks.saturating_sub(1);
        (*looks == 0).then_some(0)
    }

    fn key(&mut self, key: KeyEvent, stage: &mut Stage) -> anyhow::Result<Option<u8>> {
        #[cfg(debug_assertions)]
        super::trigger::panic_if_asked(key);
        match self.app.key(key) {
            Action::Nothing => {}
            Action::Quit => return Ok(Some(0)),
            Action::Interrupt => {
                return Ok(Some(exit_code(nix::sys::signal::SIGINT as i32)));
            }
            Action::Suspend if terminal::can_suspend() => suspend()?,
            Action::Suspend => {
                let why = "nobody could wake it, so it is not suspended; q quits";
                self.app.notify(why.to_owned());
            }
            Action::Redraw => stage.redraw()?,
            Action::Open(id) => self.looker.open(id),
            Action::Release(_) if self.releasing.is_some() => {
                self.app
                    .notify("another ticket is being released".to_owned());
            }
            Action::Release(release) => {
                self.app.notify("releasing…".to_owned());
                self.releasing = Some(take_away(&self.fleet, release));
            }
        }
        Ok(None)
    }
}

/// Stops, with the terminal as it was. [`Wanted::Continue`] takes it again.
fn suspend() -> anyhow::Result<()> {
    Stage::leave();
    signals::stop_here().context("it cannot be suspended")
}

fn take_away(fleet: &Fleet, release: Release) -> Releasing {
    let (redis, claim_window) = (fleet.redis.clone(), fleet.config.timing.claim_window);
    Box::pin(async move {
        let taken = redis.take_away(&release.id, &release.ticket, claim_window);
        let outcome = taken.await;
        (release, outcome)
    })
}

async fn outcome(releasing: &mut Option<Releasing>) -> (Release, Result<bool, LockError>) {
    match releasing {
        Some(releasing) => releasing.await,
        None => pending().await,
    }
}
