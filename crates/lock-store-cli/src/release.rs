//! `lock-store release`: a ticket is taken away from its owner.

use std::fmt;
use std::io::{self, IsTerminal as _};

use anyhow::bail;
use lock_store::{Inspection, RedisLockStore, Ticket, TicketState};
use serde::Serialize;

use crate::args::ReleaseArgs;
use crate::connection::Fleet;
use crate::fleet::{self, DONE, NOT_SO, Output, owner};
use crate::log::Log;
use crate::people::{Plain, Span, count};
use crate::screen::Screen;

/// The document in JSON.
#[derive(Serialize)]
struct Document<'d> {
    conversation_id: &'d str,
    released: &'d [u64],
    gone: &'d [u64],
    serving: Option<u64>,
    waiting: usize,
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    released: Vec<u64>,
    /// They had left by themselves.
    gone: Vec<u64>,
}

/// Takes it away, and returns the exit code.
pub(crate) async fn run(args: &ReleaseArgs, screen: &Screen, log: &Log) -> anyhow::Result<u8> {
    let can_ask = io::stdin().is_terminal() && Screen::is_terminal();
    if !args.yes && !can_ask {
        bail!(
            "nobody can be asked here, as this is no terminal; say --yes to release without asking"
        );
    }
    let fleet = fleet::open(&args.connection, "release", log).await?;
    let Some(seen) = look(&fleet.redis, args, log).await? else {
        return Ok(NOT_SO);
    };
    let chosen = match choose(&seen, args) {
        Ok(chosen) => chosen,
        Err(why) => {
            log.error(format_args!("{why}"));
            return Ok(NOT_SO);
        }
    };
    for ticket in &chosen {
        screen.say(format_args!(
            "{}",
            Shown {
                ticket,
                seen: &seen
            }
        ));
    }
    if !args.yes && !agreed(&chosen, args, screen)? {
        screen.say(format_args!("nothing was taken away"));
        return Ok(NOT_SO);
    }
    let outcome = take_away(&fleet, args, &chosen).await?;
    tell(&outcome, args, &fleet.redis, screen).await?;
    let all = outcome.released.len() == chosen.len();
    Ok(if all { DONE } else { NOT_SO })
}

/// The queue, or an error that was said.
async fn look(
    redis: &RedisLockStore,
    args: &ReleaseArgs,
    log: &Log,
) -> anyhow::Result<Option<Inspection>> {
    match redis.inspect(&args.id).await {
        Ok(Some(seen)) if !seen.lock.is_empty() => return Ok(Some(seen)),
        Ok(_) => log.error(format_args!("the conversation {:?} has no lock", args.id)),
        Err(error) if error.is_unavailable() => return Err(error.into()),
        Err(error) => log.error(format_args!("{error}")),
    }
    Ok(None)
}

fn choose(seen: &Inspection, args: &ReleaseArgs) -> Result<Vec<Ticket>, String> {
    if args.all {
        return Ok(seen.lock.tickets().cloned().collect());
    }
    let mut tickets = seen.lock.tickets();
    let Some(number) = args.ticket else {
        return Ok(tickets.take(1).cloned().collect());
    };
    match tickets.find(|ticket| ticket.number == number) {
        Some(ticket) => Ok(vec![ticket.clone()]),
        None => Err(format!(
            "the conversation {:?} has no ticket {number}, but {}",
            args.id,
            numbers(seen.lock.tickets().map(|ticket| ticket.number))
        )),
    }
}

/// What is about to be taken away.
struct Shown<'s> {
    ticket: &'s Ticket,
    seen: &'s Inspection,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ticket, seen } = self;
        let id = Plain(seen.lock.conversation_id().as_str());
        let state = match ticket.state {
            TicketState::Claimed => "holds the lock",
            TicketState::Promoted => "was called and has not answered yet",
            TicketState::Waiting => "waits",
        };
        let process = match seen.is_alive(ticket) {
            Some(true) => "whose process is there",
            Some(false) => "whose process is not there",
            None => "of whose process nothing is known",
        };
        write!(
            f,
            "ticket {} of {id} {state}, taken {} ago by {}, {process}",
            ticket.number,
            Span(seen.age(ticket)),
            owner(ticket)
        )
    }
}

