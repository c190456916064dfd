//! What a survey comes to.

use std::time::Duration;

use lock_store::{LockError, LockErrorKind, LockSummary, ServerInfo, TicketState};

/// The locks of a fleet, counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Figures {
    /// Those that have a lock.
    pub(super) conversations: u64,
    /// Those for which somebody waits.
    pub(super) contended: u64,
    /// Tickets behind a head.
    pub(super) waiting: u64,
    /// The most that wait for one conversation.
    pub(super) longest_queue: u64,
    /// Of the tickets that come next.
    pub(super) oldest_wait: Duration,
    /// Of the tickets that are served, since they were issued.
    pub(super) oldest_served: Duration,
    /// Heads that were called and have not answered yet.
    pub(super) called: u64,
    /// Heads that are dead and that nobody has dropped yet.
    pub(super) dead: u64,
    /// Keys of ours that hold no lock.
    pub(super) damaged: u64,
}

impl Figures {
    /// Adds what was seen of one lock. An error that is not about that lock
    /// alone ends the survey.
    pub(super) fn add(&mut self, seen: Result<LockSummary, LockError>) -> Result<(), LockError> {
        match seen {
            Ok(lock) => self.count(&lock),
            Err(error) if error.kind() == LockErrorKind::Corrupt => self.damaged += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn count(&mut self, lock: &LockSummary) {
        self.conversations += 1;
        self.waiting += lock.waiting;
        self.longest_queue = self.longest_queue.max(lock.waiting);
        self.oldest_wait = self.oldest_wait.max(lock.oldest_wait());
        self.oldest_served = self.oldest_served.max(lock.age());
        self.contended += u64::from(lock.waiting > 0);
        self.dead += u64::from(lock.is_dead());
        let called = lock.serving.state == TicketState::Promoted && !lock.is_dead();
        self.called += u64::from(called);
    }

    pub(super) fn keys(&self) -> u64 {
        self.conversations + self.damaged
    }
}

/// How many keys a server has, in all its databases.
pub(super) fn keys_of(server: &ServerInfo) -> u64 {
    // There are 16 of them, unless somebody wants more; those without keys are
    // not named.
    (0..1024)
        .filter_map(|db| keys_in(server.field(&format!("db{db}"))?))
        .sum()
}

/// The number in `keys=1,expires=1,avg_ttl=0`.
fn keys_in(field: &str) -> Option<u64> {
    let mut parts = field.split(',');
    parts.find_map(|part| part.strip_prefix("keys=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_what_a_server_says() {
        assert_eq!(keys_in("keys=12,expires=3,avg_ttl=0"), Some(12));
        assert_eq!(keys_in("expires=3"), None);
    }

    #[test]
    fn damage_is_counted_and_an_outage_ends_it() {
        let mut figures = Figures::default();
        figures.add(Err(LockError::corrupt("a"))).unwrap();
        assert_eq!((figures.damaged, figures.keys()), (1, 1));
        let away = figures.add(Err(LockError::unavailable("away")));
        assert!(away.unwrap_err().is_unavailable());
    }
}
