//! The scripts: one per transition, and one that does many steps; what they are
//! given. What they answer is in [`replies`](super::replies).

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::time::Duration;

use redis::{Cmd, Value};

use super::element::{NO_OWNER, micros};
use super::keys::Keys;
use super::layout_rasa::{Rasa, Turn};
use crate::backend::{Claim, Finish, Issue, TicketName};
use crate::config::{Layout, RedisConfig};
use crate::identity::{ConversationId, Owner};
use crate::time::Timestamp;

/// What is asked of the server for one conversation.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Issue(Issue),
    Claim(Claim),
    Advance(Claim),
    Finish(Finish),
    /// The whole queue: a plain command, or a script where the queue is no list.
    Get,
    /// No script: removes the element of a ticket that is alone.
    Leave(String),
    Delete,
    Put {
        claim_window: Duration,
        elements: Vec<String>,
    },
}

impl Action {
    /// What gives back the ticket that this may have issued.
    pub(super) fn undo(&self) -> Option<Self> {
        let Self::Issue(issue) = self else {
            return None;
        };
        let name = TicketName::Owner(issue.owner?);
        Some(Self::Finish(Finish::new(name, issue.claim_window)))
    }
}

/// What a step is told about time, besides what was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Until when it may be done, by the server's clock.
    pub(super) until: Timestamp,
    /// Whether it may have been done before.
    pub(super) repeated: bool,
}

impl Times {
    /// For what may be done at any time, and as often as one likes.
    pub(super) const NONE: Self = Self {
        until: Timestamp::from_micros(LATEST),
        repeated: false,
    };
}

/// The latest moment that has 16 digits: as texts of the same length, moments
/// compare like numbers.
const LATEST: u64 = 9_999_999_999_999_999;

/// The scripts, as this deployment needs them.
#[derive(Debug)]
pub(super) struct Scripts {
    issue: Script,
    claim: Script,
    advance: Script,
    finish: Script,
    delete: Script,
    put: Script,
    get: Script,
    many: Script,
    check: Script,
    rasa: Option<Rasa>,
    keys: Keys,
    /// The command that tells an owner.
    pub(super) publish: &'static str,
}

#[derive(Debug)]
struct Script {
    text: String,
    hash: String,
}

const NOW: &str = "local time = call('TIME')
local now_text = time[1] .. string.sub('00000' .. time[2], -6)";

impl Scripts {
    pub(super) fn new(config: &RedisConfig, keys: &Keys, publish: &'static str) -> Self {
        let rasa = match config.layout {
            Layout::Native => None,
            Layout::Rasa => Some(Rasa::new(keys)),
        };
        let commands = match &rasa {
            None => include_str!("lua/check_list.lua"),
            Some(_) => include_str!("lua/check_text.lua"),
        };
        let whole = |text: &str, now: &str| {
            text.replace("--@now", now)
                .replace("--@queue", include_str!("lua/queue.lua"))
                .replace("--@commands", commands)
                .replace("@PUBLISH@", publish)
        };
        let script = |text: &str| {
            let text = whole(text, NOW);
            let text = match &rasa {
                None => format!("local call, try = redis.call, redis.pcall\n{text}"),
                Some(rasa) => rasa.script(&text),
            };
            let hash = redis::Script::new(&text).get_hash().to_owned();
            Script { text, hash }
        };
        let [issue, claim, advance, finish] = [
            include_str!("lua/issue.lua"),
            include_str!("lua/claim.lua"),
            include_str!("lua/advance.lua"),
            include_str!("lua/finish.lua"),
        ];
        // Each script becomes a function of the one that does many steps, which
        // has read the clock already.
        let many = include_str!("lua/many.lua")
            .replace("--@issue", &whole(issue, ""))
            .replace("--@claim", &whole(claim, ""))
            .replace("--@advance", &whole(advance, ""))
            .replace("--@finish", &whole(finish, ""));
        Self {
            issue: script(issue),
            claim: script(claim),
            advance: script(advance),
            finish: script(finish),
            delete: script(include_str!("lua/delete.lua")),
            put: script(include_str!("lua/put.lua")),
            get: script(include_str!("lua/get.lua")),
            many: script(&many),
            check: script(include_str!("lua/check.lua")),
            keys: keys.clone(),
            publish,
            rasa,
        }
    }

    /// Whether a queue is a list; in Rasa's layout it is one text.
    pub(super) fn are_lists(&self) -> bool {
        self.rasa.is_none()
    }

