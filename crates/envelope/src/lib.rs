//! The sealed message: derivations, committing encryption, hybrid wrap, proofs, trust chain, secrets at rest.
//!
//! This documentation is the specification. Whoever implements it in another language finds here and in the modules named
//! every label, size, encoding, order and error; `vectors/` holds an example of each, made by `cargo xtask vectors` from
//! fixed seeds, and `oracle/` an implementation in Python that shares no code with this one and recomputes them all. A
//! change of any vector breaks what has been archived.
//!
//! Everything is a pure function: no file, no network, no clock; time and randomness are parameters, except where a function
//! says that it asks the operating system ([`derive::Seed::random`], [`sealbox`]). Besides `greffe-mls` this is the only
//! crate that names a cipher.
//!
//! # Conventions
//!
//! | Written | Meaning |
//! |---|---|
//! | `a ‖ b` | one after the other |
//! | `be16`, `be32`, `be64` | big-endian integer of 2, 4, 8 bytes |
//! | `LP x` | `be32(length of x) ‖ x` ([`label::lp`]) |
//! | `"word"` | the label `LP("greffe/v1/word")`, once, in front ([`label::label`]) |
//! | `H` | SHA-256 (FIPS 180-4); `H("word" ‖ …)` is [`label::hash`], `H(x)` without a label [`label::sha256`] |
//! | `Extract`, `Expand` | HKDF-SHA-256 (RFC 5869); a label stands at the start of `info` ([`label::Prk`]) |
//! | `G`, `q` | base point and order of P-256 (FIPS 186-5); `G2` see below |
//! | `mod q` | of 32 or 48 big-endian bytes; a zero result fails ([`curve::Scalar::reduce48`], [`curve::Scalar::reduce32`]) |
//!
//! Ids are 16 bytes, digests 32, Ed25519 keys 32 and signatures 64, times milliseconds since the Unix epoch in UTC, in a
//! period the first instant counts and the last does not. A part whose length is not fixed stands as `LP`, or last. Four
//! strings are raw ASCII without `LP`: the extraction salt `greffe/v1/seed`, the tag `greffe/v1/tdh2-g2`, the KEM's own label
//! `MLKEM768-P256`, and HPKE's `HPKE-v1`.
//!
//! Points are SEC1 2.3.3: compressed (33 bytes, first byte 2 or 3) unless uncompressed (65 bytes, first byte 4) is said.
//! Other forms, coordinates not below the field's modulus, points off the curve and the identity are refused wherever a point
//! is read, and the identity wherever one is written ([`curve::CurveError`]). Scalars are 32 bytes big-endian below `q`.
//!
//! # Encoding
//!
//! Messages are protobuf (proto3) of `proto/greffe/envelope/v1`, in the one encoding that is deterministic: fields in the order
//! of their numbers, defaults left out, numbers packed, varints shortest, nothing unknown. Bytes stay as received; they are
//! refused unless decoding and encoding gives them again ([`statement::decode_strict`]). What is signed or hashed are always
//! those bytes, never a new encoding. One exception: a content of a kind that is not known is a newer client's, and read as far
//! as it is understood ([`content::decode`]).
//!
//! A **statement** ([`statement::Signed`]) is `SignedStatement { type, statement, signatures }`: at most 1 MiB and 64 signatures,
//! sorted by signer, one a signer. A signature is algorithm 1, strict Ed25519 (RFC 8032 5.1.7 without cofactor; keys and `R`
//! of small order, keys in a second form and `s ≥ L` refused), over `LP("greffe/v1/" ‖ type) ‖ H(statement)`. `H(statement)` is
//! the statement's digest, its name everywhere. Who signs what:
//!
//! | Type | Message | Signers |
//! |---|---|---|
//! | `trust-bundle` | `TrustBundle` | `root`; when nodes change, also a threshold of the nodes before |
//! | `device-cert` | `DeviceCert` | `issuer` |
//! | `key-record` | `KeyRecord` | `root` and every node of its committee |
//! | `share-epoch` | `ShareEpoch` | every holder, and a threshold of the holders before |
//! | `disclosure` | `Disclosure` | `root` |
//! | `currency` | `Currency` | one node |
//! | `acknowledgement`, `device-login`, `report` | `Acknowledgement`, `DeviceLogin`, `Report` | the device: 32 hexadecimal digits of its id |
//! | `order` | `Order` | its requester |
//! | `approval`, `person-token`, `person-act` | `Approval`, `PersonToken`, `PersonAct` | the person |
//! | `production` | `ProductionStatement` | the reader |
//! | `receipt`, `void`, `range` | `Receipt`, `Void`, `RangeStatement` | one receipt key |
//! | `keygen-descriptor`, `reshare-descriptor` | `KeygenDescriptor`, `ReshareDescriptor` | `root` |
//! | `keygen-message` | `CeremonyMessage` | its sending node |
//! | `share-proof`, `share-destruction` | `ShareProof`, `ShareDestruction` | the node that holds, or held, the share |
//! | `key-unused` | `KeyUnused` | one receipt key |
//! | `key-retirement` | `KeyRetirement` | `root`, around an archive's `key-unused` |
//!
//! [`trust`] says what follows from a pinned root and what each statement has to hold; nothing else is pinned.
//!
//! # One message
//!
//! ```text
//! core             = H("core" ‖ LP tenant ‖ conversation ‖ message ‖ device)       tenant: the device certificate's
//! prk              = Extract("greffe/v1/seed", seed)                                seed: 32 fresh bytes, for this attempt only
//! cek              = Expand(prk, "cek" ‖ core, 32)
//! seed_commitment  = Expand(prk, "seed-commit" ‖ core, 32)
//! attachment_key_i = Expand(cek, "attachment" ‖ core ‖ be32 i ‖ H(padded attachment), 32)              i from 0
//! hd               = H("header" ‖ header)
//! content_key ‖ commitment = Expand(cek, "content" ‖ hd, 64)                        32 and 32 bytes; cek is the PRK as it is
//! ct               = STREAM(content_key, pad(content))
//! rd               = H("record" ‖ hd ‖ H(ct) ‖ commitment ‖ seed_commitment)
//! body             = EnvelopeBody { header, H(ct), length of ct, commitment, seed_commitment, wraps }
//! envelope digest  = H("envelope" ‖ body)
//! signature        = strict Ed25519 by the certificate's envelope key over "sign" ‖ envelope digest
//! ```
//!
//! 1. The sender pads and encrypts the attachments ([`attachment`], [`padding`], [`stream`]): their ciphertexts' digests and
//!    sizes stand in the header, names, media types, lengths and `H(padded attachment)` in the content.
//! 2. It encrypts the content under the header ([`message::Draft::seal`]), makes a wrap for every journaling key, signs.
//! 3. Inside MLS travels nothing but `0x01 ‖ seed`, 33 bytes ([`message::encode_seed`]); the authenticated data of that MLS
//!    message is the envelope digest.
//! 4. Relay and archive judge what they got by [`validate::validate`], then the proofs ([`wrap::verify_proofs`]).
//! 5. A recipient checks, in this order: `seed_commitment`; size and `H(ct)`; `commitment`, in constant time and before
//!    anything is decrypted; every chunk; the padding; the content's encoding; that content and header speak of the same
//!    attachments ([`message::open_with_seed`]). A reader who has the cek begins at the second ([`message::open_with_cek`]).
//! 6. A recipient makes all wraps again and compares ([`recompute::recompute`]): a difference is evidence against the sender
//!    that anybody can check ([`recompute::verify_report`]); a seed that does not match its commitment is none.
//!
//! **Contents** ([`content`]): texts and mails say something; an edit, a retraction, a reaction and its removal name by envelope
//! digest, inside the content, the text or mail they are about, so that no header shows which message was edited or whether any
//! was. What each may hold is checked by who seals. What has effect follows from the conversation in the order of its numbers, by
//! the four rules of [`history`]; what has none is opened, kept and shown like everything else.
//!
//! **Padding**: `be64 length ‖ data ‖ zeros` up to `padmé(8 + length)`; of a length `n ≥ 2` with `E = ⌊log2 n⌋` and
//! `S = ⌊log2 E⌋ + 1`, the low `E - S` bits are rounded up to zero. Length and zeros are checked ([`padding`]).
//!
//! **STREAM**: AES-256-GCM, chunks of 65536 bytes plus a tag of 16, nonce `0^7 ‖ be32 number ‖ last` (`last` is 1 for the last
//! chunk, else 0), no associated data. An empty plaintext is one chunk of nothing; an exact multiple adds no empty chunk.
//! GCM does not commit to its key; `commitment` does, so one ciphertext opens under one key ([`stream`]).
//!
//! **Header**, all of it judged by [`envelope::Header::decode`]: tenants 1 to 16, sorted and unique; mode private, journaled or
//! supervised; user 1 to 255 bytes; record class 1 to 64 and classification 0 to 64 bytes, no control characters; key ids at
//! most 16, sorted and unique, none exactly when private; at most 64 attachments, each of a size that a padded plaintext of at
//! most 5 GiB gives; device counter from 1, `previous` zero exactly at 1; `seen_head` zero exactly when `seen_seq` is 0. At
//! most 16 KiB; a body at most 32 KiB, a content at most 1 MiB before padding ([`limits`]). The body's `wraps` are sorted by
//! tenant and key id and are exactly those of the header's key ids, each of one of the header's tenants.
//!
//! # The wrap
//!
//! One for each journaling key ([`wrap`], [`hybrid`]): 1332 bytes that travel beside the body and can be destroyed without it.
//!
//! | Bytes | Part |
//! |---|---|
//! | 1088 | ML-KEM-768 ciphertext (FIPS 203) |
//! | 65 | `E = rG`, uncompressed; with the ciphertext: `enc`, 1153 |
//! | 48 | `ct`: the cek under HPKE |
//! | 33 + 33 + 33 + 32 | the proof: `U2 ‖ W ‖ W2 ‖ z`, 131 |
//!
//! ```text
//! public key = ML-KEM-768 encapsulation key (1184) ‖ uncompressed point (65)                                    1249
//! key_id     = H("key-id" ‖ LP tenant ‖ public key)
//! rng        = SHAKE256("wrap-rng" ‖ Expand(prk, "wrap" ‖ rd ‖ LP tenant ‖ key_id, 32))
//!              32 bytes for ML-KEM, then windows of 32 until 0 < r < q
//! secret     = SHA3-256(ss_mlkem ‖ x(rPK) ‖ E ‖ PK ‖ "MLKEM768-P256")                  E and PK uncompressed, the label raw
//! enc, ct    = HPKE base mode, KEM 0x0050, KDF 0x0001, AEAD 0x0002; info "wrap" ‖ LP tenant ‖ key_id, aad rd, plaintext cek
//! digest     = H("wrap-digest" ‖ enc ‖ ct ‖ proof)                                      what the body names
//! ```
//!
//! An unmodified HPKE library makes and opens the same bytes. Since `rng` depends on `rd`, no two records share randomness.
//!
//! The proof of knowledge is TDH2's, with `G2 = P256_XMD:SHA-256_SSWU_RO_` (RFC 9380) of the empty message under the tag
//! `greffe/v1/tdh2-g2`:
//!
//! ```text
//! L = H("tdh2" ‖ rd ‖ LP tenant ‖ key_id ‖ H(public key) ‖ enc ‖ ct)
//! k = Expand(prk, "tdh2-k" ‖ L, 48) mod q
//! c = H("tdh2-c" ‖ L ‖ G ‖ G2 ‖ E ‖ U2 ‖ W ‖ W2) mod q                                 compressed points
//! U2 = rG2, W = kG, W2 = kG2, z = k + cr;  holds when zG = W + cE and zG2 = W2 + cU2;  z = 0 allowed, z ≥ q refused
//! ```
//!
//! Many are checked at once with weights of 128 bits from `SHAKE256("tdh2-batch" ‖ c_1 ‖ z_1 ‖ …)`; that is no format, and a
//! batch that fails is checked one by one. What may be used once only, for a tenant and key, is `H(ML-KEM ciphertext)`
//! ([`wrap::WrapView::mlkem_digest`]).
//!
//! # The chain of a conversation
//!
//! ```text
//! head_n = H("chain" ‖ conversation ‖ be64 n ‖ head_{n-1} ‖ entry)                      head_0 = 0^32, n from 1
//! entry  = envelope digest, or H("handshake" ‖ LP PublicMessage), or H("void" ‖ refused digest ‖ LP reason)
//! ```
//!
//! Receipts carry `n`, both heads and the entry; ranges carry every entry between two heads, at most 10,000 ([`chain`]).
//!
//! # Opening
//!
//! An order names 1 to 10,000 envelope digests by count and RFC 6962 root over them, sorted and unique, each digest's 32 bytes
//! being a leaf's data ([`opening::RecordList`]). While an order is sealed the log shows
//! `H("sealed-order" ‖ salt ‖ ReleasedOrder without salt)`, the salt being 32 bytes ([`opening::sealed_order`]), and for each
//! opening under it that commitment with `H("sealed-opened" ‖ nonce ‖ Opened)` ([`opening::sealed_opened`]), the nonce being the
//! 32 bytes that its requester drew and signed: whoever has the order and its records recomputes them under whichever leaf of
//! the order they stand, nobody else learns which records were opened. Nor which were looked at before an order was asked for:
//! of what a person reads in the archive the log shows `H("read" ‖ salt ‖ subject)`, the salt being 32 bytes that the archive
//! draws for each read ([`read::read_subject`]).
//!
//! Node `i` holds `s_i` with `Y_i = s_i G`, and the 64-byte seed of the ML-KEM half. For a record it answers:
//!
//! ```text
//! D_i     = s_i E
//! parts   = order digest ‖ envelope digest ‖ key_id ‖ share epoch digest ‖ be16 i ‖ Y_i ‖ E ‖ D_i        compressed points
//! k       = Expand(Extract(32 fresh bytes, s_i), "partial-k" ‖ H("partial" ‖ parts), 48) mod q
//! c       = H("partial" ‖ parts ‖ kG ‖ kE) mod q,  z = k + c s_i
//! partial = D_i ‖ c ‖ z                                                                                  97
//! plain   = share epoch digest ‖ be16 i ‖ partial ‖ ss_mlkem ‖ signature                                 227
//!           signature over "answer-sign" ‖ H(order digest ‖ envelope digest ‖ key_id ‖ LP node ‖ plain before the signature)
//! answer  = enc ‖ HPKE to the reader's key; info "answer" ‖ LP tenant, aad order digest ‖ envelope digest ‖ node
//! ```
//!
//! The reader ([`opening::Opener`]) takes answers of one share epoch, checks index, signature and proof
//! (`A = zG - cY_i`, `B = zE - cD_i`, `c` again; `c = 0` refused), blames whoever fails, combines the `t` lowest indices by
//! Lagrange at 0 into `D`, and tries each distinct `ss_mlkem`: the secret is SHA3-256 as above with `x(D)`. The commitments of
//! the record are still to be checked then. Reader and channel keys are 32-byte seeds expanded by
//! draft-irtf-cfrg-concrete-hybrid-kems 4.1: `SHAKE256(seed)` gives 64 bytes for ML-KEM and 128 for the scalar.
//!
//! # Shares
//!
//! **Generation** ([`ceremony`]): three rounds of `keygen-message` under a root-signed descriptor, at least 2 shares needed.
//! Round 1, broadcast: a frost-p256 DKG package of exactly `t` commitments, and
//! `H("seed-part" ‖ session ‖ LP node ‖ part)`, `part` being 64 fresh bytes. Round 2, sealed by HPKE to each node's channel key
//! (info `"channel" ‖ session`, aad `LP sender ‖ LP receiver`): its share, `part`, and the echo
//! `H("keygen-echo" ‖ session ‖ digests of all round 1 statements by index)`. Round 3, broadcast: public key, all `Y_i`, echo;
//! equal for all or the ceremony is over. The ML-KEM seed is `SHAKE256("kem-seed" ‖ session ‖ parts by index)`, 64 bytes; the
//! record's transcript is `H("keygen-transcript" ‖ descriptor digest ‖ echo ‖ public key ‖ Y_1 ‖ … ‖ Y_n)`.
//!
//! **A share epoch** ([`ceremony::ShareHolders`], [`trust::verify_share_epoch`]): holders numbered 1 to n without gaps, at most 32,
//! one node each; epochs count from 1 and name the digest of the one before (`0^32` at first); the threshold is never below the
//! record's `t_min`; the `Y_i` lie on one polynomial of degree exactly `t - 1` whose value at 0 is the key's point.
//!
//! **Resharing** ([`reshare`]): each dealer commits to a polynomial of the new degree whose constant term is its old `Y_d`, deals
//! its values out sealed as in round 2 together with the ML-KEM seed, and all new holders arrive at one result.
//!
//! **Proof of a share** ([`ceremony::prove_share`]): who asks draws a nonce of 32 bytes; the node answers with Schnorr's proof of
//! knowledge of `s_i` behind `Y_i`, `A = kG`, `c = H("share-proof" ‖ LP tenant ‖ key_id ‖ share epoch digest ‖ be16 i ‖ LP node ‖
//! nonce ‖ be64 at ‖ Y_i ‖ A) mod q`, `z = k + c s_i`, and `k` from HKDF with `share-proof-k`. No point that it is given is multiplied.
//!
//! **Stored form** of a share ([`ceremony::NodeShare::to_bytes`]): `0x01 ‖ LP tenant ‖ share epoch digest ‖ be16 index ‖ be16 t ‖ s_i ‖
//! ML-KEM seed (64) ‖ public key (1249) ‖ be16 n ‖ Y_1 ‖ … ‖ Y_n`, sealed at rest.
//!
//! **Secrets at rest** ([`sealbox`]): `0x01 ‖ nonce (12, random) ‖ AES-256-GCM` under `Expand(master, "sealbox" ‖ LP table, 32)`, with
//! `"sealbox-ad" ‖ LP table ‖ LP row ‖ LP column` as associated data.
//!
//! # Labels
//!
//! All of this crate; a test holds this list against the code. Hashes: `core`, `header`, `record`, `envelope`, `wrap-digest`, `key-id`,
//! `tdh2`, `tdh2-c`, `chain`, `handshake`, `void`, `partial`, `sealed-order`, `sealed-opened`, `read`, `seed-part`, `keygen-echo`, `keygen-transcript`, `share-proof`. HKDF:
//! `cek`, `seed-commit`, `attachment`, `content`, `wrap`, `tdh2-k`, `partial-k`, `share-proof-k`, `sealbox`. SHAKE256: `wrap-rng`, `tdh2-batch`, `kem-seed`.
//! HPKE's info: `wrap`, `answer`, `channel`. Associated data: `sealbox-ad`. Signatures: `sign`, `answer-sign`, and the types of
//! statements above. `wrap` stands before different lengths in HKDF and HPKE, `void` before different lengths in hash and
//! signature.
//!
//! # Errors
//!
//! One enum for each thing that can be refused, every variant documented where it stands, none showing a secret:
//! [`curve::CurveError`], [`padding::PaddingError`], [`stream::StreamError`], [`attachment::AttachmentError`], [`envelope::HeaderError`],
//! [`envelope::EnvelopeError`], [`message::SealError`], [`message::OpenError`], [`content::ContentError`], [`history::Why`], [`wrap::WrapError`], [`wrap::ProofError`], [`wrap::KeyError`],
//! [`recompute::Mismatch`] and [`recompute::ReportError`], [`chain::ChainError`], [`statement::StatementError`], [`trust::TrustError`],
//! [`opening::PartialError`], [`opening::AnswerError`], [`opening::OpenError`], [`opening::RecordsError`], [`ceremony::CeremonyError`] with
//! [`ceremony::Fault`], [`ceremony::EpochError`] and [`ceremony::ShareError`], [`sealbox::SealboxError`]. What a service answers to a
//! client is [`validate::Invalid::reason`], stable.
//!
//! # What it stands on
//!
//! FIPS 180-4, 186-5, 202 (SHA3-256, SHAKE256), 203 (ML-KEM-768); NIST SP 800-38D (GCM); RFC 5869 (HKDF), 6962 and 9162 (trees), 8032
//! (Ed25519), 9180 (HPKE), 9380 (hash to curve), 9420 (MLS, beside this crate); SEC 1; draft-ietf-hpke-pq-04 (KEM 0x0050),
//! draft-irtf-cfrg-concrete-hybrid-kems-03, draft-irtf-cfrg-hybrid-kems-11. Shoup and Gennaro 1998 (TDH2); Chaum and Pedersen
//! 1992; the Explicit-Formulas Database for points in Jacobian coordinates; Hoang, Reyhanitabar, Rogaway, Vizár 2015 (STREAM); Nikitin and others 2019 (Padmé); Grubbs, Lu, Ristenpart 2017 and
//! Dodis, Grubbs, Ristenpart, Woodage 2018 (why the commitment).

pub mod attachment;
pub mod ceremony;
pub mod chain;
pub mod content;
pub mod curve;
pub mod derive;
pub mod envelope;
pub mod history;
pub mod hybrid;
pub mod label;
pub mod limits;
pub mod message;
mod mlkem;
pub mod opening;
pub mod padding;
pub mod pb;
pub mod read;
pub mod recompute;
pub mod reshare;
pub mod sealbox;
pub mod statement;
pub mod stream;
pub mod trust;
pub mod validate;
pub mod wrap;
