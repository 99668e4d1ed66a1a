//! Attack 68: two extensions with one serial; a joiner shown an old one.

use greffe_mls::{MlsError, Mode, Refusal};
use greffe_types::ConversationId;

use crate::world::{ID, NOW, World};

#[test]
fn attack_68_two_disclosures_with_one_serial_are_refused() {
    let world = World::new();
    let mut peers = [world.device(1), world.device(2)];
    let mut all = world.conversation(&mut peers);
    let other = world.root.disclosure(Mode::Journaled, 1, &["acme"], 2);
    assert_ne!(other, world.disclosure(1));
    // in the conversation
    let refusal = all[0].disclose(&other, NOW).unwrap_err();
    assert!(matches!(
        refusal,
        MlsError::Refused(Refusal::SerialReused(1))
    ));
    // and in another one: the client remembers what it has seen
    let second = ConversationId::new([2; 16]);
    let create = |extension: &[u8]| {
        let rows = peers[0].database.disclosures();
        peers[0].client.create(second, extension, rows, NOW)
    };
    let refusal = create(&other).unwrap_err();
    assert!(matches!(
        refusal,
        MlsError::Refused(Refusal::SerialReused(1))
    ));
    assert!(create(&world.disclosure(1)).is_ok());
}

#[test]
fn attack_68_a_joiner_shown_an_old_disclosure_refuses() {
    let world = World::new();
    let (alice, mut bob, mut carol) = (world.device(1), world.device(2), world.device(3));
    let old = alice.client.create(ID, &world.disclosure(1), vec![], NOW);
    let (mut old, _) = old.unwrap();
    let packages = [bob.key_package().bytes, carol.key_package().bytes];
    let (handshake, _) = old.add(&packages, NOW).unwrap();
    let welcome = handshake.welcome.unwrap();

    // Bob has been in a conversation with serial 2
    let second = ConversationId::new([2; 16]);
    let rows = bob.database.disclosures();
    let created = bob.client.create(second, &world.disclosure(2), rows, NOW);
    bob.database.write(&created.unwrap().1);
    let refusal = bob.join(&welcome).unwrap_err();
    let expected = Refusal::SerialLower { known: 2, found: 1 };
    assert_eq!(refused(refusal).to_string(), expected.to_string());

    // Carol has seen nothing, but the nodes tell her that serial 2 is current
    world.root.require(2);
    let refusal = carol.join(&welcome).unwrap_err();
    assert_eq!(refused(refusal).code(), "disclosure");
    world.root.require(1);
    carol.join(&welcome).unwrap();
}

fn refused(error: MlsError) -> Refusal {
    match error {
        MlsError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    }
}
