//! Looks at the locks again and again, without being a burden to their server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lock_store::{ConversationId, LockErrorKind, RedisLockStore};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::lock::{Queue, Seen};
use super::model::Look;
use super::text;

/// Looking takes at most one part of so many of the time.
const SHARE: u32 = 10;

/// What looking found.
#[derive(Debug)]
pub(crate) enum News {
    Look(Look),
    /// A queue that is being looked at closely, `None` if it is empty.
    Queue(ConversationId, Result<Option<Queue>, String>),
    /// There was no answer.
    Away(String),
}

/// What is to be looked at.
#[derive(Debug, Clone, Default)]
struct Wish {
    /// The queue to look at closely.
    open: Option<ConversationId>,
    /// Rises when somebody does not want to wait for the next look.
    at_once: u64,
}

/// A handle on the task that looks. It ends when this is dropped.
pub(crate) struct Looker {
    news: mpsc::Receiver<News>,
    wish: watch::Sender<Wish>,
    task: JoinHandle<()>,
}

impl Looker {
    /// Begins to look. `start` is where the time of looks is counted from.
    pub(crate) fn start(redis: Arc<RedisLockStore>, interval: Duration, start: Instant) -> Self {
        // One more look may be done while the last one is being shown.
        let (sender, news) = mpsc::channel(1);
        let (wish, wishes) = watch::channel(Wish::default());
        let looking = Looking {
            redis,
            interval,
            start,
            wishes,
            news: sender,
        };
        let task = tokio::spawn(async move {
            // Ends when nobody listens any more.
            let _ = looking.run().await;
        });
        Self { news, wish, task }
    }

    /// What was found next. May be dropped at any point.
    pub(crate) async fn next(&mut self) -> anyhow::Result<News> {
        match self.news.recv().await {
            Some(news) => Ok(news),
            None => match (&mut self.task).await {
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                _ => anyhow::bail!("nobody looks at the locks any more"),
            },
        }
    }

    /// Looks at this queue closely from now on.
    pub(crate) fn open(&self, id: Option<ConversationId>) {
        self.wish.send_modify(|wish| wish.open = id);
    }

    /// Looks at everything now, rather than when it is time.
    pub(crate) fn at_once(&self) {
        self.wish.send_modify(|wish| wish.at_once += 1);
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task's side.
struct Looking {
    redis: Arc<RedisLockStore>,
    interval: Duration,
    start: Instant,
    wishes: watch::Receiver<Wish>,
    news: mpsc::Sender<News>,
}

/// Nobody listens any more.
struct Over;

impl Looking {
    async fn run(mut self) -> Result<(), Over> {
        loop {
            let begun = Instant::now();
            let wish = self.wishes.borrow_and_update().clone();
            let news = self.look().await;
            let is_away = matches!(news, News::Away(_));
            self.tell(news).await?;
            if !is_away {
                self.look_closely(&wish).await?;
            }
            // An answer that did not come was no burden.
            let took = if is_away {
                Duration::ZERO
            } else {
                begun.elapsed()
            };
            let next = begun + took + pause(self.interval, took);
            self.wait(next.into(), wish.at_once).await?;
        }
    }

    /// Until it is time, or somebody does not want to wait.
    async fn wait(&mut self, next: tokio::time::Instant, at_once: u64) -> Result<(), Over> {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => return Ok(()),
                changed = self.wishes.changed() => changed.map_err(|_| Over)?,
                () = self.news.closed() => return Err(Over),
            }
            let wish = self.wishes.borrow_and_update().clone();
            if wish.at_once != at_once {
                return Ok(());
            }
            self.look_closely(&wish).await?;
        }
    }

    async fn look(&self) -> News {
        if !self.redis.is_connected() {
            return News::Away("there is no connection to Redis".to_owned());
        }
        let begun = Instant::now();
        let mut survey = self.redis.survey();
        let (mut locks, mut damaged) = (Vec::new(), Vec::new());
        while let Some(lock) = survey.next().await {
            match lock {
                Ok(lock) => locks.push(Seen::from(lock)),
                Err(error) if error.kind() == LockErrorKind::Corrupt => {
                    damaged.push(text::visible(&error.to_string()));
                }
                Err(error) => return News::Away(text::visible(&error.to_string())),
            }
        }
        News::Look(Look {
            at: self.start.elapsed(),
            took: begun.elapsed(),
            locks,
            damaged,
        })
    }

    async fn look_closely(&self, wish: &Wish) -> Result<(), Over> {
        let Some(id) = &wish.open else {
            return Ok(());
        };
        let queue = match self.redis.inspect(id).await {
            Ok(inspection) => Ok(inspection.map(Queue::from)),
            Err(error) => Err(text::visible(&error.to_string())),
        };
        self.tell(News::Queue(id.clone(), queue)).await
    }

    async fn tell(&self, news: News) -> Result<(), Over> {
        self.news.send(news).await.map_err(|_| Over)
    }
}

/// How long to rest after a look that took so long.
fn pause(interval: Duration, took: Duration) -> Duration {
    interval.saturating_sub(took).max(took * (SHARE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_takes_at_most_a_tenth_of_the_time() {
        let ms = Duration::from_millis;
        assert_eq!(pause(ms(1000), ms(0)), ms(1000));
        assert_eq!(pause(ms(1000), ms(100)), ms(900));
        assert_eq!(pause(ms(1000), ms(200)), ms(1800));
        assert_eq!(pause(ms(1), ms(50)), ms(450));
    }
}
