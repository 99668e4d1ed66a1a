//! Attack 49: what was destroyed stays so whatever is restored, and its neighbour opens.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use greffe_api::archive as api;
use greffe_archive::app::App;
use greffe_archive::jobs::scrub;
use greffe_archive::store::dispositions::Step;
use greffe_archive::store::wraps;
use greffe_envelope::envelope::Envelope;
use greffe_envelope::label::sha256;
use greffe_envelope::wrap::WrapView;
use greffe_testkit::store::Copy;
use greffe_types::{Digest, Millis};

use crate::people::{approval, order};
use crate::support::{Archive, World, step_of};
use crate::world::{NOW, Talk};

const LATER: Millis = Millis::new(NOW.get() + 3 * 366 * 24 * 3_600_000);
const PEOPLE: [&str; 3] = ["gus", "eve", "dan"];

/// A backup of everything that an archive has; it does not run.
struct Backup {
    folder: tempfile::TempDir,
    stores: Option<[Copy; 2]>,
}

/// What of a backup is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Wraps,
    Main,
    Objects,
}

impl Backup {
    fn of(world: &World) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&world.data(), folder.path());
        let stores = world.stores.as_ref();
        Self {
            folder,
            stores: stores.map(|[main, wraps]| [main.copy(), wraps.copy()]),
        }
    }

    fn restore(&self, world: &World, parts: &[Part]) {
        for part in parts {
            let name = match part {
                Part::Wraps => "wraps.db",
                Part::Main => "archive.db",
                Part::Objects => {
                    copy(
                        &self.folder.path().join("objects"),
                        &world.data().join("objects"),
                    );
                    continue;
                }
            };
            match (&world.stores, &self.stores) {
                (Some([main, _]), Some([copied, _])) if *part == Part::Main => main.restore(copied),
                (Some([_, wraps]), Some([_, copied])) => wraps.restore(copied),
                _ => {
                    for end in ["", "-wal", "-shm"] {
                        let _none = std::fs::remove_file(world.data().join(format!("{name}{end}")));
                    }
                    std::fs::copy(self.folder.path().join(name), world.data().join(name)).unwrap();
                }
            }
        }
    }
}

/// Everything of a folder into another, over what is there.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .args(["-a", "--no-target-directory"])
        .args([from, to])
        .status();
    assert!(status.unwrap().success());
}

async fn keys_of(app: &App, envelope: &Digest) -> usize {
    let sealed = wraps::load(app.wraps.read(), &app.scope, envelope)
        .await
        .unwrap();
    let message = wraps::mls_message(app.wraps.read(), &app.scope, envelope)
        .await
        .unwrap();
    sealed.len() + usize::from(message.is_some())
}

/// No order gives the destroyed record, and one over its neighbour all that a reader needs.
async fn only_the_neighbour_opens(archive: &Archive, world: &World, gone: &Digest, kept: &Digest) {
    archive.open_matter(world, 1).await;
    let (over_gone, list) = order(world, &[*gone]);
    let refused = archive.file(world, &over_gone, list).await.unwrap_err();
    assert_eq!(refused.1, "ORDER_RECORD_UNKNOWN");
    let (over_kept, list) = order(world, &[*kept]);
    archive.file(world, &over_kept, list).await.unwrap();
    for person in ["bea", "cam"] {
        archive
            .approve(world, approval(world, &over_kept, person))
            .await
            .unwrap();
    }
    let fetched = archive.fetch(world, "fay").await.unwrap().pop().unwrap();
    let envelope = fetched.record.unwrap().envelope.unwrap();
    let envelope = Envelope::decode(envelope).unwrap();
    assert_eq!(envelope.digest(), *kept);
    assert_eq!(sha256(&fetched.ciphertext), envelope.ciphertext_digest());
    let named = envelope.body().wraps[0].digest.clone();
    assert_eq!(
        WrapView::parse(&fetched.wraps[0].sealed)
            .unwrap()
            .digest()
            .to_vec(),
        named
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_49_whatever_is_restored_what_was_shredded_stays_so_and_its_neighbour_opens() {
    for parts in [
        &[Part::Wraps][..],
        &[Part::Wraps, Part::Objects],
        &[Part::Main, Part::Wraps, Part::Objects],
    ] {
        let world = World::new().await;
        let archive = world.start().await;
        let mut talk = Talk::new(1);
        let [gone, kept] = [
            archive.archive(talk.message("gone")).await,
            archive.archive(talk.message("kept")).await,
        ]
        .map(|receipt| Digest::try_from(receipt.entry_digest.as_slice()).unwrap());
        archive.stop().await;
        let backup = Backup::of(&world);

        let archive = world.start().await;
        world.clock.set(LATER);
        let act = api::DisposeAct {
            record: gone.to_vec(),
            reason: "its time has come".into(),
        };
        archive
            .act(&world, &PEOPLE, "record.dispose", &act, 11)
            .await
            .unwrap();
        assert_eq!(keys_of(&archive.app, &gone).await, 0);
        archive.stop().await;

        backup.restore(&world, parts);
        let archive = world.start().await;
        let app = archive.app.clone();
        if parts.contains(&Part::Main) {
            // The log has the tombstone: what it says was done is done again.
            let again = async {
                while step_of(&app, 1).await != Step::Gone as i64 {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let again = tokio::time::timeout(Duration::from_secs(60), again).await;
            again.expect("what the log says was destroyed is not destroyed again");
        } else {
            assert_eq!(keys_of(&app, &gone).await, 2, "nothing was restored");
            scrub::round(&app).await.unwrap();
        }
        assert_eq!(keys_of(&app, &gone).await, 0, "{parts:?}");
        assert_eq!(keys_of(&app, &kept).await, 2, "{parts:?}");
        only_the_neighbour_opens(&archive, &world, &gone, &kept).await;
        drop(app);
        archive.stop().await;
    }
}
