//! How much is read ahead.
//!
//! A ticket costs memory, so only so many are held at once. The second half
//! of them is kept for the first tickets of conversations: a conversation
//! that has none is never kept waiting by the queues of others, and only when
//! there are thousands of conversations at once by their number.

/// How many tickets one conversation may hold at most.
const PER_CONVERSATION: usize = 256;

/// How many bytes of messages may hold a ticket.
const BYTES: usize = 256 << 20;

/// Who may take a ticket.
#[derive(Debug)]
pub(crate) struct Window {
    read_ahead: usize,
    per_conversation: usize,
    messages: usize,
    bytes: usize,
}

impl Window {
    pub(crate) fn new(read_ahead: usize) -> Self {
        Self {
            read_ahead,
            per_conversation: (read_ahead / 8).clamp(1, PER_CONVERSATION),
            messages: 0,
            bytes: 0,
        }
    }

    /// Whether a conversation that holds `ahead` tickets may take another one.
    pub(crate) fn has_room(&self, ahead: usize) -> bool {
        match (self.messages, ahead) {
            (0, _) => true,
            (_, 0) => self.messages < self.read_ahead && self.bytes < BYTES,
            _ => {
                ahead < self.per_conversation
                    && self.messages < self.read_ahead / 2
                    && self.bytes < BYTES / 2
            }
        }
    }

    pub(crate) fn enter(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    pub(crate) fn leave(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_conversation_has_its_share() {
        let mut window = Window::new(80);
        let mut ahead = 0;
        while window.has_room(ahead) {
            window.enter(10);
            ahead += 1;
        }
        assert_eq!(ahead, 10);
        assert!(window.has_room(0));
    }

    #[test]
    fn long_queues_leave_half_of_it_to_first_tickets() {
        let mut window = Window::new(80);
        for _ in 0..40 {
            assert!(window.has_room(1));
            window.enter(10);
        }
        assert!(!window.has_room(1));
        for _ in 0..40 {
            assert!(window.has_room(0));
            window.enter(10);
        }
        assert!(!window.has_room(0));
        window.leave(10);
        assert!(window.has_room(0));
    }

    #[test]
    fn large_messages_count_by_their_bytes() {
        let mut window = Window::new(80);
        window.enter(BYTES / 2);
        assert!(window.has_room(0) && !window.has_room(1));
        window.enter(BYTES / 2);
        assert!(!window.has_room(0));
    }

    #[test]
    fn the_smallest_window_lets_one_message_through_after_the_other() {
        let mut window = Window::new(1);
        assert!(window.has_room(0));
        window.enter(BYTES * 2);
        assert!(!window.has_room(0) && !window.has_room(1));
        window.leave(BYTES * 2);
        assert!(window.has_room(0));
    }
}
