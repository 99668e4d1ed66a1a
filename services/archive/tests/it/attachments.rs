//! Attachments: complete or absent, named or swept.

use std::time::Duration;

use greffe_api::archive as api;
use greffe_archive::jobs::sweep::remove_unnamed;
use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_types::Millis;
use tonic::Code;

use crate::support::{World, receipt_of, refusal};
use crate::world::{Talk, attachment_ciphertext};

fn start(bytes: &[u8], talk: &Talk) -> api::AttachmentStart {
    api::AttachmentStart {
        digest: sha256(bytes).to_vec(),
        size: bytes.len() as u64,
        conversation: talk.id.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_58_a_message_waits_for_its_attachment_which_is_locked_with_it() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let bytes = attachment_ciphertext(1);
    let name = sha256(&bytes);
    let reference = pb::AttachmentRef {
        digest: name.to_vec(),
        size: bytes.len() as u64,
    };
    let message = talk.message_with("with an attachment", |h| {
        h.attachments.push(reference.clone());
    });
    let answers = archive.send(vec![message.clone()]).await.unwrap();
    assert_eq!(answers[0].retry_reason, "ATTACHMENT_MISSING");
    let (head, tail) = bytes.split_at(10);
    let put = archive
        .put_attachment(start(&bytes, &talk), &[head, tail])
        .await
        .unwrap();
    assert_eq!(put.digest, name.to_vec());
    let answers = archive.send(vec![message]).await.unwrap();
    let receipt = receipt_of(&answers[0]);
    let app = &archive.app;
    assert_eq!(
        app.objects.locked_until(&name).await.unwrap(),
        Some(Millis::new(receipt.retain_until))
    );
    // A named attachment is never swept.
    world.clock.advance(Duration::from_secs(48 * 3600));
    assert_eq!(remove_unnamed(app).await.unwrap(), 0);
    assert_eq!(app.object(name).await.unwrap(), bytes);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_58_an_attachment_too_large_or_not_as_announced_is_not_there() {
    let world = World::new().await;
    let archive = world.start().await;
    let talk = Talk::new(1);
    let bytes = attachment_ciphertext(2);
    let whole = start(&bytes, &talk);
    let mut other = bytes.clone();
    other[0] ^= 1;
    let short = &bytes[1..];
    for parts in [vec![other.as_slice()], vec![short], vec![&bytes, &bytes]] {
        let refused = archive
            .put_attachment(whole.clone(), &parts)
            .await
            .unwrap_err();
        assert_eq!(
            refusal(refused),
            (Code::InvalidArgument, "ATTACHMENT_MISMATCH".into())
        );
        assert!(!archive.app.objects.contains(&sha256(&bytes)).await.unwrap());
    }
    let huge = api::AttachmentStart {
        size: greffe_envelope::limits::MAX_ATTACHMENT_CIPHERTEXT + 1,
        ..whole
    };
    let refused = archive.put_attachment(huge, &[&bytes]).await.unwrap_err();
    assert_eq!(refusal(refused).1, "ATTACHMENT_TOO_LARGE");
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_that_nothing_names_is_removed_after_a_day() {
    let world = World::new().await;
    let archive = world.start().await;
    let talk = Talk::new(1);
    let bytes = attachment_ciphertext(3);
    let name = sha256(&bytes);
    let parts = [bytes.as_slice()];
    let put = || archive.put_attachment(start(&bytes, &talk), &parts);
    put().await.unwrap();
    world.clock.advance(Duration::from_secs(23 * 3600));
    assert_eq!(remove_unnamed(&archive.app).await.unwrap(), 0);
    // The same upload again begins a new day.
    put().await.unwrap();
    world.clock.advance(Duration::from_secs(23 * 3600));
    assert_eq!(remove_unnamed(&archive.app).await.unwrap(), 0);
    world.clock.advance(Duration::from_secs(2 * 3600));
    assert_eq!(remove_unnamed(&archive.app).await.unwrap(), 1);
    assert!(!archive.app.objects.contains(&name).await.unwrap());
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_attachment_that_cannot_be_removed_does_not_keep_the_others() {
    let world = World::new().await;
    let archive = world.start().await;
    let talk = Talk::new(1);
    let mut names = Vec::new();
    for fill in [5, 6, 7] {
        let bytes = attachment_ciphertext(fill);
        archive
            .put_attachment(start(&bytes, &talk), &[&bytes])
            .await
            .unwrap();
        names.push(sha256(&bytes));
    }
    // The sweep goes by name: the first of them has a lock that nobody can read.
    names.sort();
    let first = names[0].to_string();
    let lock = format!("objects/{}/{}.retain", &first[..2], &first[2..]);
    let lock = world.data().join(lock);
    std::fs::write(&lock, "soon").unwrap();
    world.clock.advance(Duration::from_secs(25 * 3600));
    assert_eq!(remove_unnamed(&archive.app).await.unwrap(), 2);
    let contains = async |name| archive.app.objects.contains(name).await.unwrap();
    assert!(contains(&names[0]).await);
    assert!(!contains(&names[1]).await && !contains(&names[2]).await);
    std::fs::remove_file(lock).unwrap();
    assert_eq!(remove_unnamed(&archive.app).await.unwrap(), 1);
    archive.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_of_another_size_than_named_makes_a_void() {
    let world = World::new().await;
    let archive = world.start().await;
    let mut talk = Talk::new(1);
    let bytes = attachment_ciphertext(4);
    let longer = [bytes.as_slice(), &[0; 8]].concat();
    archive
        .put_attachment(start(&longer, &talk), &[&longer])
        .await
        .unwrap();
    let reference = pb::AttachmentRef {
        digest: sha256(&longer).to_vec(),
        size: bytes.len() as u64,
    };
    let message = talk.message_with("lies", |h| h.attachments.push(reference));
    let answers = archive.send(vec![message]).await.unwrap();
    let void = Signed::<pb::Void>::decode(answers[0].void.clone().unwrap()).unwrap();
    assert_eq!(void.reason, "ATTACHMENT_SIZE_MISMATCH");
    archive.stop().await;
}
