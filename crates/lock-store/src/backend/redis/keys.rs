//! The names in Redis: keys, channels, and slots of a cluster.

use std::cell::RefCell;
use std::fmt::{self, Write as _};

use crc::{CRC_16_XMODEM, Crc};

use crate::config::{DeploymentMode, Layout, RedisConfig};
use crate::identity::{ClientId, ConversationId};
use crate::telemetry;

/// What the names begin with if nothing is configured.
pub(crate) const DEFAULT_PREFIX: &str = "lock-store";

/// Conversations of a cluster are spread over so many hash tags, each in a
/// slot of its own: few enough that a process subscribes to one channel for
/// each that it waits in, enough that nodes get equal shares.
const TAGS: u16 = 1024;

const SLOTS: u16 = 16384;

static CRC16: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// How keys and channels are called.
///
/// | | standalone, Sentinel | cluster | Rasa's layout |
/// |---|---|---|---|
/// | queue | `<prefix>:tickets:<id>` | `<prefix>:tickets:{<tag>}:<id>` | `lock:<id>` or `<prefix>:lock:<id>` |
/// | channel | `<prefix>:wake:<client>` | `<prefix>:wake:{<tag>}:<client>` | `<prefix>:wake:<client>` |
///
/// In a cluster a step touches the key of its queue and the channel of the
/// next owner, so both must be in one slot: both carry the same hash tag, a
/// number that follows from the conversation id.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    queues: String,
    channels: String,
    tagged: bool,
}

/// The hash tag of a conversation in a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Tag(u16);

impl Tag {
    pub(super) fn of(id: &ConversationId) -> Self {
        Self(CRC16.checksum(id.as_str().as_bytes()) % TAGS)
    }

    /// The slot of everything that carries this tag.
    pub(super) fn slot(self) -> u16 {
        CRC16.checksum(self.0.to_string().as_bytes()) % SLOTS
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.0)
    }
}

impl Keys {
    pub(super) fn of(config: &RedisConfig) -> Self {
        let prefix = config.key_prefix.as_deref();
        let tagged = config.deployment_mode == DeploymentMode::Cluster;
        match config.layout {
            Layout::Native => Self::new(prefix, tagged),
            Layout::Rasa => Self::like_rasas(prefix, tagged),
        }
    }

    /// Rasa leaves out a prefix that is not alphanumeric. So do the channels:
    /// an instance may have been given none in the first place, and must be
    /// reached all the same.
    fn like_rasas(prefix: Option<&str>, tagged: bool) -> Self {
        let given = prefix.filter(|prefix| !prefix.is_empty());
        let prefix = given.filter(|prefix| prefix.chars().all(char::is_alphanumeric));
        if let (Some(given), None) = (given, prefix) {
            telemetry::prefix_left_out(given);
        }
        Self {
            queues: prefix.map_or_else(|| "lock:".to_owned(), |prefix| format!("{prefix}:lock:")),
            ..Self::new(prefix, tagged)
        }
    }

    fn new(prefix: Option<&str>, tagged: bool) -> Self {
        let prefix = prefix.unwrap_or(DEFAULT_PREFIX);
        Self {
            queues: format!("{prefix}:tickets:"),
            channels: format!("{prefix}:wake:"),
            tagged,
        }
    }

    /// How many bytes of a queue's key come before the conversation id, where
    /// there is no tag.
    pub(super) fn queues_begin(&self) -> usize {
        self.queues.len()
    }

    pub(super) fn queue(&self, id: &ConversationId) -> String {
        let mut key = String::new();
        self.with_queue(id, |text| key.push_str(text));
        key
    }

    /// Lends the key of a queue, without an allocation of its own.
    pub(super) fn with_queue(&self, id: &ConversationId, lend: impl FnOnce(&str)) {
        with_text(|text| {
            text.push_str(&self.queues);
            if self.tagged {
                let _ = write!(text, "{}:", Tag::of(id));
            }
            text.push_str(id.as_str());
            lend(text);
        });
    }

    /// Lends what the channels of a conversation begin with: a client follows.
    pub(super) fn with_channels(&self, id: &ConversationId, lend: impl FnOnce(&str)) {
        if !self.tagged {
            return lend(&self.channels);
        }
        with_text(|text| {
            let _ = write!(text, "{}{}:", self.channels, Tag::of(id));
            lend(text);
        });
    }

    /// The pattern of all queues, for `SCAN`. A prefix has no special
    /// characters.
    pub(super) fn pattern(&self) -> String {
        format!("{}*", self.queues)
    }

