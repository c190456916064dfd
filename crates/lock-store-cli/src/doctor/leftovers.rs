//! Keys that should not be there any more.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lock_store::Layout;
use lock_store::diagnose::{NoReply, Reply, Session};

use super::finding::Finding;
use super::tour::Node;
use super::way::Guide;

/// Keys that one step looks at: nobody is held up by it.
const STEP: &str = "500";
/// A database of hundreds of millions of keys is not gone through to its end.
const LIMIT: Duration = Duration::from_secs(20);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    ours: u64,
    /// Of ours, those that never expire, and one of them.
    endless: u64,
    example: String,
    /// Of Rasa's, by the patterns of their names.
    rasas: Vec<(String, u64)>,
    /// Not everything was looked at.
    is_cut_short: bool,
    trouble: Option<String>,
}

pub(super) async fn find(guide: &Guide<'_>, nodes: &[Node<'_>]) -> Found {
    let ours = guide.deployment.key_pattern();
    let prefix = guide.config.key_prefix.as_deref();
    let rasas = ["lock:*".to_owned()]
        .into_iter()
        .chain(prefix.map(|prefix| format!("{prefix}:lock:*")))
        // Where these are the names of this store, they are no leftovers.
        .filter(|pattern| *pattern != ours);
    let mut found = Found {
        rasas: rasas.map(|pattern| (pattern, 0)).collect(),
        ..Found::default()
    };
    let until = Instant::now() + LIMIT;
    for node in nodes {
        if let Err(trouble) = found.look(&node.session, &ours, until).await {
            found.trouble = Some(trouble);
            break;
        }
    }
    found
}

impl Found {
    async fn look(
        &mut self,
        session: &Session<'_>,
        ours: &str,
        until: Instant,
    ) -> Result<(), String> {
        let mut scan = Scan::new(session, ours, until);
        while let Some(keys) = scan.next().await? {
            let lives = keys
                .iter()
                .map(async |key| session.ask(&["PTTL", key]).await);
            for (key, life) in keys.iter().zip(join_all(lives).await) {
                let life = life.map_err(|error| error.to_string())?;
                // -2 is one that went meanwhile.
                match life.integer() {
                    Some(-2) => {}
                    Some(-1) => {
                        self.endless += 1;
                        self.example.clone_from(key);
                        self.ours += 1;
                    }
                    _ => self.ours += 1,
                }
            }
        }
        self.is_cut_short |= scan.is_cut_short;
        for (pattern, count) in &mut self.rasas {
            let mut scan = Scan::new(session, pattern, until);
            while let Some(keys) = scan.next().await? {
                *count += keys.len() as u64;
            }
            self.is_cut_short |= scan.is_cut_short;
        }
        Ok(())
    }

    fn so_far(&self) -> &'static str {
        if self.is_cut_short { "at least " } else { "" }
    }
}

/// Goes through the keys of a pattern.
struct Scan<'s> {
    session: &'s Session<'s>,
    pattern: &'s str,
    until: Instant,
    cursor: Option<String>,
    is_cut_short: bool,
}

impl<'s> Scan<'s> {
    fn new(session: &'s Session<'_>, pattern: &'s str, until: Instant) -> Self {
        Self {
            session,
            pattern,
            until,
            cursor: Some("0".into()),
            is_cut_short: false,
        }
    }

    async fn next(&mut self) -> Result<Option<Vec<String>>, String> {
        let Some(cursor) = self.cursor.take() else {
            return Ok(None);
        };
        if Instant::now() > self.until {
            self.is_cut_short = true;
            return Ok(None);
        }
        let words = ["SCAN", &cursor, "MATCH", self.pattern, "COUNT", STEP];
        let reply = self
            .session
            .ask(&words)
            .await
            .map_err(|error: NoReply| error.to_string())?;
        if let Some(error) = reply.error() {
            return Err(error.to_owned());
        }
        let [cursor, keys] = reply.list() else {
            return Err("SCAN is not answered as it should be".into());
        };
        self.cursor = cursor.text().filter(|it| *it != "0").map(str::to_owned);
        let keys = keys.list().iter().filter_map(Reply::text);
        Ok(Some(keys.map(str::to_owned).collect()))
    }
}

pub(super) fn ours(found: &Found, layout: Layout) -> Finding {
    let Found {
        ours,
        endless,
        example,
        ..
    } = found;
    if let Some(trouble) = &found.trouble {
        return Finding::skipped(format!("the keys cannot be gone through: {trouble}"));
    }
    let so_far = found.so_far();
    if *endless == 0 {
        return Finding::ok(format!("{so_far}{ours} locks, each with a time to live"));
    }
    if layout == Layout::Rasa {
        return Finding::ok(format!(
            "{so_far}{ours} locks, {endless} of them without a time to live, as instances of \
             Rasa's own store write them"
        ));
    }
    Finding::warning(
        format!("{so_far}{endless} of {ours} keys have no time to live, such as {example:?}"),
        "somebody else wrote them, or took it from them: delete them with DEL when nobody holds these locks",
    )
}

/// None where all of them are this store's own.
pub(super) fn rasas(found: &Found, db: i64) -> Option<Finding> {
    if found.rasas.is_empty() {
        return None;
    }
    if found.trouble.is_some() {
        return Some(Finding::skipped("the keys cannot be gone through"));
    }
    let there: Vec<_> = found.rasas.iter().filter(|(_, count)| *count > 0).collect();
    let Some((pattern, _)) = there.first() else {
        return Some(Finding::ok("none of an older Rasa"));
    };
    let so_far = found.so_far();
    let counts: Vec<_> = there
        .iter()
        .map(|(it, count)| format!("{count} {it}"))
        .collect();
    Some(Finding::warning(
        format!(
            "Rasa's own lock store left keys that never expire: {so_far}{}",
            counts.join(", ")
        ),
        format!(
            "when no Rasa uses that store any more, delete them: redis-cli -n {db} --scan \
             --pattern '{pattern}' | xargs -d '\\n' redis-cli -n {db} del"
        ),
    ))
}
