//! Sizes and counts that everything in this crate keeps to.

use crate::padding::padded_len;
use crate::stream::ciphertext_len;

/// Tenants of a conversation.
pub const MAX_TENANTS: usize = 16;
/// Journaling keys, hence wraps, of an envelope.
pub const MAX_KEYS: usize = 16;
/// Attachments of a message.
pub const MAX_ATTACHMENTS: usize = 64;
/// Bytes of an attachment before padding: 5 GiB.
pub const MAX_ATTACHMENT: u64 = 5 << 30;
/// Bytes of an attachment's ciphertext: what [`MAX_ATTACHMENT`] gives once padded and sealed, 5,437,145,088.
pub const MAX_ATTACHMENT_CIPHERTEXT: u64 = ciphertext_len(padded_len(MAX_ATTACHMENT));
/// Bytes of the content's protobuf before padding: 1 MiB.
pub const MAX_CONTENT: u64 = 1 << 20;
/// Bytes of a header.
pub const MAX_HEADER: usize = 16 << 10;
/// Bytes of an envelope body: a header and what stands for its wraps.
pub const MAX_BODY: usize = 32 << 10;
/// Bytes of a user's name.
pub const MAX_USER: usize = 255;
/// Bytes of a record class.
pub const MAX_RECORD_CLASS: usize = 64;
/// Bytes of a classification.
pub const MAX_CLASSIFICATION: usize = 64;
/// Bytes of a void's or refusal's reason.
pub const MAX_REASON: usize = 128;
/// Bytes of a handshake (MLS PublicMessage): 8 MiB.
pub const MAX_HANDSHAKE: usize = 8 << 20;
/// Numbers in one signed range.
pub const MAX_RANGE: usize = 10_000;
/// Share holders of a journaling key.
pub const MAX_HOLDERS: usize = 32;

/// Bytes of an MLKEM768-P256 public key: 1184 of ML-KEM-768, 65 of P-256.
pub const PUBLIC_KEY: usize = 1249;
/// Bytes of the ML-KEM-768 half of a public key.
pub const MLKEM_KEY: usize = 1184;
/// Bytes of an ML-KEM-768 ciphertext.
pub const MLKEM_CIPHERTEXT: usize = 1088;
/// Bytes of an MLKEM768-P256 encapsulation: 1088 of ML-KEM-768, 65 of P-256.
pub const ENC: usize = 1153;
/// Bytes of a sealed cek: 32 and a tag of 16.
pub const WRAP_CT: usize = 48;
/// Bytes of a proof of knowledge: three compressed points and a scalar.
pub const PROOF: usize = 131;
/// Bytes of a wrap.
pub const WRAP: usize = ENC + WRAP_CT + PROOF;
