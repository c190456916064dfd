//! A connection through the proxy.

use std::io::{self, Read as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A connection and its continuation.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) number: usize,
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
    /// Whether the client gets nothing more.
    withholds: Mutex<bool>,
}

impl Link {
    pub(crate) fn new(number: usize, client: TcpStream, target: &str) -> io::Result<Self> {
        let server = TcpStream::connect(target)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok(Self {
            number,
            client,
            server,
            withholds: Mutex::new(false),
        })
    }

    /// The address by which the server knows the client.
    pub(crate) fn known_as(&self) -> String {
        let address = self.server.local_addr();
        address.map_or_else(|_| String::new(), |address| address.to_string())
    }

    pub(crate) fn withholds(&self) -> MutexGuard<'_, bool> {
        let withholds = self.withholds.lock();
        withholds.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn close(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

pub(crate) fn read<'b>(mut stream: &TcpStream, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let count = stream.read(buffer)?;
    Ok(&buffer[..count])
}
