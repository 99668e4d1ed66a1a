//! Attachments: complete in the archive before a message may name them, and for its members only.

use greffe_api::relay as api;
use greffe_api::relay::upload_attachment_request::Part;
use greffe_envelope::label::sha256;
use greffe_envelope::padding::padded_len;
use greffe_envelope::pb;
use greffe_envelope::stream::ciphertext_len;
use greffe_service_kit::errors::CallError;
use greffe_types::Digest;
use tokio_stream::wrappers::ReceiverStream;

use crate::support::{Member, Outgoing, Talk, World, present, reason};

/// A ciphertext of a size that a padded attachment has.
pub(crate) fn ciphertext(size: u64) -> Vec<u8> {
    let bytes = 0..ciphertext_len(padded_len(size));
    bytes.map(|n| (n % 251) as u8).collect()
}

pub(crate) async fn upload(
    member: &Member,
    digest: &Digest,
    size: u64,
    chunks: Vec<Vec<u8>>,
) -> Result<Digest, CallError> {
    let start = Part::Start(api::UploadStart {
        digest: digest.to_vec(),
        size,
        conversation: member.id().to_vec(),
    });
    let parts = [start]
        .into_iter()
        .chain(chunks.into_iter().map(Part::Chunk));
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        for part in parts {
            let part = api::UploadAttachmentRequest { part: Some(part) };
            if sender.send(part).await.is_err() {
                return;
            }
        }
    });
    let request = member.device.request(ReceiverStream::new(receiver));
    let answer = member.device.relay.clone().upload_attachment(request).await;
    let digest = answer.map_err(CallError::from)?.into_inner().digest;
    Ok(Digest::try_from(digest.as_slice()).unwrap())
}

pub(crate) async fn download(member: &Member, digest: &Digest) -> Result<Vec<u8>, CallError> {
    let request = member.device.request(api::DownloadAttachmentRequest {
        conversation: member.id().to_vec(),
        digest: digest.to_vec(),
    });
    let answer = member
        .device
        .relay
        .clone()
        .download_attachment(request)
        .await;
    let mut parts = answer.map_err(CallError::from)?.into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = parts.message().await.map_err(CallError::from)? {
        bytes.extend(part.chunk);
    }
    Ok(bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_58_a_message_names_only_what_is_complete_in_the_archive() {
    let world = World::new().await;
    let mut members = world.conversation(5, &["alice", "bob"]).await;
    let bob = members.pop().unwrap();
    let mut alice = members.pop().unwrap();
    let bytes = ciphertext(700_000);
    let (digest, size) = (sha256(&bytes), bytes.len() as u64);
    let named = vec![pb::AttachmentRef {
        digest: digest.to_vec(),
        size,
    }];
    let mut out = Outgoing::open(&alice).await;
    let talk = Talk::new();
    let request = talk.seal(&world, &mut alice, "see attached", |h| {
        h.attachments = named.clone();
    });
    assert_eq!(
        out.send(request.clone()).await.reason,
        "ATTACHMENT_INCOMPLETE"
    );

    // other bytes than announced, too few, too many: not there
    let chunks = |bytes: &[u8]| {
        bytes
            .chunks(256 << 10)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let mut other = bytes.clone();
    other[0] ^= 1;
    for wrong in [
        &other[..],
        &bytes[1..],
        &[&bytes[..], &[0][..]].concat()[..],
    ] {
        let refused = upload(&alice, &digest, size, chunks(wrong))
            .await
            .unwrap_err();
        let why = refused.reason.as_deref();
        // whichever of the two hashes them first
        assert!(
            matches!(why, Some("ATTACHMENT_MISMATCH" | "ARCHIVE_UNAVAILABLE")),
            "{refused}"
        );
    }
    assert_eq!(world.archive.attachment(&digest), None);
    assert_eq!(
        out.send(request.clone()).await.reason,
        "ATTACHMENT_INCOMPLETE"
    );
    assert_eq!(
        reason(download(&alice, &digest).await),
        "ATTACHMENT_UNKNOWN"
    );

    assert_eq!(
        upload(&alice, &digest, size, chunks(&bytes)).await,
        Ok(digest)
    );
    assert_eq!(world.archive.attachment(&digest).as_ref(), Some(&bytes));
    // complete, but no message names it yet
    assert_eq!(reason(download(&bob, &digest).await), "ATTACHMENT_UNKNOWN");
    assert_eq!(out.send(request).await.sequence, 2);
    assert_eq!(download(&bob, &digest).await, Ok(bytes.clone()));
    assert_eq!(download(&alice, &digest).await, Ok(bytes.clone()));

    // a replica that takes over has no copy: it fetches one, and keeps it only whole and as it was named
    let copies = world
        .data()
        .join("attachments")
        .join(alice.id().to_string());
    std::fs::remove_dir_all(&copies).unwrap();
    world.archive.rot(&digest);
    assert_eq!(reason(download(&bob, &digest).await), "ATTACHMENT_MISMATCH");
    assert!(!copies.join(digest.to_string()).exists());
    world.archive.rot(&digest);
    assert_eq!(download(&bob, &digest).await, Ok(bytes.clone()));
    assert!(copies.join(digest.to_string()).exists());

    // who came later, and who never came, gets nothing
    let mut carol = world.device("carol", 3).await;
    carol.publish_key_packages(1).await.unwrap();
    present(&carol.known, &bob.device.cert);
    let invited = alice.add(&["carol"]).await.unwrap();
    let mut carol = carol.join(&invited).unwrap();
    carol.acknowledge().await.unwrap();
    assert_eq!(
        reason(download(&carol, &digest).await),
        "ATTACHMENT_UNKNOWN"
    );
    let dave = world.device("dave", 4).await.create(6).await.unwrap();
    let stranger = Member {
        device: dave.device,
        conversation: alice.conversation,
    };
    assert_eq!(
        reason(download(&stranger, &digest).await),
        "ATTACHMENT_UNKNOWN"
    );
    let refused = upload(&stranger, &digest, size, chunks(&bytes)).await;
    assert_eq!(reason(refused), "CONVERSATION_UNKNOWN");
}
