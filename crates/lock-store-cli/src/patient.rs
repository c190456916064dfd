//! Reading and writing that wait where they would block.
//!
//! Whether a descriptor blocks is not ours to choose: it belongs to whoever
//! shares it, such as the parent, or what is at the other end of a terminal.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A file that blocks, whatever its descriptor is set to.
#[derive(Debug)]
pub(crate) struct Patient<T>(pub(crate) T);

impl<T: Read + AsFd> Read for Patient<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_for(&self.0, PollFlags::POLLIN)?;
                }
                read => return read,
            }
        }
    }
}

impl<T: Write + AsFd> Write for Patient<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_for(&self.0, PollFlags::POLLOUT)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Waits until there may be something to do. Resolves at an end and at an
/// error, too: what is tried next tells which.
fn wait_for(file: &impl AsFd, what: PollFlags) -> io::Result<()> {
    let mut polled = [PollFd::new(file.as_fd(), what)];
    match poll(&mut polled, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
