//! Attack 14: the relay forks a conversation.

use crate::world::{NOW, World, refused, settle, talk};
use greffe_types::Digest;

#[test]
fn attack_14_a_fork_shows_in_the_epoch_authenticators() {
    let world = World::new();
    let mut peers = [1, 2, 3, 4].map(|number| world.device(number));
    let mut all = world.conversation(&mut peers);
    let [alice, bob, carol, dave] = &mut all[..] else {
        panic!("four")
    };
    let (one, _) = alice.update(NOW).unwrap();
    let (other, _) = bob.update(NOW).unwrap();
    settle(alice, &mut [carol], &one);
    settle(bob, &mut [dave], &other);
    assert_eq!(carol.epoch(), dave.epoch());
    assert_ne!(
        carol.epoch_authenticator().unwrap(),
        dave.epoch_authenticator().unwrap()
    );
    // and nothing passes from one branch to the other
    let (message, _) = alice.seal(&[1; 32], &Digest::new([2; 32])).unwrap();
    assert_eq!(refused(dave, &message).code(), "mls");
    let (commit, _) = alice.update(NOW).unwrap();
    assert_eq!(refused(dave, &commit.commit).code(), "mls");
    talk(bob, dave, 1);
}
