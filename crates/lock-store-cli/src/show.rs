//! `lock-store show`: one queue, ticket by ticket.

use lock_store::{Inspection, Ticket};
use serde::Serialize;

use crate::args::ShowArgs;
use crate::fleet::{self, DONE, NOT_SO, Output, owner};
use crate::log::Log;
use crate::people::{Plain, Span, Table, count};
use crate::screen::Screen;

/// The document in JSON.
#[derive(Serialize)]
struct Document<'d> {
    conversation_id: &'d str,
    waiting: usize,
    time_to_live_seconds: Option<f64>,
    tickets: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    ticket: u64,
    state: &'static str,
    expired: bool,
    fencing_token: u64,
    owner: Option<String>,
    alive: Option<bool>,
    age_seconds: f64,
    left_seconds: f64,
    lifetime_seconds: f64,
}

/// Shows it, and returns the exit code.
pub(crate) async fn run(args: &ShowArgs, screen: &Screen, log: &Log) -> anyhow::Result<u8> {
    let fleet = fleet::open(&args.connection, "show", log).await?;
    let seen = match fleet.redis.inspect(&args.id).await {
        Ok(Some(seen)) if !seen.lock.is_empty() => seen,
        Ok(_) => {
            log.error(format_args!("the conversation {:?} has no lock", args.id));
            return Ok(NOT_SO);
        }
        Err(error) if error.is_unavailable() => return Err(error.into()),
        Err(error) => {
            log.error(format_args!("{error}"));
            return Ok(NOT_SO);
        }
    };
    let mut output = Output::open(screen)?;
    if args.json {
        output.json(&document(&seen))?;
    } else {
        for_people(&seen, &mut output)?;
    }
    output.end()?;
    Ok(DONE)
}

fn for_people(seen: &Inspection, output: &mut Output) -> anyhow::Result<()> {
    let id = Plain(seen.lock.conversation_id().as_str());
    let waiting = seen.lock.tickets().len().saturating_sub(1) as u64;
    output.line(format_args!("conversation  {id}"))?;
    if let Some(next) = seen.lock.tickets().nth(1) {
        output.line(format_args!(
            "waiting       {}, the next for {}",
            count(waiting, "ticket"),
            Span(seen.age(next))
        ))?;
    } else {
        output.line(format_args!("waiting       nobody"))?;
    }
    match seen.time_to_live {
        Some(left) => output.line(format_args!("time to live  {}", Span(left)))?,
        None => output.line(format_args!(
            "time to live  none: this key does not go by itself, as it should"
        ))?,
    };
    output.line(format_args!("\n{}", table(seen).to_string().trim_end()))?;
    Ok(())
}

fn table(seen: &Inspection) -> Table<7> {
    let mut table = Table::new([
        ">TICKET",
        "STATE",
        ">TAKEN",
        ">LEFT",
        "FENCING TOKEN",
        "OWNER",
        "ALIVE",
    ]);
    for ticket in seen.lock.tickets() {
        table.add([
            ticket.number.to_string(),
            ticket.state.as_str().to_owned(),
            format!("{} ago", Span(seen.age(ticket))),
            if ticket.has_expired(seen.now) {
                "expired".to_owned()
            } else {
                Span(ticket.expires - seen.now).to_string()
            },
            ticket.fencing_token.to_string(),
            owner(ticket),
            alive(seen, ticket).to_owned(),
        ]);
    }
    table
}

/// Whether the process behind a ticket is there, in a word.
fn alive(seen: &Inspection, ticket: &Ticket) -> &'static str {
    match seen.is_alive(ticket) {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    }
}

fn document(seen: &Inspection) -> Document<'_> {
    let tickets: Vec<_> = seen.lock.tickets().map(|t| line(seen, t)).collect();
    Document {
        conversation_id: seen.lock.conversation_id().as_str(),
        waiting: tickets.len().saturating_sub(1),
        time_to_live_seconds: seen.time_to_live.map(|left| left.as_secs_f64()),
        tickets,
    }
}

fn line(seen: &Inspection, ticket: &Ticket) -> Line {
    Line {
        ticket: ticket.number,
        state: ticket.state.as_str(),
        expired: ticket.has_expired(seen.now),
        fencing_token: ticket.fencing_token.get(),
        owner: ticket.owner.map(|owner| owner.to_string()),
        alive: seen.is_alive(ticket),
        age_seconds: seen.age(ticket).as_secs_f64(),
        left_seconds: (ticket.expires - seen.now).as_secs_f64(),
        lifetime_seconds: ticket.lifetime.as_secs_f64(),
    }
}
