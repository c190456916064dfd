//! Who and what a ticket belongs to: conversations, clients, owners, tokens.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use crate::error::LockError;

/// The name of a conversation: non-empty UTF-8 of at most
/// [`ConversationId::MAX_BYTES`] bytes, any characters.
///
/// Cheap to clone. Every method of the store takes anything that is a `&str`
/// and checks it once, at the edge.
///
/// ```
/// use lock_store::ConversationId;
///
/// let id = ConversationId::new("conversation-42")?;
/// assert_eq!(id.as_str(), "conversation-42");
/// assert!(ConversationId::new("").is_err());
/// # Ok::<(), lock_store::LockError>(())
/// ```
#[derive(Clone)]
pub struct ConversationId {
    text: Arc<str>,
    /// Kept, as an id is looked up several times on its way.
    hash: u64,
}

/// Random for each process: ids come from strangers, who must not be able to
/// choose ids that meet in one bucket.
static HASHER: LazyLock<ahash::RandomState> = LazyLock::new(ahash::RandomState::new);

impl ConversationId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Checks `id`.
    ///
    /// # Errors
    ///
    /// [`LockErrorKind::InvalidConversationId`](crate::LockErrorKind) when it
    /// is empty or too long.
    #[inline]
    pub fn new(id: impl AsRef<str>) -> Result<Self, LockError> {
        let id = id.as_ref();
        match id.len() {
            0 => Err(LockError::invalid_conversation_id(id, "it is empty")),
            length if length > Self::MAX_BYTES => Err(LockError::invalid_conversation_id(
                id,
                &format!("it has {length} bytes"),
            )),
            _ => Ok(Self {
                text: Arc::from(id),
                hash: HASHER.hash_one(id),
            }),
        }
    }

    /// The id as it was given.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A hash for tables of this process, and which of so many shards to use:
    /// a table takes the lowest and the highest bits for itself.
    #[inline]
    pub(crate) fn place(&self, shards: usize) -> (u64, usize) {
        #[allow(clippy::cast_possible_truncation)] // a few bits are wanted
        let shard = (self.hash >> 32) as usize % shards;
        (self.hash, shard)
    }

    /// The hash for tables of this process.
    #[inline]
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for ConversationId {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.text, &other.text) || self.text == other.text)
    }
}

impl Eq for ConversationId {}

impl Hash for ConversationId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for ConversationId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ConversationId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl AsRef<str> for ConversationId {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl Borrow<str> for ConversationId {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

/// One running store: drawn at random when the store is made, so that two
/// processes, or one process and its restarted self, never share it.
///
/// Written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(u64);

impl ClientId {
    /// Draws a new id from the operating system's random source.
    pub fn random() -> Self {
        // Without a random source (a broken sandbox) std's own random keys
        // still tell processes apart.
        Self(getrandom::u64().unwrap_or_else(|_| {
            use std::hash::BuildHasher;
            std::hash::RandomState::new().hash_one(std::process::id())
        }))
    }

    /// The id with this number: for tests and for backends that keep numbers.
    pub const fn from_u64(id: u64) -> Self {
        Self(id)
    }

    /// The number behind the id.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who holds or waits: one acquisition of one client, never a thread or task.
///
/// Written as `<client id>.<sequence>`:
///
/// ```
/// use lock_store::{ClientId, Owner};
///
/// let owner = Owner { client: ClientId::from_u64(0xbeef), sequence: 7 };
/// assert_eq!(owner.to_string(), "000000000000beef.7");
/// assert_eq!("000000000000beef.7".parse(), Ok(owner));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The store that asked.
    pub client: ClientId,
    /// The how-manieth acquisition of that store it is.
    pub sequence: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.client, self.sequence)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an [`Owner`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an owner; one looks like \"00c0ffee00c0ffee.42\"")]
pub struct ParseOwnerError(String);

impl FromStr for Owner {
    type Err = ParseOwnerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (client, sequence) = text.split_once('.')?;
            let hexadecimal = client.len() == 16 && client.bytes().all(|b| b.is_ascii_hexdigit());
            Some(Self {
                client: ClientId(
                    u64::from_str_radix(client, 16)
                        .ok()
                        .filter(|_| hexadecimal)?,
                ),
                sequence: sequence.parse().ok()?,
            })
        };
        parse().ok_or_else(|| ParseOwnerError(text.to_owned()))
    }
}

/// A number that only rises for a conversation.
///
/// A resource that remembers the highest token it has seen can refuse a
/// holder that lost its lock without noticing.
///
/// ```
/// use lock_store::FencingToken;
///
/// let (earlier, later) = (FencingToken::new(7), FencingToken::new(8));
/// assert!(later > earlier);
/// assert_eq!(later.get(), 8);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FencingToken(u64);

impl FencingToken {
    /// The token with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, to be stored beside what it protects.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The next token, no lower than `floor`.
    #[must_use]
    pub(crate) fn next(self, floor: u64) -> Self {
        Self(self.0.saturating_add(1).max(floor))
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<FencingToken> for u64 {
    fn from(token: FencingToken) -> Self {
        token.0
    }
}
