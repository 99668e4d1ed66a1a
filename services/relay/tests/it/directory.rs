//! Trust, devices, sessions, key packages.

use greffe_api::relay as api;
use greffe_envelope::pb;
use greffe_envelope::pb::log_entry::Event;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::ROOT;
use greffe_mls::KeyPackageKind;
use greffe_service_kit::errors::CallError;

use crate::support::{Device, World, reason};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_superseded_is_served_apart_from_what_is_in_force() {
    let world = World::new().await;
    let disclosure = world.tenant.next_disclosure(2);
    world.publish(disclosure.raw().clone()).await.unwrap();
    let mut bundle = world.tenant.bundle.message().clone();
    bundle.version = 2;
    bundle.previous = world.tenant.bundle.digest().to_vec();
    bundle.contact.push('!');
    let bundle = Signed::sign(bundle, &[(ROOT, &world.tenant.root)]);
    world.publish(bundle.raw().clone()).await.unwrap();
    let trust = world
        .directory()
        .get_trust(api::GetTrustRequest {})
        .await
        .unwrap()
        .into_inner();
    let logged = |of: &[api::LoggedStatement]| {
        assert_eq!(of.len(), 1);
        (of[0].statement.clone().unwrap(), of[0].log_index)
    };
    assert_eq!(trust.bundle.as_ref(), Some(bundle.raw()));
    assert_eq!(trust.older_bundles, [world.tenant.bundle.raw().clone()]);
    let place = |version, log_index| api::BundlePlace { version, log_index };
    assert_eq!(trust.bundle_places, [place(1, 0), place(2, 5)]);
    assert_eq!(logged(&trust.disclosures), (disclosure.raw().clone(), 4));
    assert_eq!(
        logged(&trust.superseded_disclosures),
        (world.tenant.disclosure.raw().clone(), 3)
    );
    // Both name one key.
    assert_eq!(trust.key_records.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_root_signs_is_logged_and_served() {
    let world = World::new().await;
    let trust = world
        .directory()
        .get_trust(api::GetTrustRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(trust.bundle.as_ref(), Some(world.tenant.bundle.raw()));
    let logged = |of: &[api::LoggedStatement]| {
        assert_eq!(of.len(), 1);
        (of[0].statement.clone().unwrap(), of[0].log_index)
    };
    assert_eq!(
        logged(&trust.key_records),
        (world.tenant.record.raw().clone(), 1)
    );
    assert_eq!(
        logged(&trust.share_epochs),
        (world.tenant.epoch.raw().clone(), 2)
    );
    assert_eq!(
        logged(&trust.disclosures),
        (world.tenant.disclosure.raw().clone(), 3)
    );
    // the same again is the same leaf, the first bundle included
    for (statement, index) in world.tenant.statements().into_iter().zip(0..) {
        assert_eq!(world.publish(statement).await.unwrap(), index);
    }
    assert_eq!(world.audit.events().len(), 4);
    assert!(trust.superseded_disclosures.is_empty() && trust.older_bundles.is_empty());

    let mut forged = world.tenant.disclosure.message().clone();
    forged.serial = 2;
    let forged = Signed::sign(forged, &[(ROOT, &world.tenant.node)]);
    let refused = world.publish(forged.into_raw()).await;
    assert_eq!(reason(refused), "STATEMENT_REFUSED");
    world.audit.refusal("STATEMENT_REFUSED").await;
    let other = world.tenant.cert(
        "eve",
        greffe_types::DeviceId::new([9; 16]),
        [7; 32],
        &world.tenant.node,
        &world.tenant.issuer,
    );
    assert_eq!(
        reason(world.publish(other.into_raw()).await),
        "STATEMENT_TYPE"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_log_comes_into_force_and_survives_a_restart() {
    let mut world = World::new().await;
    let mut alice = world.device("alice", 1).await;
    alice.publish_key_packages(1).await.unwrap();
    let revoking = world.tenant.revoke(alice.cert.digest().as_bytes());
    // what the root did not sign changes nothing
    let mut forged = revoking.message().clone();
    forged.revocations.clear();
    let forged = Signed::sign(forged, &[(ROOT, &world.tenant.node)]);
    world.audit.add(Event::Statement(forged.into_raw()));
    world.audit.add(Event::Statement(revoking.into_raw()));
    for round in 0..2 {
        let refused: CallError = loop {
            match alice.publish_key_packages(1).await {
                Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                Err(error) => break error,
            }
        };
        assert_eq!(
            refused.reason.as_deref(),
            Some("CERTIFICATE_INVALID"),
            "{round}: {refused}"
        );
        if round == 0 {
            world.restart().await;
            alice = reconnect(&world, alice);
        }
    }
    let again = alice.cert.raw().clone();
    assert_eq!(reason(world.register(again).await), "STATEMENT_REFUSED");
}

/// The same device and session on a new channel.
fn reconnect(world: &World, mut device: Device) -> Device {
    let fresh = Device::new(&world.tenant, world.channel("desk"), &device.user, 1);
    (device.directory, device.relay) = (fresh.directory, fresh.relay);
    device
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_serves_its_device_its_challenge_and_this_relay_only() {
    let world = World::new().await;
    let mut alice = world.device("alice", 1).await;
    let mut bob = world.device("bob", 2).await;
    let challenge = alice.challenge().await.unwrap();
    // another's signature, another's challenge, another audience, another tenant
    let message = alice.login_message(challenge.clone());
    let forged = bob.sign(message.clone()).into_raw();
    assert_eq!(reason(alice.login_with(forged).await), "LOGIN_REFUSED");
    let stolen = bob.sign(bob.login_message(challenge.clone())).into_raw();
    assert_eq!(reason(bob.login_with(stolen).await), "CHALLENGE_REFUSED");
    for change in [
        |m: &mut pb::DeviceLogin| m.audience = "archive".into(),
        |m: &mut pb::DeviceLogin| m.tenant = "umbrella".into(),
        |m: &mut pb::DeviceLogin| m.device = vec![2; 16],
    ] {
        let mut message = message.clone();
        change(&mut message);
        let login = alice.sign(message).into_raw();
        assert_eq!(reason(alice.login_with(login).await), "LOGIN_REFUSED");
    }
    // none of them has used the challenge up
    let login = alice.sign(message).into_raw();
    alice.login_with(login.clone()).await.unwrap();
    assert_eq!(reason(alice.login_with(login).await), "CHALLENGE_REFUSED");
    world.audit.refusal("LOGIN_REFUSED").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_17_a_session_that_was_not_issued_here_is_unauthenticated() {
    let world = World::new().await;
    let mut alice = world.device("alice", 1).await;
    alice.publish_key_packages(1).await.unwrap();
    let genuine = alice.session.clone();
    alice.session[40] ^= 1;
    assert_eq!(
        reason(alice.publish_key_packages(1).await),
        "SESSION_FORGED"
    );
    world.audit.refusal("SESSION_FORGED").await;
    alice.session = vec![];
    let without = api::PublishKeyPackagesRequest::default();
    let refused = alice.directory.publish_key_packages(without).await;
    assert_eq!(reason(refused), "SESSION_MISSING");
    // a session is no licence for a service's RPCs, and an application without one is not a device
    alice.session = genuine;
    alice.publish_key_packages(1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_71_a_device_key_that_the_issuer_did_not_certify_gets_nowhere() {
    let world = World::new().await;
    let mut alice = world.device("alice", 1).await;
    // the directory's own certificate for alice's device
    let forged = world.tenant.cert(
        "alice",
        alice.id,
        alice.mls_key.public(),
        &alice.envelope_key,
        &world.tenant.node,
    );
    let refused = world.register(forged.raw().clone()).await;
    assert_eq!(reason(refused), "STATEMENT_REFUSED");
    world.audit.refusal("STATEMENT_REFUSED").await;
    // a genuine certificate, but the device is another user's
    let other = world.tenant.cert(
        "mallory",
        alice.id,
        alice.mls_key.public(),
        &alice.envelope_key,
        &world.tenant.issuer,
    );
    let refused = world.register(other.raw().clone()).await;
    assert_eq!(reason(refused), "DEVICE_OF_OTHER_USER");
    // key packages of a leaf key that no certificate names, and of another device
    let mut mallory = Device::new(&world.tenant, world.channel("desk"), "mallory", 7);
    let unknown = mallory.key_packages(1, KeyPackageKind::Once);
    let request = alice.request(api::PublishKeyPackagesRequest {
        key_packages: unknown,
        last_resort: vec![],
    });
    let refused = alice.directory.publish_key_packages(request).await;
    assert_eq!(reason(refused), "KEY_PACKAGE_REFUSED");
    let mut bob = world.device("bob", 2).await;
    let bobs = bob.key_packages(1, KeyPackageKind::Once);
    let request = alice.request(api::PublishKeyPackagesRequest {
        key_packages: bobs,
        last_resort: vec![],
    });
    let refused = alice.directory.publish_key_packages(request).await;
    assert_eq!(reason(refused), "KEY_PACKAGE_OF_OTHER_DEVICE");
    // nothing of it is given to anybody
    assert!(bob.claim(&["alice", "mallory"]).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_16_key_packages_claimed_at_once_are_given_once_each() {
    let world = World::new().await;
    let mut bob = world.device("bob", 2).await;
    let last_resort = bob.key_packages(1, KeyPackageKind::LastResort).remove(0);
    let key_packages = bob.key_packages(5, KeyPackageKind::Once);
    let request = bob.request(api::PublishKeyPackagesRequest {
        key_packages: key_packages.clone(),
        last_resort: last_resort.clone(),
    });
    let answer = bob.directory.publish_key_packages(request).await.unwrap();
    assert_eq!(answer.into_inner().available, 5);
    let alice = world.device("alice", 1).await;
    let claims = (0..20).map(|_| {
        let request = alice.request(api::ClaimKeyPackagesRequest {
            users: vec!["bob".into()],
        });
        let mut directory = alice.directory.clone();
        async move { directory.claim_key_packages(request).await.unwrap() }
    });
    let mut once = Vec::new();
    for answer in futures::future::join_all(claims).await {
        let claimed = answer.into_inner().key_packages.remove(0);
        assert_eq!(claimed.device_cert.as_ref(), Some(bob.cert.raw()));
        if claimed.last_resort {
            assert_eq!(claimed.key_package, last_resort);
        } else {
            once.push(claimed.key_package);
        }
    }
    once.sort();
    let mut published = key_packages.clone();
    published.sort();
    assert_eq!(once, published, "each of the five went to one caller");
    // publishing a used one again does not bring it back
    let request = bob.request(api::PublishKeyPackagesRequest {
        key_packages,
        last_resort: vec![],
    });
    let answer = bob.directory.publish_key_packages(request).await.unwrap();
    assert_eq!(answer.into_inner().available, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_registered_once_and_their_certificates_found() {
    let world = World::new().await;
    let mut alice = world.device("alice", 1).await;
    let before = world.audit.events().len();
    let index = world.register(alice.cert.raw().clone()).await.unwrap();
    assert_eq!(world.audit.events().len(), before, "one leaf");
    assert_eq!(
        world.audit.events()[index as usize],
        Event::Statement(alice.cert.raw().clone())
    );
    let request = alice.request(api::GetDeviceCertsRequest {
        digests: vec![alice.cert.digest().to_vec()],
    });
    let found = alice.directory.get_device_certs(request).await.unwrap();
    assert_eq!(found.into_inner().device_certs, [alice.cert.raw().clone()]);
    let request = alice.request(api::GetDeviceCertsRequest {
        digests: vec![vec![1; 32]],
    });
    let unknown = alice.directory.get_device_certs(request).await;
    assert_eq!(reason(unknown), "CERTIFICATE_UNKNOWN");
}
