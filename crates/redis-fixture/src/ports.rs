//! Free ports, each for one server only.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below the ports that the kernel gives to outgoing connections, 32768 and
/// above by default. Of those, somebody could take the port of a server that
/// is down, even the client that tries to reach it: it would connect to itself.
const RANGE: Range<u16> = 10_000..20_000;

/// Where the bus of a cluster's node is, relative to its port. It is below
/// the ports of outgoing connections, too, and outside of the range above.
pub(crate) const BUS: u16 = 10_000;

/// A port of 127.0.0.1 that no other fixture takes until this is dropped, not
/// even while nothing listens there.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Its lock tells the fixtures of all processes.
    _claim: File,
}

impl Port {
    /// A port at which nothing listens.
    pub(crate) fn free() -> Self {
        Self::where_free(&[0])
    }

    /// A port for a cluster's node, whose bus is free as well.
    pub(crate) fn free_with_bus() -> Self {
        Self::where_free(&[0, BUS])
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    fn where_free(offsets: &[u16]) -> Self {
        let count = RANGE.end - RANGE.start;
        // A new hasher is random: so others look elsewhere first.
        let random = RandomState::new().hash_one(0);
        let first = u16::try_from(random % u64::from(count)).unwrap();
        (0..count)
            .map(|step| RANGE.start + (first + step) % count)
            .find_map(|number| {
                let claim = claim(number)?;
                let is_free = |offset: &u16| listens_not(number + offset);
                offsets.iter().all(is_free).then_some(Self {
                    number,
                    _claim: claim,
                })
            })
            .expect("a free port of 127.0.0.1")
    }
}

/// The locked file of a port, unless another has it. The files stay: who
/// deleted one could delete one that another has just locked.
fn claim(number: u16) -> Option<File> {
    let folder = std::env::temp_dir().join("redis-fixture-ports");
    fs::create_dir_all(&folder).expect("a folder for the ports that are taken");
    // Another user's file cannot be opened, so that port is not for us.
    let file = File::create(folder.join(number.to_string())).ok()?;
    file.try_lock().ok()?;
    Some(file)
}

fn listens_not(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: Vec<_> = (0..200).map(|_| Port::free()).collect();
        let mut numbers: Vec<_> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), ports.len());
    }

    #[test]
    fn a_claim_excludes_others_until_it_is_dropped() {
        let port = Port::free();
        assert!(claim(port.number()).is_none());
        let number = port.number();
        drop(port);
        // Another test may claim it, but not for ever.
        crate::until("the port can be claimed", || claim(number).is_some());
    }

    #[test]
    fn the_bus_is_free_too() {
        let port = Port::free_with_bus();
        assert!(listens_not(port.number() + BUS));
    }
}
