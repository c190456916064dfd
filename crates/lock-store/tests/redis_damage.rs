//! What is stored is no queue: it is named, left as it is, and nobody else is
//! concerned.

#![allow(clippy::unwrap_used)]

mod support;

use std::ops::RangeInclusive;
use std::time::Duration;

use lock_store::{LockError, LockErrorKind, LockGuard, LockStore, RedisConfig, Timing};
use redis_fixture::{Connection, FOR_EVER, Reply, Server};

use support::redis::{at, own_prefix, store};

/// A server, a store, and what is under a key.
struct Damage {
    server: Server,
    prefix: String,
    store: LockStore,
    /// Another client, so that no lock is handed over within one.
    other: LockStore,
    raw: Connection,
}

/// A value, and between which moments it ends, in ms since the epoch; or what
/// `PTTL` says instead.
type Stored = (Reply, RangeInclusive<i64>);

/// There is none, and so it does not end.
const NONE: Stored = (Reply::Nil, -2..=-2);

impl Damage {
    async fn new() -> Self {
        let server = Server::start();
        let prefix = own_prefix();
        let redis = RedisConfig {
            key_prefix: Some(prefix.clone()),
            ..at(&server.url())
        };
        let timing = Timing {
            lock_lifetime: Duration::from_secs(600),
            ..Timing::default()
        };
        let other = store(&redis, timing.clone()).await;
        let store = store(&redis, timing).await;
        let raw = server.connect().unwrap();
        Self {
            server,
            prefix,
            store,
            other,
            raw,
        }
    }

    fn key(&self, id: &str) -> String {
        format!("{}:tickets:{id}", self.prefix)
    }

    fn command(&mut self, arguments: &[&[u8]]) -> Reply {
        let reply = self.raw.command(arguments).unwrap();
        assert!(!reply.is_error(""), "{arguments:?}: {reply:?}");
        reply
    }

    fn set_element(&mut self, id: &str, index: &str, element: &[u8]) {
        let key = self.key(id);
        self.command(&[b"LSET", key.as_bytes(), index.as_bytes(), element]);
    }

    /// What is there, byte for byte.
    fn stored(&mut self, id: &str) -> Stored {
        let key = self.key(id);
        let kind = self.command(&[b"TYPE", key.as_bytes()]).text();
        let value = match kind.as_str() {
            "list" => self.command(&[b"LRANGE", key.as_bytes(), b"0", b"-1"]),
            "none" => Reply::Nil,
            _ => self.command(&[b"DUMP", key.as_bytes()]),
        };
        // The server may be kept waiting between any two.
        let before = self.now();
        let left = self.command(&[b"PTTL", key.as_bytes()]).integer();
        let after = self.now();
        if left < 0 {
            return (value, left..=left);
        }
        (value, before + left..=after + left)
    }

    /// The server's time, in ms.
    fn now(&mut self) -> i64 {
        let time = self.command(&[b"TIME"]).texts();
        let [seconds, micros] = [0, 1].map(|part: usize| time[part].parse::<i64>().unwrap());
        seconds * 1000 + micros / 1000
    }

    /// That an error says what is wrong.
    #[track_caller]
    fn is_damage(&self, id: &str, error: &LockError, found: &str) {
        let text = error.to_string();
        assert_eq!(error.kind(), LockErrorKind::Corrupt, "{text}");
        assert!(text.contains(&self.key(id)), "no key in: {text}");
        assert!(text.contains(found), "no {found:?} in: {text}");
        assert!(text.len() < 1_500, "{} bytes: {text}", text.len());
        assert_eq!(error.conversation_id().map(AsRef::as_ref), Some(id));
        assert!(!error.is_retryable());
    }

    /// Everything that joins a queue fails.
    async fn nobody_joins(&mut self, id: &str, found: &str) {
        let error = within(self.store.lock(id).into_future()).await.unwrap_err();
        self.is_damage(id, &error, found);
        let error = self.store.take_ticket(id).await.unwrap_err();
        self.is_damage(id, &error, found);
        let error = self
            .store
            .issue_ticket(id, Duration::from_secs(60))
            .await
            .unwrap_err();
        self.is_damage(id, &error, found);
    }

    async fn nobody_tries(&mut self, id: &str, found: &str) {
        let error = self.store.try_lock(id).await.unwrap_err();
        self.is_damage(id, &error, found);
    }

    async fn nobody_reads(&mut self, id: &str, found: &str) {
        let error = self.store.get_lock(id).await.unwrap_err();
        self.is_damage(id, &error, found);
    }

    async fn is_not_released(&mut self, id: &str, guard: LockGuard, found: &str) {
        let error = guard.release().await.unwrap_err();
        self.is_damage(id, &error, found);
    }

