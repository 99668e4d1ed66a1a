//! A record opened by nodes: share epoch, partial openings with proofs, sealed answers, combinations.

use ed25519_dalek::SigningKey;
use greffe_envelope::ceremony::{NodeShare, ShareHolders, ShareInfo};
use greffe_envelope::curve::{Point, Scalar};
use greffe_envelope::hybrid::combine;
use greffe_envelope::label::{Prk, hash, label, lp};
use greffe_envelope::opening::{
    ANSWER_SIZE, AnswerContext, HybridSecretKey, Opener, PartialStatement, answer_with_salt,
    verify_partial,
};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::wrap::WrapView;
use greffe_types::Digest;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::json::{Json as _, hex, point, scalar};
use super::keys::{Secret, Seeded};
use super::message::Plan;

const NODES: u16 = 3;
const THRESHOLD: u16 = 2;

/// One node with its part.
struct Node {
    name: String,
    signer: SigningKey,
    share: NodeShare,
    scalar: Scalar,
    statement: PartialStatement,
}

pub fn cases() -> Vec<Value> {
    let secret = Secret::new("acme");
    let (sealed, _) = Plan::new("a line under one key", &["acme"], &[&secret]).seal();
    let wrap = WrapView::parse(&sealed.wraps[0].sealed).unwrap();
    let mut rng = Seeded::new("opening");
    let context = AnswerContext {
        tenant: "acme".into(),
        order: Digest::new(rng.array()),
        envelope: sealed.envelope.digest(),
        key_id: *secret.key.key_id(),
        encapsulation: wrap.enc().try_into().unwrap(),
    };
    let images: Vec<_> = (1..=NODES)
        .map(|i| Point::mul_base(&secret.share(i)).to_compressed().unwrap())
        .collect();
    let epoch = Signed::sign(share_epoch(&secret, &images), &[]);
    let record = record(&secret);
    let holders = ShareHolders::check(&epoch, &record).unwrap();
    let reader_seed: [u8; 32] = rng.array();
    let reader = HybridSecretKey::from_seed(&reader_seed);
    let mut opener = Opener::new(
        context.clone(),
        &holders,
        *secret.key.public_key(),
        sealed.envelope.record_digest(),
        wrap.ct().try_into().unwrap(),
    );
    let mut cases = Vec::new();
    for index in 1..=NODES {
        let info = ShareInfo {
            tenant: "acme".into(),
            share_epoch: epoch.digest(),
            index,
            threshold: THRESHOLD,
            public_key: *secret.key.public_key(),
            verification_shares: images.clone(),
        };
        let scalar = secret.share(index);
        let share = NodeShare::new(
            info,
            Zeroizing::new(scalar),
            Zeroizing::new(secret.kem_seed),
        )
        .unwrap();
        let statement = context
            .statement(share.share_epoch(), index, share.verification_share())
            .unwrap();
        let node = Node {
            name: format!("escrow-{index}"),
            signer: rng.signer(),
            share,
            scalar,
            statement,
        };
        let (value, answer) = node.answer(&context, &reader);
        let key = node.signer.verifying_key().to_bytes();
        opener.add(&reader, &node.name, &key, &answer).unwrap();
        cases.push(value);
    }
    let opened = opener.open().unwrap();
    assert!(opened.wrong_secrets.is_empty());
    vec![json!({
        "tenant": "acme",
        "kem_seed": hex(secret.kem_seed),
        "coefficients": [scalar(&secret.coefficients[0]), scalar(&secret.coefficients[1])],
        "public_key": hex(secret.key.public_key()),
        "key_id": secret.key.key_id().json(),
        "share_epoch": epoch.message().json(),
        "share_epoch_bytes": hex(epoch.bytes()),
        "share_epoch_digest": epoch.digest().json(),
        "order": context.order.json(),
        "envelope": context.envelope.json(),
        "rd": sealed.envelope.record_digest().json(),
        "enc": hex(wrap.enc()),
        "ct": hex(wrap.ct()),
        "rejected_secret": hex(secret.reject(wrap.mlkem_ciphertext())),
        "reader_seed": hex(reader_seed),
        "reader_key": hex(reader.public_key()),
        "nodes": cases,
        "combinations": combinations(&secret, &wrap),
        "cek": hex(opened.key.as_slice()),
    })]
}

