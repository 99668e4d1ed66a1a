//! Attack 2: a commit removes or changes the journaling extension without the tenant root's signature.

use greffe_mls::{EXTENSION_TYPE, Mode, Observer};
use mls_rs::extension::ExtensionType;
use mls_rs::extension::built_in::RequiredCapabilitiesExt;
use mls_rs::{ExtensionList, MlsMessage};

use crate::hostile::{Scene, at, context, identity, one, raw_client};
use crate::world::{ID, NOW, World, refusal};

#[test]
fn attack_02_a_commit_that_drops_the_extension_is_refused() {
    let mut scene = Scene::new();
    let required = || {
        let types = vec![ExtensionType::new(EXTENSION_TYPE)];
        RequiredCapabilitiesExt::new(types, vec![], vec![])
    };
    let mut only_required = ExtensionList::new();
    only_required.set_from(required()).unwrap();
    let mut nothing_required = one(EXTENSION_TYPE, &scene.world.disclosure(1));
    nothing_required
        .set_from(RequiredCapabilitiesExt::default())
        .unwrap();
    for (extensions, code) in [
        (ExtensionList::new(), "no-requirement"),
        (only_required, "no-disclosure"),
        (context(&[]), "no-disclosure"),
        (
            one(EXTENSION_TYPE, &scene.world.disclosure(2)),
            "no-requirement",
        ),
        (nothing_required, "no-requirement"),
    ] {
        let commit = scene.context_commit(extensions);
        scene.refuse(&commit, code);
        scene.go_on();
    }
}

#[test]
fn attack_02_a_commit_that_replaces_the_extension_is_refused() {
    let mut scene = Scene::new();
    scene.disclose(2);
    let good = scene.world.disclosure(3);
    let mut unsigned = good.clone();
    *unsigned.last_mut().unwrap() ^= 1;
    let foreign = World::new().disclosure(3);
    let root = scene.world.root.clone();
    for (extension, code) in [
        (unsigned, "disclosure"),
        (foreign, "disclosure"),
        (b"no statement at all".to_vec(), "disclosure"),
        (scene.world.disclosure(1), "serial-lower"),
        (
            root.disclosure(Mode::Journaled, 2, &["acme"], 2),
            "serial-reused",
        ),
        (
            root.disclosure(Mode::Private, 3, &["acme"], 1),
            "mode-lowered",
        ),
        (
            root.disclosure(Mode::Journaled, 3, &["acme", "other"], 1),
            "tenants-changed",
        ),
    ] {
        let commit = scene.context_commit(context(&extension));
        scene.refuse(&commit, code);
        scene.go_on();
        assert_eq!(scene.bob.disclosure().serial, 2);
    }
    // the control: with the root's signature and a higher serial, the same commit is taken
    let commit = scene.context_commit(context(&good));
    scene.accept(&commit);
    assert_eq!(scene.bob.disclosure().serial, 3);
}

#[test]
fn attack_02_a_conversation_begun_without_the_extension_is_not_joined() {
    let world = World::new();
    let mut bob = world.device(2);
    let mallory = world.device(9);
    let (device, certificate) = (mallory.device.device, mallory.device.certificate);
    let me = identity(device, certificate, &mallory.key);
    let client = raw_client(me, &mallory.key, &Default::default());
    let other = World::new().disclosure(1);
    for (extensions, code) in [
        (ExtensionList::new(), "no-requirement"),
        (context(&[]), "no-disclosure"),
        (context(&other), "disclosure"),
    ] {
        let mut group = client
            .create_group_with_id(ID.to_vec(), extensions, ExtensionList::new(), Some(at(NOW)))
            .unwrap();
        let package = MlsMessage::from_bytes(&bob.key_package().bytes).unwrap();
        let output = group.commit_builder().commit_time(at(NOW));
        let output = output.add_member(package).unwrap().build().unwrap();
        let welcome = output.welcome_messages()[0].to_bytes().unwrap();
        let rows = bob
            .database
            .rows(&bob.client.welcome_rows(&welcome).unwrap());
        let examined = bob.client.examine(&welcome, rows).unwrap_err();
        assert_eq!(refusal(examined).code(), code);
        assert_eq!(refusal(bob.join(&welcome).unwrap_err()).code(), code);
        group.apply_pending_commit().unwrap();
        let info = group.group_info_message(true).unwrap().to_bytes().unwrap();
        let observed = Observer::start(world.trust.clone(), &info).unwrap_err();
        assert_eq!(observed.code(), code);
    }
}
