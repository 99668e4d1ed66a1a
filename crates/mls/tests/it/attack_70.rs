//! Attack 70: content smuggled in MLS plaintext, in authenticated data, in unknown extensions and proposals.

use greffe_mls::{Observer, check_key_package};
use greffe_types::ConversationId;
use mls_rs::group::proposal::{CustomProposal, ProposalType};
use mls_rs::{CipherSuite, ExtensionList, MlsMessage, ProtocolVersion};
use mls_rs_core::psk::{ExternalPskId, PreSharedKey};

use crate::hostile::{Habits, Scene, one, raw_client, raw_key_package};
use crate::world::{ID, NOW, refusal, refused, talk};

/// An extension type that only Mallory knows.
const SMUGGLED: u16 = 0xF0A2;

fn habits() -> Habits {
    Habits {
        extension_types: vec![SMUGGLED],
        ..Habits::default()
    }
}

#[test]
fn attack_70_application_messages_carry_a_seed_and_nothing_else() {
    let mut scene = Scene::new();
    let mut send = |plaintext: &[u8], data: &[u8]| {
        let message = scene
            .mallory
            .encrypt_application_message(plaintext, data.to_vec())
            .unwrap();
        message.to_bytes().unwrap()
    };
    let seed = |version: u8, len: usize| [vec![version], vec![7; len]].concat();
    let plaintexts = [
        send(b"", &[9; 32]),
        send(&seed(1, 31), &[9; 32]),
        send(&seed(1, 33), &[9; 32]),
        send(&seed(1, 500), &[9; 32]),
        send(&seed(0, 32), &[9; 32]),
        send(&seed(2, 32), &[9; 32]),
    ];
    let datas = [
        send(&seed(1, 32), b""),
        send(&seed(1, 32), &[9; 31]),
        send(&seed(1, 32), &[9; 33]),
        send(&seed(1, 32), &[9; 700]),
    ];
    let long = send(&seed(1, 1000), &[9; 32]);
    let good = send(&seed(1, 32), &[9; 32]);
    for message in &plaintexts {
        // the relay cannot see it; every member does
        scene.relay.application(message).unwrap();
        for member in [&mut scene.alice, &mut scene.bob] {
            assert_eq!(refused(member, message).code(), "plaintext");
        }
    }
    for (code, message) in datas
        .iter()
        .map(|message| ("authenticated-data", message))
        .chain([("too-large", &long)])
    {
        let seen = scene.relay.application(message).unwrap_err();
        assert_eq!(seen.code(), code);
        for member in [&mut scene.alice, &mut scene.bob] {
            assert_eq!(refused(member, message).code(), code);
        }
    }
    // the control, and after all those her message still opens
    let (event, _) = scene.bob.receive(&good).unwrap();
    assert!(
        matches!(event, greffe_mls::Event::Application(_)),
        "{event:?}"
    );
    scene.bob.persisted();
    talk(&mut scene.alice, &mut scene.bob, 1);
}

#[test]
fn attack_70_commits_carry_no_authenticated_data() {
    let mut scene = Scene::new();
    for data in [&b"x"[..], &[0; 32], &[7; 4096]] {
        let output = scene.commit(|builder| builder.authenticated_data(data.to_vec()));
        let commit = output.commit_message().to_bytes().unwrap();
        scene.refuse(&commit, "authenticated-data");
        scene.go_on();
    }
    let output = scene.commit(|builder| builder);
    scene.accept(&output.commit_message().to_bytes().unwrap());
}

#[test]
fn attack_70_handshakes_are_not_encrypted() {
    let mut scene = Scene::with(&Habits {
        encrypt_handshakes: true,
        ..Habits::default()
    });
    let output = scene.commit(|builder| builder);
    let commit = output.commit_message().to_bytes().unwrap();
    scene.refuse(&commit, "unexpected");
    scene.go_on();
}