impl Node {
    /// The node's answer, and what is in it.
    fn answer(&self, context: &AnswerContext, reader: &HybridSecretKey) -> (Value, Vec<u8>) {
        // What the node draws: 32 bytes of salt, then what HPKE draws: 32 for ML-KEM, 32 for P-256.
        let randomness: [u8; 96] = Seeded::new(&self.name).array();
        let salt: [u8; 32] = randomness[..32].try_into().unwrap();
        let mut rng = Seeded::new(&self.name);
        let sealed = context
            .answer(
                &self.share,
                &self.name,
                &self.signer,
                &reader.public_key(),
                &mut rng,
            )
            .unwrap();
        let partial = answer_with_salt(&self.statement, &self.scalar, &salt).unwrap();
        let d = verify_partial(&self.statement, &partial).unwrap();
        let (info, aad) = (
            [label("answer"), lp(b"acme")].concat(),
            [
                context.order.as_bytes(),
                context.envelope.as_bytes(),
                self.name.as_bytes(),
            ]
            .concat(),
        );
        let plain = reader.open(&info, &aad, &sealed).unwrap();
        assert_eq!(plain.len(), ANSWER_SIZE);
        assert_eq!(&plain[34..131], partial.to_bytes().as_slice());
        let k = self.nonce(&d, &salt);
        let e = Point::from_compressed(&self.statement.encapsulation).unwrap();
        let value = json!({
            "index": self.statement.index,
            "name": self.name,
            "scalar": scalar(&self.scalar),
            "verification_share": hex(self.statement.verification_share),
            "signing_key": hex(self.signer.to_bytes()),
            "verifying_key": hex(self.signer.verifying_key().to_bytes()),
            "randomness": hex(randomness),
            "k": scalar(&k),
            "a": point(&Point::mul_base(&k)),
            "b": point(&(e * &k)),
            "partial": hex(partial.to_bytes().as_slice()),
            "ss_mlkem": hex(&plain[131..163]),
            "answer": hex(plain.as_slice()),
            "sealed": hex(&sealed),
        });
        (value, sealed)
    }

    /// The proof's nonce, which the crate shows to nobody.
    fn nonce(&self, d: &Point, salt: &[u8; 32]) -> Scalar {
        let s = &self.statement;
        let digest = hash(
            "partial",
            &[
                s.order.as_bytes(),
                s.envelope.as_bytes(),
                s.key_id.as_bytes(),
                s.share_epoch.as_bytes(),
                &s.index.to_be_bytes(),
                &s.verification_share,
                &s.encapsulation,
                &d.to_compressed().unwrap(),
            ],
        );
        let prk = Prk::extract(salt, self.scalar.to_bytes().as_slice());
        Scalar::reduce48(&prk.expand("partial-k", &[digest.as_bytes()])).unwrap()
    }
}

/// Every pair of nodes arrives at the same point and secret.
fn combinations(secret: &Secret, wrap: &WrapView) -> Vec<Value> {
    let mlkem = secret.decapsulate(wrap.mlkem_ciphertext());
    [[1_u16, 2], [1, 3], [2, 3]]
        .map(|indices| {
            let [i, j] = indices.map(|index| Scalar::from_u64(index.into()));
            // The values at 0 of the lines that are 1 at one index and 0 at the other.
            let weights = [j * (j - i).invert().unwrap(), i * (i - j).invert().unwrap()];
            let terms: Vec<_> = indices
                .iter()
                .zip(weights)
                .map(|(index, weight)| (wrap.point() * &secret.share(*index), weight))
                .collect();
            let d = Point::lincomb_vartime(&terms);
            assert!(d == wrap.point() * &secret.coefficients[0]);
            let e: [u8; 65] = wrap.point_bytes().try_into().unwrap();
            let shared = combine(&mlkem, &d.x().unwrap(), &e, secret.key.point_bytes());
            json!({
                "indices": indices,
                "weights": [scalar(&weights[0]), scalar(&weights[1])],
                "d": point(&d),
                "shared_secret": hex(shared.as_slice()),
            })
        })
        .into()
}

fn share_epoch(secret: &Secret, images: &[[u8; 33]]) -> pb::ShareEpoch {
    pb::ShareEpoch {
        tenant: "acme".into(),
        key_id: secret.key.key_id().to_vec(),
        epoch: 1,
        previous: vec![0; 32],
        threshold: THRESHOLD.into(),
        holders: (1..)
            .zip(images)
            .map(|(index, image)| pb::ShareHolder {
                index,
                node: format!("escrow-{index}"),
                verification_share: image.to_vec(),
            })
            .collect(),
    }
}

fn record(secret: &Secret) -> pb::KeyRecord {
    pb::KeyRecord {
        tenant: "acme".into(),
        key_id: secret.key.key_id().to_vec(),
        public_key: secret.key.public_key().to_vec(),
        t_min: THRESHOLD.into(),
        ..Default::default()
    }
}
