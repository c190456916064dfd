//! The queue of a conversation and its rules: the reference for every backend.
//!
//! Tickets stand in the order in which they were issued. Only the head is
//! served. A ticket is `Waiting` behind others, `Promoted` when it became the
//! head, `Claimed` once its owner answered:
//!
//! ```text
//!  issue, queue empty ─────────────────────────────► Claimed ──┐ claim: lease
//!                                                     ▲    ▲───┘ anew
//!  issue ──► Waiting ──► Promoted ─────── claim ──────┘
//!              │ wait       │ claim window over:        │ lease over
//!              ▼ is over    ▼ its client is dead        ▼
//!            dropped      dropped, with all tickets   dropped
//!                         of that client
//! ```
//!
//! Nothing happens by itself: whoever touches the queue next drops a dead head.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Ticket, TicketState};
use crate::backend::{Claim, Claimed, Finish, Finished, Issue, Issued, TicketName};
use crate::identity::{ConversationId, FencingToken, Owner};
use crate::time::Timestamp;

/// A conversation's queue of tickets, as plain data.
///
/// Every transition is given `now`, and returns what its caller is told; what
/// it did to others is added to [`Changes`]. A backend keeps one of these per
/// conversation, or does the same in another form.
///
/// ```
/// use std::time::Duration;
/// use lock_store::{ConversationId, TicketLock, Timestamp};
///
/// let mut lock = TicketLock::new(ConversationId::new("conversation-42")?);
/// let now = Timestamp::now();
/// assert_eq!(lock.last_issued(now), None);
///
/// let first = lock.issue_ticket(Duration::from_secs(60), now);
/// let second = lock.issue_ticket(Duration::from_secs(60), now);
/// assert!(!lock.is_locked(first, now));
/// assert!(lock.is_locked(second, now));
///
/// lock.remove_ticket_for(first, now);
/// assert_eq!(lock.now_serving(now), Some(second));
/// # Ok::<(), lock_store::LockError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketLock {
    pub(super) conversation_id: ConversationId,
    pub(super) tickets: VecDeque<Ticket>,
    /// The highest token ever given here, also by a queue that was empty since.
    pub(super) last_token: FencingToken,
}

/// What a transition did to tickets other than the caller's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The owner whose turn has come, and who must be woken.
    pub wake: Option<Owner>,
    /// Dead tickets that were dropped from the head.
    pub expired: Vec<Ticket>,
    /// Tickets that were dropped because their client never claimed one.
    pub abandoned: Vec<Ticket>,
    /// Owners of waiting tickets of other clients than the one in `wake`, one of
    /// each client: the first three that can be told check when the claim window
    /// is over, in case that the client in `wake` is dead.
    pub watch: Vec<Owner>,
}

impl TicketLock {
    /// An empty queue.
    pub fn new(conversation_id: ConversationId) -> Self {
        Self::resumed(conversation_id, VecDeque::new(), FencingToken::default())
    }

    /// A queue of these tickets, in this order; its next token is higher than
    /// `last_token` and than each ticket's.
    pub fn resumed(
        conversation_id: ConversationId,
        tickets: VecDeque<Ticket>,
        last_token: FencingToken,
    ) -> Self {
        let highest = tickets.iter().map(|ticket| ticket.fencing_token).max();
        Self {
            conversation_id,
            tickets,
            last_token: last_token.max(highest.unwrap_or_default()),
        }
    }

    /// The conversation that is locked.
    pub fn conversation_id(&self) -> &ConversationId {
        &self.conversation_id
    }

    /// The tickets, head first. Dead ones that nobody has dropped yet are
    /// among them.
    pub fn tickets(&self) -> impl ExactSizeIterator<Item = &Ticket> {
        self.tickets.iter()
    }

    pub(crate) fn raise_last_token(&mut self, token: FencingToken) {
        self.last_token = self.last_token.max(token);
    }

    pub(crate) fn has_ticket_of(&self, owner: Owner) -> bool {
        self.tickets
            .iter()
            .any(|ticket| ticket.owner == Some(owner))
    }

    /// Whether there is no ticket at all.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// The highest fencing token given so far.
    pub fn last_token(&self) -> FencingToken {
        self.last_token
    }

    /// Whether the queue will be empty when this ticket is finished.
    pub(crate) fn is_only_ticket(&self, name: TicketName) -> bool {
        self.tickets.len() == 1 && self.position_of(name).is_some()
    }

    pub(crate) fn into_tickets(self) -> VecDeque<Ticket> {
        self.tickets
    }

