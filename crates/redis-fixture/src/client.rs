//! A client: one command, then its reply.

use std::fmt::Debug;
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::{FOR_EVER, Reply};

/// A connection to a server, without encryption. A reply that does not come
/// within [`FOR_EVER`] is an error.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
}

/// How one is let in.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) user: Option<String>,
    pub(crate) password: String,
}

trait Stream: Read + Write + Debug + Send {}

impl<T: Read + Write + Debug + Send> Stream for T {}

impl Connection {
    /// Connects to `host:port`.
    pub fn tcp(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(FOR_EVER))?;
        Ok(Self::over(stream))
    }

    /// Connects to the socket of this path.
    pub fn unix(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::unix_within(path.as_ref(), FOR_EVER)
    }

    /// As above, for replies that come within `limit`.
    pub(crate) fn unix_within(path: &Path, limit: Duration) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(Self::over(stream))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        let stream = BufReader::new(Box::new(stream) as Box<dyn Stream>);
        Self { stream }
    }

    /// Sends a command and reads its reply.
    pub fn command(&mut self, arguments: &[impl AsRef<[u8]>]) -> io::Result<Reply> {
        self.send(arguments)?;
        self.receive()
    }

    /// Sends a command.
    pub fn send(&mut self, arguments: &[impl AsRef<[u8]>]) -> io::Result<()> {
        let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            let argument = argument.as_ref();
            bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
            bytes.extend(argument);
            bytes.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes)
    }

    /// Reads the next reply, or what was published.
    pub fn receive(&mut self) -> io::Result<Reply> {
        Reply::read(&mut self.stream)
    }

    pub(crate) fn authenticate(&mut self, access: &Access) -> io::Result<Reply> {
        let user = access.user.as_deref();
        let arguments = ["AUTH"].into_iter().chain(user);
        let arguments: Vec<_> = arguments.chain([access.password.as_str()]).collect();
        self.command(&arguments)
    }
}
