//! A temporary file for the messages of conversations with a long queue.
//!
//! The messages of a conversation are a chain of records. Each record holds
//! where the next one of its conversation is, which is filled in when that is
//! appended, so that a conversation costs a [`Chain`] in memory however many
//! messages it has here. Nothing is reused before everything was taken out;
//! then the file is cut off.
//!
//! A record: the position of the next (8 bytes, 0 as long as there is none),
//! `seq` (8 bytes), the length of the line (8 bytes), the line. All numbers
//! are little-endian.
//!
//! Reads and writes meet the page cache, so they are done where they are
//! needed, and not on a thread for blocking work.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

const HEADER: usize = 24;

/// Position 0 holds no record, so that 0 can mean that there is none.
const START: u64 = 8;

/// The file. Has no name, and is gone when this process is.
#[derive(Debug)]
pub(crate) struct Spool {
    /// Made when it is first needed.
    file: Option<File>,
    end: u64,
    records: u64,
}

/// What a conversation has in the spool.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    head: u64,
    tail: u64,
    records: u64,
    seqs: (u64, u64),
}

impl Chain {
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn len(&self) -> u64 {
        self.records
    }

    /// `seq` of the first and the last message.
    pub(crate) fn seqs(&self) -> (u64, u64) {
        self.seqs
    }
}

impl Spool {
    pub(crate) fn new() -> Self {
        Self {
            file: None,
            end: START,
            records: 0,
        }
    }

    /// Appends a message to the end of `chain`. Upon an error it is not there,
    /// and all others are.
    pub(crate) fn push(&mut self, chain: &mut Chain, seq: u64, line: &str) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile()?),
        };
        let length = line.len() as u64;
        let mut record = Vec::with_capacity(HEADER + line.len());
        record.extend_from_slice(&0u64.to_le_bytes());
        record.extend_from_slice(&seq.to_le_bytes());
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(line.as_bytes());
        let position = self.end;
        file.write_all_at(&record, position)?;
        if chain.is_empty() {
            chain.head = position;
            chain.seqs.0 = seq;
        } else {
            file.write_all_at(&position.to_le_bytes(), chain.tail)?;
        }
        chain.tail = position;
        chain.seqs.1 = seq;
        chain.records += 1;
        self.end += record.len() as u64;
        self.records += 1;
        Ok(())
    }

    /// Takes the first message of `chain` out: `seq` and the line.
    pub(crate) fn pop(&mut self, chain: &mut Chain) -> io::Result<Option<(u64, Box<str>)>> {
        let Some(file) = self.file.as_ref().filter(|_| !chain.is_empty()) else {
            return Ok(None);
        };
        let [next, seq, length] = header(file, chain.head)?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut line = vec![0; length];
        file.read_exact_at(&mut line, chain.head + HEADER as u64)?;
        let line = String::from_utf8(line).map_err(io::Error::other)?;
        if chain.records == 1 {
            *chain = Chain::default();
        } else {
            chain.seqs.0 = header(file, next)?[1];
            chain.head = next;
            chain.records -= 1;
        }
        self.records -= 1;
        if self.records == 0 && file.set_len(0).is_ok() {
            self.end = START;
        }
        Ok(Some((seq, line.into())))
    }
}

fn header(file: &File, position: u64) -> io::Result<[u64; 3]> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, position)?;
    let (numbers, _) = header.as_chunks::<8>();
    Ok([0, 1, 2].map(|i| u64::from_le_bytes(numbers[i])))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use super::*;

    fn size(spool: &Spool) -> u64 {
        spool.file.as_ref().unwrap().metadata().unwrap().len()
    }

    #[test]
    fn no_file_is_made_before_it_is_needed() {
        let mut spool = Spool::new();
        assert_eq!(spool.pop(&mut Chain::default()).unwrap(), None);
        assert!(spool.file.is_none());
    }

    #[test]
    fn a_chain_is_first_in_first_out() {
        let mut spool = Spool::new();
        let mut chain = Chain::default();
        for seq in 3..6 {
            spool
                .push(&mut chain, seq, &format!("línea {seq}"))
                .unwrap();
        }
        assert_eq!((chain.len(), chain.seqs()), (3, (3, 5)));
        assert_eq!(spool.pop(&mut chain).unwrap(), Some((3, "línea 3".into())));
        assert_eq!((chain.len(), chain.seqs()), (2, (4, 5)));
        spool.push(&mut chain, 9, "").unwrap();
        assert_eq!(spool.pop(&mut chain).unwrap(), Some((4, "línea 4".into())));
        assert_eq!(spool.pop(&mut chain).unwrap(), Some((5, "línea 5".into())));
        assert_eq!(spool.pop(&mut chain).unwrap(), Some((9, "".into())));
        assert_eq!(spool.pop(&mut chain).unwrap(), None);
        assert_eq!(chain, Chain::default());
    }

    #[test]
    fn the_file_is_cut_off_when_all_is_taken_out() {
        let mut spool = Spool::new();
        let (mut a, mut b) = (Chain::default(), Chain::default());
        for round in 0..3 {
            spool.push(&mut a, round, &"x".repeat(1000)).unwrap();
            spool.push(&mut b, round, "y").unwrap();
            assert_eq!(size(&spool), START + 2 * HEADER as u64 + 1001);
            spool.pop(&mut a).unwrap();
            assert_ne!(size(&spool), 0);
            spool.pop(&mut b).unwrap();
            assert_eq!(size(&spool), 0);
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_messages_of_a_conversation() {
        // All that is held for a conversation and for the file are these two,
        // and neither has anything on the heap.
        const fn is_plain<T: Copy>() {}
        const { is_plain::<(u64, u64, u64, (u64, u64))>() };
        assert_eq!(size_of::<Chain>(), size_of::<(u64, u64, u64, (u64, u64))>());
        assert!(size_of::<Spool>() <= 32);
    }

    /// Many chains, pushed and popped in a fixed but irregular pattern, do as
    /// queues in memory do.
    #[test]
    fn chains_are_kept_apart() {
        let mut spool = Spool::new();
        let mut chains: HashMap<u64, Chain> = HashMap::new();
        let mut model: HashMap<u64, VecDeque<(u64, Box<str>)>> = HashMap::new();
        let mut random = 42u64;
        for seq in 0..20_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let id = (random >> 33) % 17;
            let chain = chains.entry(id).or_default();
            let queue = model.entry(id).or_default();
            // More is pushed at first, more is popped in the end.
            if (random >> 40) % 20_000 > seq {
                let line: Box<str> = "ü".repeat((random >> 50) as usize % 40).into();
                spool.push(chain, seq, &line).unwrap();
                queue.push_back((seq, line));
            } else {
                assert_eq!(spool.pop(chain).unwrap(), queue.pop_front());
            }
            assert_eq!(chain.len(), queue.len() as u64);
        }
        for (id, mut queue) in model {
            let chain = chains.get_mut(&id).unwrap();
            while let Some(expected) = queue.pop_front() {
                assert_eq!(spool.pop(chain).unwrap(), Some(expected));
            }
            assert!(chain.is_empty());
        }
        assert_eq!(size(&spool), 0);
    }
}