    /// Puts a ticket at the end of the queue; in an empty queue it is served
    /// at once.
    pub fn issue(&mut self, issue: &Issue, now: Timestamp, changes: &mut Changes) -> Issued {
        self.drop_dead_heads(now, issue.claim_window, changes);
        if let Some(known) = self.find_repeated(issue) {
            return self.issue_again(known, issue, now, changes);
        }
        if !self.tickets.is_empty() && !issue.queue {
            return Issued::Taken;
        }
        if self.tickets.is_empty() {
            return self.issue_first(issue, now);
        }
        let ahead = self.tickets.len() as u64;
        let behind = self.tickets.back().map(|last| last.fencing_token);
        let (number, token) = self.push(issue, TicketState::Waiting, now + issue.wait_timeout, now);
        Issued::Waiting {
            number,
            fencing_token: token,
            ahead,
            look_again: self.head_dies_in(now),
            behind: behind.unwrap_or_default(),
        }
    }

    /// Issues a ticket in an empty queue: it is served at once.
    pub(crate) fn issue_first(&mut self, issue: &Issue, now: Timestamp) -> Issued {
        let (number, fencing_token) =
            self.push(issue, TicketState::Claimed, now + issue.lifetime, now);
        Issued::Served {
            number,
            fencing_token,
        }
    }

    /// What the head's owner says to start or to extend its lease; what a
    /// waiter asks to learn where it stands.
    pub fn claim(&mut self, claim: &Claim, now: Timestamp, changes: &mut Changes) -> Claimed {
        self.drop_dead_heads(now, claim.claim_window, changes);
        let Some(index) = self.position_of(TicketName::Owner(claim.owner)) else {
            return Claimed::Gone;
        };
        if index > 0 {
            return Claimed::Waiting {
                ahead: index as u64,
                look_again: self.head_dies_in(now),
            };
        }
        if changes.wake == Some(claim.owner) {
            (changes.wake, changes.watch) = (None, Vec::new());
        }
        self.lease_to_head(claim, now)
    }

    /// Removes the tickets that were finished within one process, and claims
    /// the next of that process, which its holder already has (rule 8).
    ///
    /// All tickets ahead of it must be of the same client; otherwise it is told
    /// where it stands, like any other. If it is not there, nothing changes: the
    /// finished ticket stays at the head until its lease ends or its
    /// [`finish`](Self::finish) comes.
    pub fn advance(&mut self, claim: &Claim, now: Timestamp, changes: &mut Changes) -> Claimed {
        let Some(index) = self.position_of(TicketName::Owner(claim.owner)) else {
            return Claimed::Gone;
        };
        let is_own = |ticket: &Ticket| {
            let owner = ticket.owner;
            owner.is_some_and(|owner| owner.client == claim.owner.client)
        };
        if !self.tickets.iter().take(index).all(is_own) {
            return self.claim(claim, now, changes);
        }
        self.tickets.drain(..index);
        self.lease_to_head(claim, now)
    }

    fn lease_to_head(&mut self, claim: &Claim, now: Timestamp) -> Claimed {
        let head = &mut self.tickets[0];
        head.state = TicketState::Claimed;
        head.lifetime = claim.lifetime;
        head.expires = now + claim.lifetime;
        Claimed::Served {
            number: head.number,
            fencing_token: head.fencing_token,
        }
    }

    /// Removes a ticket wherever it stands, and promotes the next.
    ///
    /// The caller deletes the lock when it [is empty](Self::is_empty).
    pub fn finish(&mut self, finish: &Finish, now: Timestamp, changes: &mut Changes) -> Finished {
        self.drop_finished(finish);
        let index = self.position_of(finish.ticket);
        // Its own ticket goes first: a late release is no sign of death.
        let found = index.and_then(|index| self.tickets.remove(index)).is_some();
        self.drop_dead_heads(now, finish.claim_window, changes);
        let next = changes.wake;
        Finished {
            found,
            in_doubt: false,
            next,
        }
    }

    /// Drops every dead ticket at the head and promotes the one that becomes
    /// the head.
    pub fn drop_dead_heads(
        &mut self,
        now: Timestamp,
        claim_window: Duration,
        changes: &mut Changes,
    ) {
        while let Some(head) = self.tickets.front_mut() {
            if !head.has_expired(now) {
                if head.state == TicketState::Waiting {
                    changes.wake = promote(head, now, claim_window);
                    changes.watch = changes.wake.map_or_else(Vec::new, |it| self.watchers(it));
                }
                return;
            }
            // A promotion says nothing about tickets that died unclaimed in
            // the middle of the queue: their owners simply waited too long.
            let unclaimed = head.state == TicketState::Promoted;
            let dead_client = head.owner.filter(|_| unclaimed).map(|owner| owner.client);
            changes.expired.extend(self.tickets.pop_front());
            if let Some(client) = dead_client {
                self.tickets.retain(|ticket| {
                    let of_the_dead = ticket.owner.is_some_and(|owner| owner.client == client);
                    if of_the_dead {
                        changes.abandoned.push(ticket.clone());
                    }
                    !of_the_dead
                });
            }
        }
    }