    /// Every script of a step, to be loaded before it is called.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let many = if self.are_lists() {
            [Some(&self.advance), Some(&self.many)]
        } else {
            [Some(&self.get), None]
        };
        [
            &self.issue,
            &self.claim,
            &self.finish,
            &self.delete,
            &self.put,
        ]
        .into_iter()
        .chain(many.into_iter().flatten())
        .map(|script| &*script.text)
    }

    /// The command that sees whether everything is allowed that steps do.
    pub(super) fn check(&self, key: &str, channel: &str) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.check.text).arg(1).arg(key).arg(channel);
        command
    }

    /// The command for a step; by its text when the server does not know the
    /// script.
    pub(super) fn command(
        &self,
        action: &Action,
        id: &ConversationId,
        by_text: bool,
        times: &Times,
    ) -> Cmd {
        let script = match action {
            Action::Get if self.are_lists() => {
                let mut command = redis::cmd("LRANGE");
                self.keys.with_queue(id, |key| {
                    command.arg(key);
                });
                command.arg("0").arg("-1");
                return command;
            }
            Action::Leave(element) => {
                let mut command = Cmd::with_capacity(4, 160);
                command.arg("LREM");
                self.keys.with_queue(id, |key| {
                    command.arg(key);
                });
                command.arg("1").arg(element);
                return command;
            }
            Action::Get => &self.get,
            Action::Issue(_) => &self.issue,
            Action::Claim(_) => &self.claim,
            Action::Advance(_) => &self.advance,
            Action::Finish(_) => &self.finish,
            Action::Delete => &self.delete,
            Action::Put { .. } => &self.put,
        };
        let mut command = script.call(by_text);
        command.arg("1");
        self.keys.with_queue(id, |key| {
            command.arg(key);
        });
        let until = Until(times.until);
        match action {
            Action::Issue(issue) => {
                write(&mut command, Begin(issue));
                write(&mut command, TimeToLive(issue, times.repeated));
                write(&mut command, until);
                self.channels(&mut command, id);
                write(&mut command, Options(issue, times.repeated));
            }
            Action::Claim(claim) | Action::Advance(claim) => {
                write(&mut command, claim.owner);
                write(&mut command, micros(claim.lifetime));
                write(&mut command, until);
                self.channels(&mut command, id);
                write(&mut command, micros(claim.claim_window));
                write(&mut command, OrNone(claim.number));
            }
            Action::Finish(finish) => {
                write(&mut command, Name(finish.ticket));
                write(&mut command, micros(finish.claim_window));
                write(&mut command, OrNone(number_of(finish)));
                self.channels(&mut command, id);
                write(&mut command, OrNone(finish.first_finished));
            }
            Action::Delete => self.channels(&mut command, id),
            Action::Put {
                claim_window,
                elements,
            } => {
                write(&mut command, micros(*claim_window));
                self.channels(&mut command, id);
                command.arg(elements);
            }
            Action::Get | Action::Leave(_) => {}
        }
        if let Some(rasa) = &self.rasa {
            rasa.bring_along(&mut command, action);
        }
        command
    }

    /// Whether a step can be one of many.
    pub(super) fn can_gather(&self, action: &Action) -> bool {
        let is_step = !matches!(action, Action::Get | Action::Delete | Action::Put { .. });
        self.are_lists() && is_step
    }

    /// The command for several steps that [can be gathered](Self::can_gather).
    /// In a cluster they are of one conversation, elsewhere of any.
    pub(super) fn many<'s>(
        &self,
        steps: impl ExactSizeIterator<Item = (&'s Action, &'s ConversationId, bool)> + Clone,
        by_text: bool,
        until: Timestamp,
    ) -> Cmd {
        let mut command = self.many.call(by_text);
        write(&mut command, steps.len());
        for (_, id, _) in steps.clone() {
            self.keys.with_queue(id, |key| {
                command.arg(key);
            });
        }
        if let Some((_, id, _)) = steps.clone().next() {
            self.channels(&mut command, id);
        }
        write(&mut command, Until(until));
        for (action, _, repeated) in steps {
            match action {
                Action::Issue(issue) => {
                    command.arg("i");
                    write(&mut command, Begin(issue));
                    write(&mut command, TimeToLive(issue, repeated));
                    write(&mut command, Options(issue, repeated));
                }
                Action::Leave(element) => {
                    command.arg("l").arg(element);
                }
                Action::Claim(claim) | Action::Advance(claim) => {
                    let is_claim = matches!(action, Action::Claim(_));
                    command.arg(if is_claim { "c" } else { "a" });
                    write(&mut command, claim.owner);
                    write(&mut command, micros(claim.lifetime));
                    write(&mut command, micros(claim.claim_window));
                    write(&mut command, OrNone(claim.number));
                }
                Action::Finish(finish) => {
                    command.arg("f");
                    write(&mut command, Name(finish.ticket));
                    write(&mut command, micros(finish.claim_window));
                    write(&mut command, OrNone(number_of(finish)));
                    write(&mut command, OrNone(finish.first_finished));
                }
                Action::Get | Action::Delete | Action::Put { .. } => {
                    unreachable!("not to be gathered: see `can_gather`")
                }
            }
        }
        command
    }

    fn channels(&self, command: &mut Cmd, id: &ConversationId) {
        self.keys.with_channels(id, |channels| {
            command.arg(channels);
        });
    }

    /// Waits for the turn of a step among those of its owner, where there is one
    /// to be waited for.
    pub(super) async fn turn(&self, action: &Action) -> Option<Turn> {
        match &self.rasa {
            Some(rasa) => rasa.turn(action).await,
            None => None,
        }
    }

    /// What a step answered, without what the layout added.
    pub(super) fn answer(&self, action: &Action, id: &ConversationId, reply: Value) -> Value {
        match &self.rasa {
            Some(rasa) => rasa.answer(action, &self.keys.queue(id), reply),
            None => reply,
        }
    }
}