fn agreed(chosen: &[Ticket], args: &ReleaseArgs, screen: &Screen) -> anyhow::Result<bool> {
    let what = match chosen {
        [ticket] => format!("ticket {}", ticket.number),
        _ => format!("all {}", count(chosen.len() as u64, "ticket")),
    };
    let id = Plain(args.id.as_str());
    screen.ask(format_args!("Take {what} of {id} away? [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    let answer = answer.trim().to_lowercase();
    Ok(answer == "y" || answer == "yes")
}

/// The last one first, so that nobody is called whose ticket is taken away
/// next.
async fn take_away(
    fleet: &Fleet,
    args: &ReleaseArgs,
    chosen: &[Ticket],
) -> anyhow::Result<Outcome> {
    let claim_window = fleet.config.timing.claim_window;
    let mut outcome = Outcome::default();
    for ticket in chosen.iter().rev() {
        let taken = fleet.redis.take_away(&args.id, ticket, claim_window);
        if taken.await? {
            outcome.released.push(ticket.number);
        } else {
            outcome.gone.push(ticket.number);
        }
    }
    outcome.released.reverse();
    outcome.gone.reverse();
    Ok(outcome)
}

async fn tell(
    outcome: &Outcome,
    args: &ReleaseArgs,
    redis: &RedisLockStore,
    screen: &Screen,
) -> anyhow::Result<()> {
    let now = redis.inspect(&args.id).await?;
    let tickets = now.as_ref().map_or(0, |seen| seen.lock.tickets().len());
    let serving = now.as_ref().and_then(|seen| seen.lock.tickets().next());
    let waiting = tickets.saturating_sub(1);
    let mut output = Output::open(screen)?;
    if args.json {
        output.json(&Document {
            conversation_id: args.id.as_str(),
            released: &outcome.released,
            gone: &outcome.gone,
            serving: serving.map(|ticket| ticket.number),
            waiting,
        })?;
        output.end()?;
        return Ok(());
    }
    if !outcome.released.is_empty() {
        let released = numbers(outcome.released.iter().copied());
        output.line(format_args!("taken away: {released}"))?;
    }
    if !outcome.gone.is_empty() {
        let gone = numbers(outcome.gone.iter().copied());
        output.line(format_args!("gone by itself meanwhile: {gone}"))?;
    }
    match serving {
        Some(ticket) => output.line(format_args!(
            "served now: ticket {}, with {waiting} waiting behind it",
            ticket.number
        ))?,
        None => output.line(format_args!("served now: nobody, the queue is empty"))?,
    };
    output.end()?;
    Ok(())
}

/// `ticket 3`, `the tickets 3-5`, `the tickets 3, 5 and 9`.
fn numbers(numbers: impl Iterator<Item = u64>) -> String {
    let numbers: Vec<_> = numbers.collect();
    match &numbers[..] {
        [] => "none".to_owned(),
        [one] => format!("ticket {one}"),
        [first, .., last] if last - first + 1 == numbers.len() as u64 => {
            format!("the tickets {first}-{last}")
        }
        [most @ .., last] => {
            let most: Vec<_> = most.iter().map(u64::to_string).collect();
            format!("the tickets {} and {last}", most.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_where_they_can_be() {
        let text = |list: &[u64]| numbers(list.iter().copied());
        assert_eq!(text(&[]), "none");
        assert_eq!(text(&[3]), "ticket 3");
        assert_eq!(text(&[3, 4, 5]), "the tickets 3-5");
        assert_eq!(text(&[3, 5, 9]), "the tickets 3, 5 and 9");
    }
}