    /// Drops the tickets at the head that their client finished before, handed
    /// over within its process, and did not tell.
    fn drop_finished(&mut self, finish: &Finish) {
        let (Some(first), Some(number), TicketName::Owner(owner)) =
            (finish.first_finished, finish.number, finish.ticket)
        else {
            return;
        };
        // A ticket of a later queue may have such a number, too. Each lock is
        // handed over to a ticket of a higher sequence.
        let is_before = |of: Owner| of.client == owner.client && of.sequence < owner.sequence;
        let is_finished = |ticket: &Ticket| {
            ticket.owner.is_some_and(is_before) && (first..number).contains(&ticket.number)
        };
        while self.tickets.front().is_some_and(is_finished) {
            self.tickets.pop_front();
        }
    }

    /// Who may find out that the head's owner, `called`, is dead: of the next few
    /// tickets, some from further back, and the last. So it costs nearly the same
    /// however many wait.
    fn watchers(&self, called: Owner) -> Vec<Owner> {
        let doubled = std::iter::successors(Some(16), |index| Some(index * 2));
        let some = (1..=8).chain(doubled.take_while(|index| *index < self.tickets.len()));
        let last = self.tickets.len().saturating_sub(1);
        let mut found: Vec<Owner> = Vec::new();
        for index in some.chain((last > 8).then_some(last)) {
            let ticket = self.tickets.get(index);
            if let Some(owner) = ticket.and_then(|ticket| ticket.owner)
                && owner.client != called.client
                && !found.iter().any(|known| known.client == owner.client)
            {
                found.push(owner);
            }
        }
        found
    }

    fn find_repeated(&self, issue: &Issue) -> Option<usize> {
        let owner = issue.owner.filter(|_| issue.repeated)?;
        self.position_of(TicketName::Owner(owner))
    }

    fn issue_again(
        &mut self,
        index: usize,
        issue: &Issue,
        now: Timestamp,
        changes: &mut Changes,
    ) -> Issued {
        let before = index
            .checked_sub(1)
            .and_then(|index| self.tickets.get(index));
        let behind = before.map(|ticket| ticket.fencing_token);
        let ticket = &mut self.tickets[index];
        let (number, fencing_token) = (ticket.number, ticket.fencing_token);
        if index > 0 {
            return Issued::Waiting {
                number,
                fencing_token,
                ahead: index as u64,
                look_again: self.head_dies_in(now),
                behind: behind.unwrap_or_default(),
            };
        }
        ticket.state = TicketState::Claimed;
        ticket.lifetime = issue.lifetime;
        ticket.expires = now + issue.lifetime;
        if changes.wake == issue.owner {
            (changes.wake, changes.watch) = (None, Vec::new());
        }
        Issued::Served {
            number,
            fencing_token,
        }
    }

    fn push(
        &mut self,
        issue: &Issue,
        state: TicketState,
        expires: Timestamp,
        now: Timestamp,
    ) -> (u64, FencingToken) {
        let number = self.tickets.back().map_or(0, |last| last.number + 1);
        self.last_token = self.last_token.next(now.as_micros());
        self.last_token = self.last_token.max(issue.least_token.unwrap_or_default());
        self.tickets.push_back(Ticket {
            number,
            expires,
            fencing_token: self.last_token,
            owner: issue.owner,
            lifetime: issue.lifetime,
            state,
        });
        (number, self.last_token)
    }

    /// Most steps are the head's; most others concern a ticket just issued.
    fn position_of(&self, name: TicketName) -> Option<usize> {
        let is_meant = |ticket: &Ticket| match name {
            TicketName::Owner(owner) => ticket.owner == Some(owner),
            TicketName::Number(number) => ticket.number == number,
            TicketName::Nobodys => false,
        };
        if self.tickets.front().is_some_and(is_meant) {
            return Some(0);
        }
        self.tickets.iter().rposition(is_meant)
    }

    fn head_dies_in(&self, now: Timestamp) -> Duration {
        self.tickets
            .front()
            .map_or(Duration::ZERO, |head| head.expires - now)
    }
}

/// Calls a new head. It has the whole claim window to answer, whatever is left
/// of its wait timeout: only an owner that had that chance may be taken for
/// dead. A ticket in Rasa's manner keeps its time, as nobody will claim it.
fn promote(head: &mut Ticket, now: Timestamp, claim_window: Duration) -> Option<Owner> {
    if head.owner.is_some() {
        head.state = TicketState::Promoted;
        head.expires = now + claim_window.min(head.lifetime);
    } else {
        head.state = TicketState::Claimed;
    }
    head.owner
}