#[test]
fn attack_70_leaves_carry_no_extensions() {
    let mut scene = Scene::with(&habits());
    let smuggled = one(SMUGGLED, b"\x07content");
    // in the path of a commit
    let leaf = smuggled.clone();
    let output = scene.commit(|builder| builder.set_leaf_node_extensions(leaf));
    let commit = output.commit_message().to_bytes().unwrap();
    scene.refuse(&commit, "extension");
    scene.go_on();
    // in a key package: its leaf, and itself
    for (package, leaf) in [
        (ExtensionList::new(), smuggled.clone()),
        (smuggled, ExtensionList::new()),
    ] {
        let client = raw_outsider(&scene);
        let package = raw_key_package(&client, package, leaf);
        let bytes = package.to_bytes().unwrap();
        let offered = check_key_package(&scene.world.trust, &bytes, NOW);
        assert_eq!(offered.unwrap_err().code(), "extension");
        let added = scene.alice.add(std::slice::from_ref(&bytes), NOW);
        assert_eq!(refusal(added.unwrap_err()).code(), "extension");
        let output = scene.commit(|builder| builder.add_member(package).unwrap());
        let commit = output.commit_message().to_bytes().unwrap();
        scene.refuse(&commit, "extension");
        scene.go_on();
    }
}

#[test]
fn attack_70_a_joiner_refuses_leaves_and_group_infos_with_extensions() {
    let mut scene = Scene::with(&habits());
    let mut carol = scene.world.device(3);
    let honest = MlsMessage::from_bytes(&carol.key_package().bytes).unwrap();
    // in the group info of the Welcome
    let package = honest.clone();
    let output = scene.commit(|builder| {
        let builder = builder.set_group_info_ext(one(SMUGGLED, b"content"));
        builder.add_member(package).unwrap()
    });
    let welcome = output.welcome_messages()[0].to_bytes().unwrap();
    let refused = refusal(carol.join(&welcome).unwrap_err());
    assert_eq!(refused.code(), "extension");
    // in a leaf of the tree that the Welcome brings
    let output = scene.commit(|builder| {
        let builder = builder.set_leaf_node_extensions(one(SMUGGLED, b"content"));
        builder.add_member(honest).unwrap()
    });
    let welcome = output.welcome_messages()[0].to_bytes().unwrap();
    let refused = refusal(carol.join(&welcome).unwrap_err());
    assert_eq!(refused.code(), "extension");
    scene.go_on();
}

#[test]
fn attack_70_an_observer_refuses_group_infos_with_extensions() {
    let mut scene = Scene::with(&habits());
    let start = |info: MlsMessage| {
        let info = info.to_bytes().unwrap();
        Observer::start(scene.world.trust.clone(), &info)
    };
    let plain = scene.mallory.group_info_message(true).unwrap();
    assert!(start(plain).is_ok(), "the control");
    // one that allows an external commit carries external_pub
    let external = scene.mallory.group_info_message_allowing_ext_commit(true);
    assert_eq!(start(external.unwrap()).unwrap_err().code(), "extension");
    let smuggled = scene
        .mallory
        .group_info_message_allowing_ext_commit_with_extensions(true, one(SMUGGLED, b"content"));
    assert_eq!(start(smuggled.unwrap()).unwrap_err().code(), "extension");
    // and without a tree there is nothing to observe
    let bare = scene.mallory.group_info_message(false).unwrap();
    assert_eq!(start(bare).unwrap_err().code(), "malformed");
    // a leaf with an extension, in the tree of a group info
    scene
        .mallory
        .commit_builder()
        .set_leaf_node_extensions(one(SMUGGLED, b"content"))
        .build()
        .unwrap();
    scene.mallory.apply_pending_commit().unwrap();
    let info = scene.mallory.group_info_message(true).unwrap();
    assert_eq!(start(info).unwrap_err().code(), "extension");
}

#[test]
fn attack_70_capability_lists_are_short() {
    let mut scene = Scene::new();
    let key = greffe_mls::SigningKey::generate().unwrap();
    let device = scene.world.certify(5, &key);
    let me = crate::hostile::identity(device.device, device.certificate, &key);
    let client = raw_client(
        me,
        &key,
        &Habits {
            // room for two bytes of content each
            extension_types: (0xE000..0xE040).collect(),
            ..Habits::default()
        },
    );
    let package = raw_key_package(&client, ExtensionList::new(), ExtensionList::new());
    let bytes = package.to_bytes().unwrap();
    let offered = check_key_package(&scene.world.trust, &bytes, NOW);
    assert_eq!(offered.unwrap_err().code(), "too-many");
    let output = scene.commit(|builder| builder.add_member(package).unwrap());
    let commit = output.commit_message().to_bytes().unwrap();
    scene.refuse(&commit, "too-many");
    scene.go_on();
}