impl Script {
    fn call(&self, by_text: bool) -> Cmd {
        let mut command = Cmd::with_capacity(10, 384);
        if by_text {
            command.arg("EVAL").arg(&self.text);
        } else {
            command.arg("EVALSHA").arg(&self.hash);
        }
        command
    }
}

/// Adds an argument as text, without an allocation of its own.
fn write(command: &mut Cmd, argument: impl fmt::Display) {
    thread_local! {
        static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
    }
    TEXT.with_borrow_mut(|text| {
        text.clear();
        // A `String` takes everything.
        let _ = write!(text, "{argument}");
        command.arg(text.as_str());
    });
}

/// A name for tickets without an owner stands for the ticket that has none.
fn number_of(finish: &Finish) -> Option<u64> {
    match finish.ticket {
        TicketName::Owner(_) => finish.number,
        TicketName::Number(number) => Some(number),
        TicketName::Nobodys => None,
    }
}

/// The begin of a ticket's element, if it is served at once.
struct Begin<'i>(&'i Issue);

impl fmt::Display for Begin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lifetime = micros(self.0.lifetime);
        match self.0.owner {
            Some(owner) => write!(f, "{owner} {lifetime} {lifetime} 0 "),
            None => write!(f, "{NO_OWNER} {lifetime} {lifetime} 0 "),
        }
    }
}

/// How long the key lives if the ticket is served at once. It must not go before
/// its ticket.
struct TimeToLive<'i>(&'i Issue, bool);

impl fmt::Display for TimeToLive<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(issue, repeated) = self;
        if issue.repeated || *repeated || issue.least_token.is_some() {
            return Ok(());
        }
        if !issue.queue {
            f.write_str("-")?;
        }
        write!(f, "{}", micros(issue.lifetime) / 1000 + 1)
    }
}

struct Options<'i>(&'i Issue, bool);

impl fmt::Display for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(issue, repeated) = self;
        write!(
            f,
            "{} {} {} {} ",
            micros(issue.wait_timeout),
            micros(issue.claim_window),
            u8::from(issue.queue),
            u8::from(issue.repeated || *repeated),
        )?;
        match issue.least_token {
            Some(token) => write!(f, "{token}"),
            None => Ok(()),
        }
    }
}

struct Until(Timestamp);

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016}", self.0.as_micros().min(LATEST))
    }
}

struct OrNone(Option<u64>);

impl fmt::Display for OrNone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number}"),
            None => f.write_str(NO_OWNER),
        }
    }
}

/// How `finish.lua` names a ticket.
struct Name(TicketName);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            TicketName::Owner(owner) => write!(f, "{owner} "),
            TicketName::Number(_) => f.write_str("# "),
            TicketName::Nobodys => f.write_str("! "),
        }
    }
}

/// The owner of a step, if it is an owner's.
pub(super) fn owner_of(action: &Action) -> Option<Owner> {
    match action {
        Action::Issue(issue) => issue.owner,
        Action::Claim(claim) | Action::Advance(claim) => Some(claim.owner),
        Action::Finish(finish) => match finish.ticket {
            TicketName::Owner(owner) => Some(owner),
            TicketName::Number(_) | TicketName::Nobodys => None,
        },
        Action::Get | Action::Leave(_) | Action::Delete | Action::Put { .. } => None,
    }
}
