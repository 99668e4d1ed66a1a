//! Derivations from seeds, each by itself.

use greffe_envelope::derive::{Seed, SeedKeys, core};
use greffe_envelope::label::{SEED_SALT, hash, sha256};
use greffe_envelope::padding::pad;
use greffe_envelope::wrap::key_id;
use greffe_types::{ConversationId, DeviceId, MessageId};
use hkdf::Hkdf;
use serde_json::{Value, json};
use sha2::Sha256;

use super::json::{Json as _, hex};
use super::keys::Seeded;

pub fn cases() -> Vec<Value> {
    [
        "acme",
        "a-tenant-with-a-name-of-sixty-three-characters-which-is-the-most",
    ]
    .map(case)
    .into()
}

fn case(tenant: &str) -> Value {
    let mut rng = Seeded::new(&format!("derive {tenant}"));
    let seed: [u8; 32] = rng.array();
    let (conversation, message, device): ([u8; 16], [u8; 16], [u8; 16]) =
        (rng.array(), rng.array(), rng.array());
    let header = rng.bytes(100);
    let core = core(
        tenant,
        &ConversationId::new(conversation),
        &MessageId::new(message),
        &DeviceId::new(device),
    );
    let keys = SeedKeys::new(&Seed::from_bytes(seed), &core);
    let cek = keys.cek();
    let hd = hash("header", &[&header]);
    let (content_key, commitment) = cek.content(&hd);
    let attachments: Vec<Value> = [0_u32, 1, 63]
        .iter()
        .map(|index| {
            let data = rng.bytes(10 * *index as usize);
            let digest = sha256(&pad(&data));
            let key = cek.attachment_key(&core, *index, &digest);
            json!({
                "index": index,
                "data": hex(&data),
                "padded_digest": digest.json(),
                "key": hex(key.as_bytes()),
            })
        })
        .collect();
    let public_key = rng.bytes(1249);
    json!({
        "tenant": tenant,
        "conversation": hex(conversation),
        "message": hex(message),
        "device": hex(device),
        "seed": hex(seed),
        "core": core.json(),
        "prk": hex(Hkdf::<Sha256>::extract(Some(SEED_SALT), &seed).0),
        "cek": hex(cek.as_bytes()),
        "seed_commitment": keys.commitment().json(),
        "attachments": attachments,
        "header": hex(&header),
        "hd": hd.json(),
        "content_key": hex(content_key.as_bytes()),
        "commitment": commitment.json(),
        "public_key": hex(&public_key),
        "key_id": key_id(tenant, &public_key).json(),
    })
}