    /// That nothing has changed, and that others are not concerned.
    async fn is_untouched(&mut self, id: &str, before: &Stored) {
        // Tickets are also given back in the background.
        tokio::task::yield_now().await;
        let guard = self.store.lock("another").await.unwrap();
        guard.release().await.unwrap();
        let after = self.stored(id);
        assert_eq!(after.0, before.0);
        let (after, before) = (after.1, &before.1);
        // They overlap, but for what is rounded.
        assert!(
            *after.start() <= before.end() + 2 && *before.start() <= after.end() + 2,
            "{after:?} was {before:?}"
        );
    }

    async fn is_repaired_by_deleting(&mut self, id: &str) {
        assert!(self.store.delete_lock(id).await.unwrap());
        assert_eq!(self.stored(id), NONE);
        let guard = within(self.store.lock(id).into_future()).await.unwrap();
        guard.release().await.unwrap();
        assert_eq!(self.stored(id), NONE);
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(FOR_EVER, work).await.unwrap()
}

/// Values of every other type, with and without a time to live.
#[tokio::test]
async fn a_value_of_another_type() {
    let mut damage = Damage::new().await;
    let values: [(&str, &[&[u8]]); 6] = [
        ("string", &[b"SET", b"KEY", b"{\"tickets\": []}"]),
        ("number", &[b"SET", b"KEY", b"7"]),
        ("hash", &[b"HSET", b"KEY", b"a", b"b"]),
        ("set", &[b"SADD", b"KEY", b"a", b"b"]),
        ("sorted", &[b"ZADD", b"KEY", b"1", b"a"]),
        ("stream", &[b"XADD", b"KEY", b"*", b"a", b"b"]),
    ];
    let found = "a value of another type than a list";
    for (id, command) in values {
        for lives_for_ever in [true, false] {
            let guard = within(damage.store.lock(id).into_future()).await.unwrap();
            let key = damage.key(id);
            damage.command(&[b"DEL", key.as_bytes()]);
            let mut command = command.to_vec();
            command[1] = key.as_bytes();
            damage.command(&command);
            if !lives_for_ever {
                damage.command(&[b"PEXPIRE", key.as_bytes(), b"5000000"]);
            }
            let before = damage.stored(id);
            assert_eq!(before.1 == (-1..=-1), lives_for_ever);

            damage.nobody_joins(id, found).await;
            damage.nobody_tries(id, found).await;
            damage.nobody_reads(id, found).await;
            let error = guard.extend(Duration::from_secs(60)).await.unwrap_err();
            damage.is_damage(id, &error, found);
            damage.is_not_released(id, guard, found).await;
            damage.is_untouched(id, &before).await;
            damage.is_repaired_by_deleting(id).await;
        }
    }
}

/// What may stand where a ticket should, and what of it is shown.
fn garbage(whole: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let (first_half, second_half) = whole.split_at(whole.len() / 2);
    let whole = String::from_utf8(whole.to_vec()).unwrap();
    let (owner, rest) = whole.split_once(' ').unwrap();
    let other = |text: String| text.into_bytes();
    vec![
        (b"garbage".to_vec(), "garbage"),
        (b"{\"number\": 0, \"expires\": 1.5}".to_vec(), "number"),
        (b"".to_vec(), "ticket"),
        (b"caf\xff\xfe".to_vec(), "caf"),
        (b"two\r\nlines\0and more".to_vec(), "two"),
        (vec![b'x'; 1_000_000], "xxxxxxxx"),
        // Half-written, in all ways.
        (first_half.to_vec(), "."),
        (second_half.to_vec(), " "),
        (whole.as_bytes()[..whole.len() - 1].to_vec(), " "),
        (whole.as_bytes()[..whole.len() - 2].to_vec(), " "),
        (whole.as_bytes()[1..].to_vec(), "."),
        (
            other(format!("{} {rest}", owner.split_once('.').unwrap().0)),
            " ",
        ),
        (other(format!("{owner}x {rest}")), "x "),
        (other(format!("nobody {rest}")), "nobody"),
        (other(format!("{whole} ")), " "),
        (other(format!("{}X", &whole[..whole.len() - 1])), " X"),
        (other(format!("{owner} -1 {rest}")), "-1"),
        (other(whole.replacen(" 600000000 ", " 6e8 ", 1)), "6e8"),
    ]
}

/// A queue of a holder and two who wait, all of whom stay.
async fn queue(damage: &Damage, id: &str) -> (LockGuard, Vec<lock_store::Place>) {
    let holder = within(damage.store.lock(id).into_future()).await.unwrap();
    let mut places = Vec::new();
    for store in [&damage.other, &damage.store] {
        places.push(store.take_ticket(id).await.unwrap());
    }
    (holder, places)
}

fn element(damage: &mut Damage, id: &str, index: &str) -> Vec<u8> {
    let key = damage.key(id);
    damage
        .command(&[b"LINDEX", key.as_bytes(), index.as_bytes()])
        .bytes()
}

#[tokio::test]
async fn a_damaged_head() {
    let mut damage = Damage::new().await;
    let (guard, _) = queue(&damage, "model").await;
    let whole = element(&mut damage, "model", "0");
    drop(guard);
    for (index, (element, found)) in garbage(&whole).into_iter().enumerate() {
        let id = &index.to_string();
        let (guard, places) = queue(&damage, id).await;
        damage.set_element(id, "0", &element);
        let before = damage.stored(id);

        damage.nobody_joins(id, found).await;
        damage.nobody_tries(id, found).await;
        damage.nobody_reads(id, found).await;
        let error = places[1].position().await.unwrap_err();
        damage.is_damage(id, &error, found);
        damage.is_not_released(id, guard, found).await;
        drop(places);
        damage.is_untouched(id, &before).await;
        damage.is_repaired_by_deleting(id).await;
    }
}

/// The head does not see it, but does not let it come first either.
#[tokio::test]
async fn damage_in_the_middle() {
    let mut damage = Damage::new().await;
    let (guard, _) = queue(&damage, "model").await;
    let whole = element(&mut damage, "model", "1");
    drop(guard);
    for (index, (element, found)) in garbage(&whole).into_iter().enumerate() {
        if element == whole {
            continue; // another state would be damaged by this
        }
        let id = &index.to_string();
        let (guard, places) = queue(&damage, id).await;
        damage.set_element(id, "1", &element);
        let before = damage.stored(id);

        damage.nobody_reads(id, found).await;
        assert!(damage.store.try_lock(id).await.unwrap().is_none());
        guard.extend(Duration::from_secs(600)).await.unwrap();
        let lease = damage.stored(id);
        assert_eq!(lease.0.clone().list()[1..], before.0.clone().list()[1..]);
        damage.is_not_released(id, guard, found).await;
        damage.is_untouched(id, &lease).await;
        drop(places);
        damage.store.delete_lock(id).await.unwrap();
    }
}

/// A dead head must not be dropped by a step that fails.
#[tokio::test]
async fn damage_behind_a_dead_head() {
    let mut damage = Damage::new().await;
    let (id, found) = ("a", "garbage");
    let key = damage.key(id);
    // It lives until somebody stands behind it.
    let holder = damage
        .store
        .lock(id)
        .lifetime(Duration::from_secs(3))
        .await
        .unwrap();
    let place = damage.store.take_ticket(id).await.unwrap();
    damage.command(&[b"LSET", key.as_bytes(), b"1", b"garbage"]);
    within(holder.lost()).await;
    let before = damage.stored(id);
    let error = within(place.wait()).await.unwrap_err();
    damage.is_damage(id, &error, found);
    damage.nobody_joins(id, found).await;
    damage.nobody_tries(id, found).await;
    damage.nobody_reads(id, found).await;
    damage.is_untouched(id, &before).await;
    damage.is_repaired_by_deleting(id).await;
}

/// Nobody joins behind it; those before it are served.
#[tokio::test]
async fn a_damaged_tail() {
    let mut damage = Damage::new().await;
    let (guard, _) = queue(&damage, "model").await;
    let whole = element(&mut damage, "model", "-1");
    drop(guard);
    for (index, (element, found)) in garbage(&whole).into_iter().enumerate() {
        if element == whole {
            continue;
        }
        let id = &index.to_string();
        let (guard, mut places) = queue(&damage, id).await;
        damage.set_element(id, "-1", &element);
        let before = damage.stored(id);

        damage.nobody_joins(id, found).await;
        damage.nobody_reads(id, found).await;
        damage.is_untouched(id, &before).await;

        guard.release().await.unwrap();
        let next = within(places.remove(0).wait()).await.unwrap();
        let before = damage.stored(id);
        assert_eq!(before.0.clone().list()[1], Reply::Text(element));
        damage.is_not_released(id, next, found).await;
        damage.nobody_joins(id, found).await;
        damage.is_untouched(id, &before).await;
        damage.is_repaired_by_deleting(id).await;
    }
}

/// Others on the same server, of other prefixes and of Rasa, are no business
/// of ours.
#[tokio::test]
async fn keys_of_others_are_left_alone() {
    let mut damage = Damage::new().await;
    let others = ["lock:a", "elsewhere:tickets:a", "tickets:a"];
    for other in others {
        damage.server.command(&["SET", other, "{}"]).ok();
    }
    let (guard, places) = queue(&damage, "a").await;
    guard.release().await.unwrap();
    for place in places {
        within(place.wait()).await.unwrap().release().await.unwrap();
    }
    assert!(!damage.store.delete_lock("a").await.unwrap());
    for other in others {
        assert_eq!(damage.server.command(&["GET", other]), "{}");
    }
    assert_eq!(damage.stored("a"), NONE);
}