    /// The pattern of all channels.
    #[cfg(feature = "diagnose")]
    pub(super) fn channel_pattern(&self) -> String {
        format!("{}*", self.channels)
    }

    /// The conversation whose queue this is, if it is one of ours.
    pub(super) fn conversation(&self, key: &str) -> Option<ConversationId> {
        let rest = key.strip_prefix(&self.queues)?;
        let id = if self.tagged {
            rest.strip_prefix('{')?.split_once("}:")?.1
        } else {
            rest
        };
        ConversationId::new(id).ok().filter(|id| {
            // Not somebody else's key that only looks like one of ours.
            !self.tagged || self.queue(id) == key
        })
    }

    /// The channel on which a client is called.
    pub(super) fn channel(&self, client: ClientId) -> String {
        format!("{}{client}", self.channels)
    }

    /// The same in a cluster, for the conversations with this tag.
    pub(super) fn sharded_channel(&self, tag: Tag, client: ClientId) -> String {
        format!("{}{tag}:{client}", self.channels)
    }

    /// The channel on which a client is called for this conversation.
    pub(super) fn channel_for(&self, id: &ConversationId, client: ClientId) -> String {
        if self.tagged {
            self.sharded_channel(Tag::of(id), client)
        } else {
            self.channel(client)
        }
    }

    /// What `PUBSUB` is asked to learn who listens to a channel.
    pub(super) fn who_listens(&self) -> &'static str {
        if self.tagged { "SHARDNUMSUB" } else { "NUMSUB" }
    }
}

/// Lends an empty text that is used again and again.
fn with_text(lend: impl FnOnce(&mut String)) {
    thread_local! {
        static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
    }
    TEXT.with_borrow_mut(|text| {
        text.clear();
        lend(text);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ConversationId {
        ConversationId::new(text).unwrap()
    }

    #[test]
    fn a_key_leads_back_to_its_conversation() {
        for tagged in [false, true] {
            let keys = Keys::new(Some("bot"), tagged);
            for text in ["a", "a:b{c}*?[d]", "{12}:x", "línea\n\0", "}:"] {
                let key = keys.queue(&id(text));
                assert!(key.starts_with("bot:tickets:"));
                assert_eq!(keys.conversation(&key), Some(id(text)));
            }
        }
    }

    #[test]
    fn keys_of_others_are_not_ours() {
        let (plain, tagged) = (Keys::new(None, false), Keys::new(None, true));
        assert_eq!(plain.conversation("lock:a"), None);
        assert_eq!(plain.conversation("lock-store:tickets:"), None);
        assert_eq!(tagged.conversation("lock-store:tickets:a"), None);
        assert_eq!(tagged.conversation("lock-store:tickets:{x}:a"), None);
    }

    #[test]
    fn prefixes_in_rasas_layout_are_rasas() {
        let client = ClientId::random();
        for (prefix, queue, channels) in [
            (None, "lock:a:b", "lock-store:wake:"),
            (Some(""), "lock:a:b", "lock-store:wake:"),
            (Some("bot1"), "bot1:lock:a:b", "bot1:wake:"),
            (Some("bött"), "bött:lock:a:b", "bött:wake:"),
            (Some("my-bot"), "lock:a:b", "lock-store:wake:"),
            (Some("a:*'b"), "lock:a:b", "lock-store:wake:"),
        ] {
            let keys = Keys::of(&RedisConfig {
                key_prefix: prefix.map(str::to_owned),
                layout: Layout::Rasa,
                ..RedisConfig::default()
            });
            assert_eq!(keys.conversation(&keys.queue(&id("a:b"))), Some(id("a:b")));
            assert_eq!(keys.queue(&id("a:b")), queue);
            assert_eq!(keys.channel(client), format!("{channels}{client}"));
        }
    }

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // From the specification: the CRC16 of 123456789 is 0x31C3.
        assert_eq!(CRC16.checksum(b"123456789"), 0x31c3);
        let tag = Tag::of(&id("conversation-42"));
        assert_eq!(
            tag.slot(),
            CRC16.checksum(tag.0.to_string().as_bytes()) % 16384
        );
    }

    #[test]
    fn tags_spread_evenly() {
        let mut thirds = [0; 3];
        for i in 0..3000 {
            let slot = Tag::of(&id(&format!("conversation-{i}"))).slot();
            thirds[usize::from(slot / 5462)] += 1;
        }
        assert!(thirds.iter().all(|third| *third > 800), "{thirds:?}");
    }
}