#[test]
fn attack_70_unexpected_proposals_are_refused() {
    let mut scene = Scene::new();
    let psk = ExternalPskId::new(b"content in a name".to_vec());
    scene
        .client
        .secret_store()
        .insert(psk.clone(), PreSharedKey::new(vec![1; 32]));
    let output = scene.commit(|builder| builder.add_external_psk(psk).unwrap());
    let commit = output.commit_message().to_bytes().unwrap();
    scene.refuse(&commit, "proposal");
    let output = scene.commit(|builder| {
        builder
            .reinit(
                Some(b"content in a group id".to_vec()),
                ProtocolVersion::MLS_10,
                CipherSuite::CURVE25519_AES128,
                ExtensionList::new(),
            )
            .unwrap()
    });
    let commit = output.commit_message().to_bytes().unwrap();
    scene.refuse(&commit, "proposal");
    scene.go_on();
}

/// The library does not commit a custom proposal that not all members support, so the commit is one of a conversation
/// of Mallory's own with the same id and epoch: members and observer refuse the proposal before they look at who
/// signed it.
#[test]
fn attack_70_custom_proposals_are_refused() {
    let mut scene = Scene::new();
    let kind = ProposalType::new(0xF0A3);
    let key = greffe_mls::SigningKey::generate().unwrap();
    let me = crate::hostile::identity(
        scene.alice.me().unwrap().device,
        scene.alice.me().unwrap().certificate,
        &key,
    );
    let client = raw_client(me, &key, &Habits::default());
    let client = client.to_builder(None).custom_proposal_type(kind).build();
    let extensions = crate::hostile::context(scene.alice.extension());
    let mut own = client
        .create_group_with_id(ID.to_vec(), extensions, ExtensionList::new(), None)
        .unwrap();
    while own.current_epoch() < scene.alice.epoch() {
        own.commit(Vec::new()).unwrap();
        own.apply_pending_commit().unwrap();
    }
    let proposal = CustomProposal::new(kind, b"content".to_vec());
    let output = own.commit_builder().custom_proposal(proposal).build();
    let commit = output.unwrap().commit_message().to_bytes().unwrap();
    scene.refuse(&commit, "proposal");
    scene.go_on();
}

#[test]
fn attack_70_loose_proposals_are_refused() {
    let mut scene = Scene::new();
    let content = b"content".to_vec();
    let remove = scene.mallory.propose_remove(0, Vec::new()).unwrap();
    scene.refuse(&remove.to_bytes().unwrap(), "loose-proposal");
    let update = scene.mallory.propose_update(Vec::new()).unwrap();
    scene.refuse(&update.to_bytes().unwrap(), "loose-proposal");
    let remove = scene.mallory.propose_remove(1, content).unwrap();
    scene.refuse(&remove.to_bytes().unwrap(), "authenticated-data");
    // a commit that refers to them
    let output = scene.commit(|builder| builder);
    let commit = output.commit_message().to_bytes().unwrap();
    scene.refuse(&commit, "loose-proposal");
    scene.mallory.clear_proposal_cache();
    scene.go_on();
}

#[test]
fn attack_70_messages_of_another_conversation_are_refused() {
    let mut scene = Scene::new();
    let carol = scene.world.device(3);
    let second = ConversationId::new([2; 16]);
    let created = carol
        .client
        .create(second, &scene.world.disclosure(1), vec![], NOW);
    let (mut other, _) = created.unwrap();
    let (handshake, _) = other.update(NOW).unwrap();
    scene.refuse(&handshake.commit, "other-conversation");
    scene.go_on();
}

fn raw_outsider(scene: &Scene) -> crate::hostile::RawClient {
    let key = greffe_mls::SigningKey::generate().unwrap();
    let device = scene.world.certify(5, &key);
    let me = crate::hostile::identity(device.device, device.certificate, &key);
    raw_client(me, &key, &habits())
}
