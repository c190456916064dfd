//! Where a proxy cuts a connection.

/// A point at which a [`Proxy`](crate::Proxy) cuts a connection, once.
///
/// It looks at what clients send as it arrives, in chunks of up to 64 KiB. A
/// client that sends one command at a time sends it as one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// What the other side does not get any more.
    pub before: Before,
    /// The bytes of the chunk at which it cuts.
    pub containing: Vec<u8>,
    /// How many chunks that contain them pass first.
    pub after: usize,
}

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// The server does not get the command.
    Command,
    /// The server gets the command, and the client does not get what the
    /// server sends next. That is the reply if nothing else is under way on
    /// the connection. The server carries out whatever it has got.
    Reply,
}

impl Cut {
    /// Loses the first command that contains this.
    #[must_use]
    pub fn command(containing: impl Into<Vec<u8>>) -> Self {
        Self::new(Before::Command, containing.into())
    }

    /// Loses the reply to the first command that contains this.
    #[must_use]
    pub fn reply(containing: impl Into<Vec<u8>>) -> Self {
        Self::new(Before::Reply, containing.into())
    }

    /// Lets that many pass first.
    #[must_use]
    pub fn after(mut self, passed: usize) -> Self {
        self.after = passed;
        self
    }

    fn new(before: Before, containing: Vec<u8>) -> Self {
        assert!(!containing.is_empty(), "nothing to look for");
        Self {
            before,
            containing,
            after: 0,
        }
    }
}

/// The cuts that are still to come.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    pending: Vec<Cut>,
}

impl Cuts {
    pub(crate) fn add(&mut self, cut: Cut) {
        self.pending.push(cut);
    }

    pub(crate) fn clear(&mut self) {
        self.pending.clear();
    }

    /// Counts a chunk for every cut, and returns the first that is due.
    pub(crate) fn due(&mut self, chunk: &[u8]) -> Option<Before> {
        let mut due = None;
        for (index, cut) in self.pending.iter_mut().enumerate() {
            let mut windows = chunk.windows(cut.containing.len());
            if !windows.any(|window| window == cut.containing) {
                continue;
            }
            match cut.after.checked_sub(1) {
                Some(left) => cut.after = left,
                None if due.is_none() => due = Some(index),
                None => {}
            }
        }
        due.map(|index| self.pending.remove(index).before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_due_once_after_those_that_pass() {
        let mut cuts = Cuts::default();
        cuts.add(Cut::command("GET").after(1));
        cuts.add(Cut::reply("GET"));
        assert_eq!(cuts.due(b"SET a"), None);
        assert_eq!(cuts.due(b"GET a"), Some(Before::Reply));
        assert_eq!(cuts.due(b"GET a"), Some(Before::Command));
        assert_eq!(cuts.due(b"GET a"), None);
    }

    #[test]
    fn two_that_are_due_are_so_one_after_the_other() {
        let mut cuts = Cuts::default();
        cuts.add(Cut::command("a"));
        cuts.add(Cut::reply("b"));
        assert_eq!(cuts.due(b"ab"), Some(Before::Command));
        assert_eq!(cuts.due(b"a"), None);
        assert_eq!(cuts.due(b"b"), Some(Before::Reply));
    }
}
