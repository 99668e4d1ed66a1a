//! Key generation over the nodes: what the root did not ask for is not made, and what is made is of no use before the log.

use ed25519_dalek::SigningKey;
use greffe_api::escrow::{AdvanceKeygenRequest, GetStatusRequest};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_escrow::app::MIGRATIONS;
use greffe_escrow::app::share::unseal;
use greffe_service_kit::db::{Database, DbOptions, Source, sql};
use greffe_service_kit::errors::CallError;
use greffe_service_kit::secrets::Secrets;
use greffe_types::Digest;

use crate::log::now;
use crate::world::{RunningNode, World, signer, tenant};

async fn advance(
    world: &World,
    descriptor: Signed<pb::KeygenDescriptor>,
    round: u32,
    messages: Vec<pb::SignedStatement>,
) -> Result<Vec<pb::SignedStatement>, String> {
    let request = AdvanceKeygenRequest {
        descriptor: Some(descriptor.into_raw()),
        round,
        messages,
    };
    match world.client(0).advance_keygen(request).await {
        Ok(response) => Ok(response.into_inner().messages),
        Err(status) => Err(CallError::from(status).reason.unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_roots_descriptor_for_this_node_in_its_place_is_followed() {
    let world = World::new().await;
    let with = |change: fn(&mut pb::KeygenDescriptor)| {
        let mut descriptor = world.descriptor();
        change(&mut descriptor);
        Signed::sign(descriptor, &[("root", &signer(1))])
    };
    let bad = [
        Signed::sign(world.descriptor(), &[("root", &signer(200))]),
        with(|d| d.expiry = now().get()),
        with(|d| d.tenant = "other".into()),
        with(|d| d.bundle_version = 2),
        with(|d| d.threshold = 1),
        with(|d| d.nodes.swap(0, 1)),
        with(|d| {
            d.nodes.remove(0);
        }),
        with(|d| d.notices.clear()),
    ];
    for (at, descriptor) in bad.into_iter().enumerate() {
        let refused = advance(&world, descriptor, 0, vec![]).await;
        assert_eq!(refused, Err("KEYGEN_DESCRIPTOR".to_owned()), "case {at}");
    }
    let good = with(|_| {});
    assert_eq!(
        advance(&world, good.clone(), 1, vec![]).await,
        Err("KEYGEN_SESSION".to_owned())
    );
    let first = advance(&world, good.clone(), 0, vec![]).await.unwrap();
    // Asked again, the same commitments: two would be two stories.
    assert_eq!(
        advance(&world, good.clone(), 0, vec![]).await.unwrap(),
        first
    );
    // A second story under the same session.
    let other = with(|d| d.purpose.push('!'));
    assert_eq!(
        advance(&world, other, 0, vec![]).await,
        Err("KEYGEN_SESSION".to_owned())
    );
}

/// What another node says wrongly ends the ceremony here; what is nobody's changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_28_a_bad_message_ends_the_ceremony_at_the_node() {
    let world = World::new().await;
    let descriptor = Signed::sign(world.descriptor(), &[("root", &signer(1))]);
    advance(&world, descriptor.clone(), 0, vec![])
        .await
        .unwrap();
    let message = |payload: Vec<u8>| pb::CeremonyMessage {
        session: vec![7; 16],
        round: 1,
        sender: "escrow-2".into(),
        receiver: String::new(),
        payload,
    };
    let forged = Signed::sign(message(vec![1]), &[("escrow-2", &signer(200))]);
    let refused = advance(&world, descriptor.clone(), 1, vec![forged.into_raw()]).await;
    assert_eq!(refused, Err("KEYGEN_MESSAGE".to_owned()));
    let again = advance(&world, descriptor.clone(), 1, vec![]).await;
    assert_eq!(again, Ok(vec![]));
    // Signed by the nodes themselves, and no commitments: nothing that follows can be trusted.
    let authentic = [1, 2].map(|at| {
        let node = &world.nodes[at];
        let secrets = Secrets::open(&node.folder).unwrap();
        let key = SigningKey::from_bytes(&secrets.seed("signing_key").unwrap());
        let mut message = message(vec![1]);
        message.sender.clone_from(&node.name);
        Signed::sign(message, &[(&node.name, &key)]).into_raw()
    });
    let refused = advance(&world, descriptor.clone(), 1, authentic.to_vec()).await;
    assert_eq!(refused, Err("KEYGEN_MESSAGE".to_owned()));
    let over = advance(&world, descriptor, 1, vec![]).await;
    assert_eq!(over, Err("KEYGEN_SESSION".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_is_sealed_at_rest_and_inactive_before_the_log_shows_its_key() {
    let mut world = World::new().await;
    let ends = world.generate(world.descriptor()).await;
    assert_eq!(ends.len(), 3);
    // Each signed alone.
    for ((record, epoch), node) in ends.iter().zip(&world.nodes) {
        for statement in [record, epoch] {
            let signers: Vec<_> = statement.signatures.iter().map(|s| &s.signer).collect();
            assert_eq!(signers, [&node.name]);
        }
    }
    world.stop(0).await;
    check_sealed(&world.nodes[0]).await;
    world.start(0).await;
    let status = world
        .client(0)
        .get_status(GetStatusRequest {})
        .await
        .unwrap();
    let keys = status.into_inner().keys;
    assert_eq!(keys.len(), 1);
    assert!(!keys[0].active);
}

/// The stored share opens under the node's own key at its own row only, and no byte of it stands in the database.
async fn check_sealed(node: &RunningNode) {
    let secrets = Secrets::open(&node.folder).unwrap();
    let path = node.folder.join("escrow.db");
    let source = match &node.store {
        Some(store) => Source::postgres(store.url(), &tenant(), &node.name).unwrap(),
        None => Source::File(path.clone()),
    };
    let db = Database::open(&source, &MIGRATIONS, DbOptions::default())
        .await
        .unwrap();
    let row = sql::query_as("SELECT key_id, share_epoch, sealed FROM share");
    let (key_id, epoch, sealed): (Vec<u8>, Vec<u8>, Vec<u8>) =
        row.fetch_one(db.read()).await.unwrap();
    db.close().await.unwrap();
    let key_id = Digest::try_from(key_id.as_slice()).unwrap();
    let epoch = Digest::try_from(epoch.as_slice()).unwrap();
    let share = unseal(secrets.seal_key(), &key_id, &epoch, &sealed).unwrap();
    assert_eq!((share.index(), share.threshold()), (1, 2));
    assert!(unseal(secrets.seal_key(), &epoch, &key_id, &sealed).is_err());
    let plain = share.to_bytes();
    // Version, tenant, epoch, index and threshold come first; then the scalar and the ML-KEM seed.
    let secret = &plain[1 + 4 + "acme".len() + 32 + 2 + 2..][..32 + 64];
    for part in secret.chunks(16) {
        let found = match &node.store {
            Some(store) => store.holds(part),
            None => std::fs::read(&path)
                .unwrap()
                .windows(16)
                .any(|window| window == part),
        };
        assert!(!found);
    }
}
