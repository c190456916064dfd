//! A ticket as an element of a list in Redis; see `lua/queue.lua`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::LockError;
use crate::identity::{ConversationId, FencingToken, Owner};
use crate::ticket::{Ticket, TicketLock, TicketState};
use crate::time::Timestamp;

/// The owner of a ticket that is known by its number alone.
pub(super) const NO_OWNER: &str = "-";

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn owner_text(owner: Option<Owner>) -> String {
    owner.map_or_else(|| NO_OWNER.to_owned(), |owner| owner.to_string())
}

/// Writes a ticket as it stands.
pub(super) fn write(ticket: &Ticket) -> String {
    let state = match ticket.state {
        TicketState::Waiting => 'W',
        TicketState::Promoted => 'P',
        TicketState::Claimed => 'C',
    };
    format!(
        "{} {} 0 {} {} {} {state}",
        owner_text(ticket.owner),
        micros(ticket.lifetime),
        ticket.number,
        ticket.fencing_token,
        ticket.expires.as_micros(),
    )
}

/// The element of a ticket that was served in an empty queue, to the letter.
pub(super) fn uncontended(owner: Owner, lifetime: Duration, token: FencingToken) -> String {
    let lifetime = micros(lifetime);
    format!("{owner} {lifetime} {lifetime} 0 {token} {token} C")
}

/// Reads a ticket; `None` if it is damaged.
pub(super) fn read(element: &str) -> Option<Ticket> {
    let mut fields = element.split(' ');
    let owner = match fields.next()? {
        NO_OWNER => None,
        text => Some(text.parse().ok()?),
    };
    let mut number = || fields.next()?.parse::<u64>().ok();
    let (lifetime, span, number, token, since) =
        (number()?, number()?, number()?, number()?, number()?);
    let state = match (fields.next()?, fields.next()) {
        ("W", None) => TicketState::Waiting,
        ("P", None) => TicketState::Promoted,
        ("C" | "F", None) => TicketState::Claimed,
        _ => return None,
    };
    Some(Ticket {
        number,
        expires: Timestamp::from_micros(since) + Duration::from_micros(span),
        fencing_token: FencingToken::new(token),
        owner,
        lifetime: Duration::from_micros(lifetime),
        state,
    })
}

/// Reads a whole queue.
pub(super) fn read_queue(
    id: &ConversationId,
    key: &str,
    elements: &[Vec<u8>],
) -> Result<TicketLock, LockError> {
    let mut tickets = VecDeque::with_capacity(elements.len());
    for (index, element) in elements.iter().enumerate() {
        let text = String::from_utf8_lossy(element);
        let ticket =
            read(&text).ok_or_else(|| damaged(id, key, &format!("at index {index} {text}")))?;
        tickets.push_back(ticket);
    }
    Ok(TicketLock::resumed(
        id.clone(),
        tickets,
        FencingToken::default(),
    ))
}

/// What is under a key of ours is not a queue of tickets.
pub(super) fn damaged(id: &ConversationId, key: &str, found: &str) -> LockError {
    let found: String = found.chars().take(200).collect();
    LockError::corrupt(format!("the key {key:?} has {found:?}")).for_conversation(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_read_as_it_was_written() {
        for owner in [None, Some("00000000000000ab.7".parse().unwrap())] {
            let ticket = Ticket {
                number: 3,
                expires: Timestamp::from_micros(1_763_920_060_000_000),
                fencing_token: FencingToken::new(1_763_920_000_500_000),
                owner,
                lifetime: Duration::from_secs(60),
                state: TicketState::Promoted,
            };
            assert_eq!(read(&write(&ticket)), Some(ticket));
        }
    }

    #[test]
    fn damage_is_noticed() {
        let whole = "00000000000000ab.7 60000000 60000000 0 1763920000500000 1763920000500000 C";
        assert!(read(whole).is_some());
        for damaged in [
            "",
            "{\"number\": 0}",
            &whole[..whole.len() - 2],
            &whole.replace('C', "X"),
            &format!("{whole} C"),
            &whole.replace(" 0 ", " x "),
            &whole.replace(".7", ""),
        ] {
            assert_eq!(read(damaged), None, "{damaged}");
        }
    }
}
