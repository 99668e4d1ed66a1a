//! The folder that every seed begins with: a tenant in force, three users, and a conversation of two of them.

use core::time::Duration;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use greffe_client::Connection;
use greffe_envelope::pb;
use greffe_types::{ConversationId, UserId};
use tempfile::TempDir;

use crate::process::Life;
use crate::tenant::{self, APPS, SERVICES};
use crate::world::World;
use crate::{clock, user};

/// How long each part of the first start may take, by the simulation's clock.
const WITHIN: Duration = Duration::from_secs(120);

/// A tenant, stopped.
#[derive(Debug)]
pub struct Origin {
    folder: PathBuf,
    /// Removes it at the end, if it is ours.
    _own: Option<TempDir>,
    /// The conversation of alice and bob.
    pub conversation: ConversationId,
    /// How long it took to make: every seed's clock goes on from there.
    pub took: Duration,
}

/// File that says what cannot be seen from the rest.
const FACTS: &str = "origin";

/// What the first start leaves.
type Slot = Arc<Mutex<Option<Result<Option<ConversationId>>>>>;

impl Origin {
    /// Makes it, on a simulated thread.
    ///
    /// # Errors
    /// When a service refuses what it should take.
    pub fn make() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("greffe-simulation-")
            .tempdir_in(memory())?;
        let base = folder.path().to_owned();
        let (conversation, took) = clock::on_thread(0, || first_start(&base))?;
        settle(&base)?;
        let facts = [conversation.to_string(), took.as_millis().to_string()];
        fs::write(base.join(FACTS), facts.join("\n"))?;
        let mut origin = Self::open(&base)?;
        origin._own = Some(folder);
        Ok(origin)
    }

    /// One that another process has made.
    ///
    /// # Errors
    /// When the folder is none.
    pub fn open(folder: &Path) -> Result<Self> {
        let facts = fs::read_to_string(folder.join(FACTS)).context("no folder of an origin")?;
        let (conversation, took) = facts.split_once('\n').context("the folder's facts")?;
        Ok(Self {
            folder: folder.to_owned(),
            _own: None,
            conversation: conversation.parse()?,
            took: Duration::from_millis(took.parse()?),
        })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A copy of its folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn copy(&self) -> Result<TempDir> {
        let copy = tempfile::Builder::new()
            .prefix("greffe-seed-")
            .tempdir_in(memory())?;
        copy_folder(&self.folder, copy.path())?;
        Ok(copy)
    }
}

/// A folder in memory if there is one: what is durable is decided by the simulation.
fn memory() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() {
        shared.to_owned()
    } else {
        std::env::temp_dir()
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            // The index of a write-ahead log is of the processes that have it open.
            let index = path.to_string_lossy().ends_with("-shm");
            if !index {
                fs::copy(&path, &target)?;
            }
        }
    }
    let mode = fs::metadata(from)?.permissions();
    fs::set_permissions(to, mode)?;
    Ok(())
}

/// Waits, by the machine's clock, until nobody has a database open: its write-ahead log is in the file then. Nobody writes any
/// more, so that one that stays open is copied with its log and is as good.
fn settle(base: &Path) -> Result<()> {
    for _ in 0..100 {
        let mut open = false;
        for name in SERVICES.iter().chain(&APPS) {
            for entry in fs::read_dir(base.join(name))? {
                let name = entry?.file_name();
                open |= name.to_string_lossy().ends_with("-wal");
            }
        }
        if !open {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn first_start(base: &Path) -> Result<(ConversationId, Duration)> {
    let begun = std::time::Instant::now();
    let bundle = tenant::prepare_all(base)?;
    let mut world = World::new(base, 0);
    for name in SERVICES {
        world.start(name);
    }
    part(&mut world, "office", move |base| async move {
        let connection = Connection::open(&tenant::connection(&base, "office"))?;
        tenant::bring_into_force(&connection, bundle).await?;
        user::open(&base, "office").await?;
        Ok(None)
    })
    .context("bringing the tenant into force")?;
    for name in ["carol", "bob"] {
        part(&mut world, name, move |base| enrol(base, name))?;
    }
    let made = part(&mut world, "alice", first_conversation)?;
    let conversation = made.context("a conversation")?;
    world.start("bob");
    world.run(Duration::from_secs(20));
    world.stop_all()?;
    Ok((conversation, begun.elapsed()))
}

async fn enrol(base: PathBuf, name: &'static str) -> Result<Option<ConversationId>> {
    let client = user::open(&base, name).await?;
    user::enrol(&client, name).await?;
    Ok(None)
}

async fn first_conversation(base: PathBuf) -> Result<Option<ConversationId>> {
    let client = user::open(&base, "alice").await?;
    let alice = user::enrol(&client, "alice").await?;
    let id = alice.create(pb::Mode::Journaled).await?;
    alice.acknowledge(&id, "en").await?;
    alice.invite(&id, &[UserId::new("bob")?]).await?;
    Ok(Some(id))
}

/// Has an application do one thing, and end.
fn part<F>(
    world: &mut World,
    name: &'static str,
    work: impl FnOnce(PathBuf) -> F + Send + 'static,
) -> Result<Option<ConversationId>>
where
    F: Future<Output = Result<Option<ConversationId>>> + Send + 'static,
{
    let slot = Slot::default();
    let (done, base) = (slot.clone(), world.base.clone());
    let life: Life = Box::pin(async move {
        let outcome = work(base).await;
        *done.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        Ok(())
    });
    world.start_as(name, life);
    let begun = std::time::Instant::now();
    while begun.elapsed() < WITHIN {
        world.run(Duration::from_millis(50));
        let outcome = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(outcome) = outcome {
            world.forget(name);
            return outcome.with_context(|| format!("the first start of {name}"));
        }
    }
    let lines = world.trace.lines();
    let last = lines.len().saturating_sub(40);
    Err(anyhow!(
        "{name} does not end:\n{}",
        lines[last..].join("\n")
    ))
}
