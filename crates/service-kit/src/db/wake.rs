//! Wake-ups between the processes of one database: LISTEN and NOTIFY, and nothing depends on them.
//!
//! A notification is part of the transaction that makes it and is heard by the others once that is committed, if at all: a
//! connection may break, a server may restart. So a [`Listener`] also says when to look by itself, at least every so often.
//! On SQLite there is nobody else to wake.

use core::convert::Infallible;
use core::fmt;
use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use greffe_types::to_hex;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Connection, Database, Held, sql};

/// Where a tenant's notifications go. Tenants of one server hear their own.
const CHANNEL: &str =
    "SELECT 'greffe_' || hashtextextended(current_setting('greffe.tenant'), 0)::text";
const NOTIFY: &str = "SELECT pg_notify('greffe_' || hashtextextended(current_setting('greffe.tenant'), 0)::text, $1)";
/// PostgreSQL takes fewer than 8000 bytes.
const MOST: usize = 7_900;
/// Notifications that a listener may be behind; beyond, it is told to look.
const BEHIND: usize = 1_024;
/// Pause after the connection for notifications could not be had.
const PAUSE: Duration = Duration::from_secs(1);

/// What a [`Listener`] hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// Another process has committed this. It may come late, or twice.
    Heard(Vec<String>),
    /// Look at everything: something may have been missed, or it is time.
    Look,
}

/// The notifications of one process.
pub(super) struct Bus {
    /// Of which process a notification is: nobody wakes himself.
    me: String,
    server: Option<PgConnectOptions>,
    heard: broadcast::Sender<Arc<str>>,
    started: AtomicBool,
    stop: CancellationToken,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bus({})", self.me)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Bus {
    /// Of a database that no other process shares.
    pub(super) fn alone() -> Self {
        Self::new(None)
    }

    /// Of a server's database.
    pub(super) fn on(server: PgConnectOptions) -> Self {
        Self::new(Some(server))
    }

    fn new(server: Option<PgConnectOptions>) -> Self {
        let mut me = [0; 8];
        // Without randomness two processes may be taken for one and then wake each other by time only.
        let _ = getrandom::fill(&mut me);
        Self {
            me: to_hex(&me),
            server,
            heard: broadcast::channel(BEHIND).0,
            started: AtomicBool::new(false),
            stop: CancellationToken::new(),
        }
    }

    pub(super) fn close(&self) {
        self.stop.cancel();
    }

    /// Hears what the others say, from the first listener on.
    fn start(&self) {
        if let Some(server) = &self.server
            && !self.started.swap(true, Ordering::Relaxed)
        {
            let (server, heard) = (server.clone(), self.heard.clone());
            let (me, stop) = (format!("{} ", self.me), self.stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = hear(server, &me, &heard) => {}
                }
            });
        }
    }
}

/// Passes on what other processes say; an empty text means that something may have been missed.
async fn hear(server: PgConnectOptions, me: &str, heard: &broadcast::Sender<Arc<str>>) {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(server);
    loop {
        let Err(error) = hear_on(&pool, me, heard).await;
        tracing::warn!(%error, "no notifications for the time being; everything is looked at now and then");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn hear_on(
    pool: &PgPool,
    me: &str,
    heard: &broadcast::Sender<Arc<str>>,
) -> sqlx::Result<Infallible> {
    let channel: String = sqlx::query_scalar(CHANNEL).fetch_one(pool).await?;
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(&channel).await?;
    loop {
        // Whoever listens only now has missed what was said before.
        let _ = heard.send("".into());
        while let Some(notification) = listener.try_recv().await? {
            if !notification.payload().starts_with(me) {
                let _ = heard.send(notification.payload().into());
            }
        }
    }
}

/// Says when there may be something new. Dropping it ends it.
#[derive(Debug)]
pub struct Listener {
    topic: &'static str,
    heard: broadcast::Receiver<Arc<str>>,
    every: Duration,
    next: Instant,
    alone: bool,
    /// As long as somebody listens, the bus is there.
    _bus: Arc<Bus>,
}

impl Listener {
    /// Waits for the next notification of the topic, or until it is time to look. On SQLite it waits for ever: a process
    /// knows what it did itself.
    pub async fn next(&mut self) -> Wake {
        if self.alone {
            core::future::pending::<()>().await;
        }
        loop {
            let heard = tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.next) => None,
                heard = self.heard.recv() => Some(heard),
            };
            match heard {
                Some(Ok(text)) if !text.is_empty() => {
                    // Sender, topic, words.
                    let mut words = text.split(' ').skip(1);
                    if words.next() == Some(self.topic) {
                        return Wake::Heard(words.map(str::to_owned).collect());
                    }
                    continue;
                }
                Some(Err(broadcast::error::RecvError::Closed)) => {
                    tokio::time::sleep_until(self.next).await;
                }
                None | Some(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => {}
            }
            self.next = Instant::now() + self.every;
            return Wake::Look;
        }
    }
}

impl Database {
    /// Hears what other processes say about a topic, and says to look at least `every` so often. Needs a tokio runtime.
    pub fn listen(&self, topic: &'static str, every: Duration) -> Listener {
        let heard = self.bus.heard.subscribe();
        self.bus.start();
        Listener {
            topic,
            heard,
            every,
            next: Instant::now() + every,
            alone: self.bus.server.is_none(),
            _bus: self.bus.clone(),
        }
    }

    /// Tells the other processes something with the transaction's commit: words without spaces, as many as there are.
    ///
    /// # Errors
    /// The database's.
    pub async fn notify(
        &self,
        conn: &mut Connection,
        topic: &'static str,
        words: impl IntoIterator<Item = String> + Send,
    ) -> sqlx::Result<()> {
        if !matches!(conn.held, Held::Postgres(_)) {
            return Ok(());
        }
        for text in pack(&format!("{} {topic}", self.bus.me), words) {
            sql::query(NOTIFY).bind(text).execute(&mut *conn).await?;
        }
        Ok(())
    }
}

/// Texts of few enough bytes that each begin alike.
fn pack(head: &str, words: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for word in words {
        match texts.last_mut() {
            Some(text) if text.len() + 1 + word.len() <= MOST => {
                text.push(' ');
                text.push_str(&word);
            }
            _ => texts.push(format!("{head} {word}")),
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_short_enough_and_lose_no_word() {
        assert_eq!(pack("me topic", []), Vec::<String>::new());
        assert_eq!(
            pack("me topic", ["a".to_owned(), "b".to_owned()]),
            ["me topic a b"]
        );
        let words: Vec<String> = (0..1000).map(|n| format!("{n:040}")).collect();
        let texts = pack("me topic", words.clone());
        assert!(texts.len() > 1 && texts.iter().all(|text| text.len() < 8000));
        let found = texts.iter().flat_map(|text| text.split(' ').skip(2));
        assert!(found.eq(words.iter().map(String::as_str)));
    }
}
