//! What the reference does in a step, and whether Redis did the same.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use lock_store::{Changes, Owner, Ticket, TicketLock, TicketState, Timestamp};

use super::Call;
use super::step::{Step, Told};

/// What `put` uses.
const DEFAULT_WINDOW: Duration = lock_store::DEFAULT_CLAIM_WINDOW;

/// Why Redis cannot have done it at that moment.
#[derive(Debug)]
#[allow(dead_code)] // for `Debug`
pub struct Mismatch {
    pub at: Timestamp,
    pub what: String,
    /// When the last of the tickets dies that should be there.
    pub dead_by: Option<Timestamp>,
}

/// What the reference does at this moment, if that is what Redis did.
pub fn outcome(
    before: &TicketLock,
    step: &Step,
    told: Told,
    stored: &[Ticket],
    calls: &[Call],
    now: Timestamp,
    between: (Timestamp, Timestamp),
) -> Result<Changes, Mismatch> {
    let mut lock = before.clone();
    let compared = outcome_of(before, &mut lock, step, told, stored, calls, now, between);
    compared.map_err(|what| Mismatch {
        at: now,
        what,
        dead_by: lock.tickets().map(|ticket| ticket.expires).max(),
    })
}

#[allow(clippy::too_many_arguments)]
fn outcome_of(
    before: &TicketLock,
    lock: &mut TicketLock,
    step: &Step,
    told: Told,
    stored: &[Ticket],
    calls: &[Call],
    now: Timestamp,
    (earliest, latest): (Timestamp, Timestamp),
) -> Result<Changes, String> {
    let mut changes = Changes::default();
    let id = before.conversation_id();
    let mut gone: Vec<Owner> = Vec::new();
    let (expected, caller) = match step {
        Step::Issue(issue) => (lock.issue(issue, now, &mut changes).into(), issue.owner),
        Step::Claim(claim) => (
            lock.claim(claim, now, &mut changes).into(),
            Some(claim.owner),
        ),
        Step::Advance(claim) => (
            lock.advance(claim, now, &mut changes).into(),
            Some(claim.owner),
        ),
        Step::Finish(finish) => {
            let finished = lock.finish(finish, now, &mut changes);
            (Told::Finished(finished), None)
        }
        Step::Put(tickets) => {
            let last_token = lock.last_token();
            *lock = TicketLock::resumed(id.clone(), tickets.clone().into(), last_token);
            lock.drop_dead_heads(now, DEFAULT_WINDOW, &mut changes);
            (Told::Nothing, None)
        }
        Step::Delete => {
            let existed = !lock.is_empty();
            *lock = TicketLock::resumed(id.clone(), VecDeque::new(), lock.last_token());
            (Told::Deleted(existed), None)
        }
    };
    if let Step::Put(_) | Step::Delete = step {
        let left = |owner: Owner| lock.tickets().any(|t| t.owner == Some(owner));
        let had = before.tickets().filter_map(|ticket| ticket.owner);
        gone.extend(had.filter(|owner| !left(*owner)));
    }
    let dropped = changes.expired.iter().chain(&changes.abandoned);
    gone.extend(dropped.filter_map(|ticket| ticket.owner));
    let woken = changes.wake.filter(|woken| Some(*woken) != caller);
    let mut expected_calls: Vec<Call> = gone.into_iter().map(|owner| (false, owner)).collect();
    expected_calls.extend(woken.map(|owner| (true, owner)));
    expected_calls.sort_unstable();
    let mut calls = calls.to_vec();
    if let Step::Put(_) = step {
        // One that is dropped twice over may be told twice.
        calls.dedup();
        expected_calls.dedup();
    }
    if calls != expected_calls {
        return Err(format!("calls {expected_calls:?}"));
    }

    // When it was, by all that it dated.
    let mut dates = Vec::new();
    compare(before.tickets(), lock.tickets(), stored, now, &mut dates)?;
    if let Some(date) = compare_told(expected, told, now, stored)? {
        dates.push(date);
    }
    dates.sort_unstable();
    dates.dedup();
    let in_time = dates.iter().all(|date| (earliest..=latest).contains(date));
    if dates.len() > 1 || !in_time {
        return Err(format!("dates {dates:?}"));
    }
    Ok(changes)
}

/// That what is stored is what is expected; finds the dates of what is new.
fn compare<'t>(
    before: impl Iterator<Item = &'t Ticket>,
    expected: impl ExactSizeIterator<Item = &'t Ticket>,
    stored: &[Ticket],
    now: Timestamp,
    dates: &mut Vec<Timestamp>,
) -> Result<(), String> {
    let before: BTreeMap<_, _> = before
        .map(|ticket| (ticket.fencing_token, ticket))
        .collect();
    if expected.len() != stored.len() {
        return Err(format!("{} tickets", expected.len()));
    }
    for (expected, stored) in expected.zip(stored) {
        let known = before.get(&expected.fencing_token);
        let same = (
            expected.number,
            expected.owner,
            expected.state,
            expected.lifetime,
        ) == (stored.number, stored.owner, stored.state, stored.lifetime);
        if !same {
            return Err(format!("{expected:?}"));
        }
        if known.is_none() && expected.fencing_token.get() == now.as_micros() {
            dates.push(Timestamp::from_micros(stored.fencing_token.get()));
        } else if expected.fencing_token != stored.fencing_token {
            return Err(format!("{expected:?}"));
        }
        if known.is_some_and(|known| known.expires == expected.expires) {
            if stored.expires != expected.expires {
                return Err(format!("{expected:?}"));
            }
        } else {
            // It was dated by the moment of the step.
            let span = expected.expires - now;
            dates
                .push(Timestamp::from_micros(0) + (stored.expires - (Timestamp::default() + span)));
        }
    }
    Ok(())
}

/// That an answer is what is expected; finds its date, if it has one.
fn compare_told(
    expected: Told,
    told: Told,
    now: Timestamp,
    stored: &[Ticket],
) -> Result<Option<Timestamp>, String> {
    let wrong = || Err(format!("told {expected:?}"));
    match (expected, told) {
        (
            Told::Served { number, token },
            Told::Served {
                number: told,
                token: by,
            },
        ) => {
            let head = stored.first();
            let is_stored = head.is_some_and(|head| {
                (head.number, head.fencing_token.get(), head.state)
                    == (told, by, TicketState::Claimed)
            });
            if number != told || !is_stored || (token != by && token != now.as_micros()) {
                return wrong();
            }
            Ok(None)
        }
        (
            Told::Waiting { ticket, ahead, .. },
            Told::Waiting {
                ticket: told,
                ahead: told_ahead,
                look_again,
            },
        ) => {
            if ahead != told_ahead || ticket.map(|t| t.0) != told.map(|t| t.0) {
                return wrong();
            }
            let place = usize::try_from(ahead).unwrap();
            let token = stored.get(place).map(|ticket| ticket.fencing_token.get());
            if told.is_some() && told.map(|t| t.1) != token {
                return wrong();
            }
            let head_dies = stored[0].expires - Timestamp::default();
            let date = head_dies.checked_sub(look_again);
            Ok(Some(Timestamp::default() + date.unwrap_or_default()))
        }
        (expected, told) if expected == told => Ok(None),
        _ => wrong(),
    }
}
