//! The folder that every seed begins with: a tenant in force, three users, and a conversation of two of them.

use core::time::Duration;
use std::fs::{self, Permissions};
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
    contents: Contents,
    /// Removes it at the end, if it is ours.
    _own: Option<TempDir>,
    /// The conversation of alice and bob.
    pub conversation: ConversationId,
    /// How long it took to make: every seed's clock goes on from there.
    pub took: Duration,
}

/// What is in its folder, by paths from there.
#[derive(Debug, Default)]
struct Contents {
    /// Each after the one that it is in. Empty ones are left out: whoever needs one makes it.
    folders: Vec<(PathBuf, Permissions)>,
    files: Vec<PathBuf>,
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
        let mut contents = Contents::default();
        contents.list(folder, Path::new(""))?;
        Ok(Self {
            folder: folder.to_owned(),
            contents,
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
        for (folder, _) in &self.contents.folders {
            fs::create_dir(copy.path().join(folder))?;
        }
        for file in &self.contents.files {
            fs::copy(self.folder.join(file), copy.path().join(file))?;
        }
        for (folder, mode) in &self.contents.folders {
            fs::set_permissions(copy.path().join(folder), mode.clone())?;
        }
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

impl Contents {
    fn list(&mut self, base: &Path, below: &Path) -> Result<()> {
        for entry in fs::read_dir(base.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                if fs::read_dir(entry.path())?.next().is_some() {
                    self.folders
                        .push((path.clone(), entry.metadata()?.permissions()));
                    self.list(base, &path)?;
                }
                continue;
            }
            // The index of a write-ahead log is of the processes that have it open.
            if !path.to_string_lossy().ends_with("-shm") {
                self.files.push(path);
            }
        }
        Ok(())
    }
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
