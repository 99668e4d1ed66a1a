//! Attachments of any size, in two passes: the first hashes what will be padded, because the key depends on it; the
//! second encrypts.

use greffe_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::derive::{Cek, StreamKey};
use crate::limits::MAX_ATTACHMENT;
use crate::padding::{PREFIX, padded_len};
use crate::pb;
use crate::stream::{StreamError, StreamOpener, StreamSealer, ciphertext_len};

/// Why an attachment was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentError {
    /// Longer than [`MAX_ATTACHMENT`].
    #[error("the attachment is too large")]
    TooLarge,
    /// Other data than its length or its first pass said.
    #[error("the attachment is not of the length or content that was announced")]
    Changed,
    /// The ciphertext is not the one that the header names.
    #[error("the attachment's ciphertext is not the one in the header")]
    Ciphertext,
    /// The plaintext is not the one that the content names, or its padding is malformed.
    #[error("the attachment is not the one in the content")]
    Plaintext,
    /// The stream.
    #[error("the attachment's stream is refused")]
    Stream(#[from] StreamError),
}

/// First pass: `H(padded attachment)`.
pub struct PaddedHasher {
    hash: Sha256,
    left: Left,
}

/// Second pass: encrypts under the key that the first pass's digest gives.
pub struct AttachmentSealer {
    padded: PaddedHasher,
    expected: Digest,
    stream: StreamSealer,
    ciphertext: Sha256,
    size: u64,
}

/// Decrypts and checks both digests, the length and the padding. What comes out before [`AttachmentOpener::finish`]
/// is provisional: nothing may act on it.
pub struct AttachmentOpener {
    stream: StreamOpener,
    expected: pb::AttachmentRef,
    content: pb::ContentAttachment,
    ciphertext: Sha256,
    size: u64,
    plain: Sha256,
    seen: u64,
    buffer: Vec<u8>,
}

/// Data still to come, and the zeros after it.
struct Left {
    data: u64,
    zeros: u64,
}

impl PaddedHasher {
    /// Starts for `len` bytes of data.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`].
    pub fn new(len: u64) -> Result<Self, AttachmentError> {
        if len > MAX_ATTACHMENT {
            return Err(AttachmentError::TooLarge);
        }
        Ok(Self {
            hash: Sha256::new_with_prefix(len.to_be_bytes()),
            left: Left {
                data: len,
                zeros: padded_len(len) - PREFIX - len,
            },
        })
    }

    /// Takes data.
    ///
    /// # Errors
    /// [`AttachmentError::Changed`] when there is more than announced.
    pub fn update(&mut self, data: &[u8]) -> Result<(), AttachmentError> {
        self.left.data = self
            .left
            .data
            .checked_sub(data.len() as u64)
            .ok_or(AttachmentError::Changed)?;
        self.hash.update(data);
        Ok(())
    }

    /// The digest of the padded attachment.
    ///
    /// # Errors
    /// [`AttachmentError::Changed`] when there was less than announced.
    pub fn finish(mut self) -> Result<Digest, AttachmentError> {
        if self.left.data != 0 {
            return Err(AttachmentError::Changed);
        }
        zeros(self.left.zeros, |block| {
            self.hash.update(block);
            Ok(())
        })?;
        Ok(Digest::new(self.hash.finalize().into()))
    }
}

impl AttachmentSealer {
    /// Starts for attachment `index` (from 0) of `len` bytes whose first pass gave `padded`.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`].
    pub fn new(
        cek: &Cek,
        core: &Digest,
        index: u32,
        padded: &Digest,
        len: u64,
        out: &mut Vec<u8>,
    ) -> Result<Self, AttachmentError> {
        let mut sealer = Self {
            padded: PaddedHasher::new(len)?,
            expected: *padded,
            stream: StreamSealer::new(&cek.attachment_key(core, index, padded)),
            ciphertext: Sha256::new(),
            size: 0,
        };
        sealer.encrypt(&len.to_be_bytes(), out)?;
        Ok(sealer)
    }

    /// Takes data, appends ciphertext.
    ///
    /// # Errors
    /// [`AttachmentError`].
    pub fn update(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), AttachmentError> {
        self.padded.update(data)?;
        self.encrypt(data, out)
    }

    /// Appends the rest and says what the header has to name.
    ///
    /// # Errors
    /// [`AttachmentError::Changed`] when the data was not that of the first pass; the ciphertext must not be used then.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<pb::AttachmentRef, AttachmentError> {
        zeros(self.padded.left.zeros, |block| self.encrypt(block, out))?;
        let start = out.len();
        self.stream.finish(out)?;
        self.ciphertext.update(&out[start..]);
        self.size += (out.len() - start) as u64;
        if self.padded.finish()? != self.expected {
            return Err(AttachmentError::Changed);
        }
        Ok(pb::AttachmentRef {
            digest: self.ciphertext.finalize().to_vec(),
            size: self.size,
        })
    }

    fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), AttachmentError> {
        let start = out.len();
        self.stream.update(plain, out)?;
        self.ciphertext.update(&out[start..]);
        self.size += (out.len() - start) as u64;
        Ok(())
    }
}

impl AttachmentOpener {
    /// Starts for attachment `index` as content and header name it.
    ///
    /// # Errors
    /// [`AttachmentError`] when content and header contradict each other.
    pub fn new(
        cek: &Cek,
        core: &Digest,
        index: u32,
        content: &pb::ContentAttachment,
        header: &pb::AttachmentRef,
    ) -> Result<Self, AttachmentError> {
        let padded = Digest::try_from(content.padded_digest.as_slice())
            .map_err(|_| AttachmentError::Plaintext)?;
        if content.size > MAX_ATTACHMENT {
            return Err(AttachmentError::TooLarge);
        }
        if header.size != ciphertext_len(padded_len(content.size)) {
            return Err(AttachmentError::Plaintext);
        }
        let key: StreamKey = cek.attachment_key(core, index, &padded);
        Ok(Self {
            stream: StreamOpener::new(&key),
            expected: header.clone(),
            content: content.clone(),
            ciphertext: Sha256::new(),
            size: 0,
            plain: Sha256::new(),
            seen: 0,
            buffer: Vec::new(),
        })
    }

    /// Takes ciphertext, appends data.
    ///
    /// # Errors
    /// [`AttachmentError`].
    pub fn update(&mut self, ciphertext: &[u8], out: &mut Vec<u8>) -> Result<(), AttachmentError> {
        self.ciphertext.update(ciphertext);
        self.size += ciphertext.len() as u64;
        if self.size > self.expected.size {
            return Err(AttachmentError::Ciphertext);
        }
        let mut plain = core::mem::take(&mut self.buffer);
        plain.clear();
        self.stream.update(ciphertext, &mut plain)?;
        let sorted = self.sort(&plain, out);
        self.buffer = plain;
        sorted
    }

    /// Appends the rest and says whether all of it was what header and content name.
    ///
    /// # Errors
    /// [`AttachmentError`]; everything given out before has to be thrown away then.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), AttachmentError> {
        let digest = self.ciphertext.clone().finalize();
        if self.size != self.expected.size || digest.as_slice() != self.expected.digest {
            return Err(AttachmentError::Ciphertext);
        }
        let stream = core::mem::replace(
            &mut self.stream,
            StreamOpener::new(&StreamKey::from_bytes([0; 32])),
        );
        let mut plain = Vec::new();
        stream.finish(&mut plain)?;
        self.sort(&plain, out)?;
        let digest = self.plain.finalize();
        if self.seen != padded_len(self.content.size)
            || digest.as_slice() != self.content.padded_digest
        {
            return Err(AttachmentError::Plaintext);
        }
        Ok(())
    }

    /// Tells prefix, data and zeros apart.
    fn sort(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), AttachmentError> {
        self.plain.update(plain);
        let prefix = self.content.size.to_be_bytes();
        let end = PREFIX + self.content.size;
        let mut rest = plain;
        if self.seen < PREFIX {
            let from = self.seen as usize;
            let take = rest.len().min(8 - from);
            if rest[..take] != prefix[from..from + take] {
                return Err(AttachmentError::Plaintext);
            }
            self.seen += take as u64;
            rest = &rest[take..];
        }
        let data = rest
            .len()
            .min(usize::try_from(end.saturating_sub(self.seen)).unwrap_or(usize::MAX));
        out.extend_from_slice(&rest[..data]);
        self.seen += rest.len() as u64;
        if rest[data..].iter().any(|byte| *byte != 0) {
            return Err(AttachmentError::Plaintext);
        }
        Ok(())
    }
}

/// A whole attachment at once: its ciphertext, what the header names and `H(padded attachment)`.
///
/// # Errors
/// [`AttachmentError`].
pub fn seal_attachment(
    cek: &Cek,
    core: &Digest,
    index: u32,
    data: &[u8],
) -> Result<(Vec<u8>, pb::AttachmentRef, Digest), AttachmentError> {
    let len = data.len() as u64;
    let mut hasher = PaddedHasher::new(len)?;
    hasher.update(data)?;
    let padded = hasher.finish()?;
    let mut out = Vec::with_capacity(ciphertext_len(padded_len(len)) as usize);
    let mut sealer = AttachmentSealer::new(cek, core, index, &padded, len, &mut out)?;
    sealer.update(data, &mut out)?;
    let reference = sealer.finish(&mut out)?;
    Ok((out, reference, padded))
}

/// A whole attachment at once.
///
/// # Errors
/// [`AttachmentError`].
pub fn open_attachment(
    cek: &Cek,
    core: &Digest,
    index: u32,
    content: &pb::ContentAttachment,
    header: &pb::AttachmentRef,
    ciphertext: &[u8],
) -> Result<Vec<u8>, AttachmentError> {
    let mut out = Vec::new();
    let mut opener = AttachmentOpener::new(cek, core, index, content, header)?;
    opener.update(ciphertext, &mut out)?;
    opener.finish(&mut out)?;
    Ok(out)
}

/// Calls `each` with blocks of zeros, `count` bytes in all.
fn zeros(
    mut count: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), AttachmentError>,
) -> Result<(), AttachmentError> {
    const BLOCK: [u8; 4096] = [0; 4096];
    while count > 0 {
        let now = count.min(BLOCK.len() as u64);
        each(&BLOCK[..now as usize])?;
        count -= now;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::sha256;
    use crate::padding::pad;
    use crate::stream::{CHUNK, seal_all};
    use proptest::prelude::*;

    fn content(size: usize, padded: Digest) -> pb::ContentAttachment {
        pb::ContentAttachment {
            name: "a".into(),
            media_type: "text/plain".into(),
            size: size as u64,
            padded_digest: padded.to_vec(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn attachments_round_trip_and_equal_the_definition(
            size in prop_oneof![0..300_usize, CHUNK - 40..CHUNK + 5, 0..3 * CHUNK],
            cut in 1..70_000_usize,
        ) {
            let data: Vec<u8> = (0..size).map(|i| (i * 7) as u8).collect();
            let (cek, core) = (Cek::from_bytes([3; 32]), sha256(b"core"));
            let (ct, reference, padded) = seal_attachment(&cek, &core, 4, &data).unwrap();
            prop_assert_eq!(padded, sha256(&pad(&data)));
            prop_assert_eq!(&ct, &seal_all(&cek.attachment_key(&core, 4, &padded), &pad(&data)).unwrap());
            prop_assert_eq!(&reference.digest, &sha256(&ct).to_vec());
            let content = content(size, padded);
            let mut opener = AttachmentOpener::new(&cek, &core, 4, &content, &reference).unwrap();
            let mut back = Vec::new();
            for piece in ct.chunks(cut) {
                opener.update(piece, &mut back).unwrap();
            }
            opener.finish(&mut back).unwrap();
            prop_assert_eq!(back, data);
        }
    }

    #[test]
    fn an_attachment_in_another_place_does_not_open() {
        let (cek, core) = (Cek::from_bytes([3; 32]), sha256(b"core"));
        let (ct, reference, padded) = seal_attachment(&cek, &core, 0, b"data").unwrap();
        let good = content(4, padded);
        assert_eq!(
            open_attachment(&cek, &core, 0, &good, &reference, &ct).unwrap(),
            b"data"
        );
        assert!(open_attachment(&cek, &core, 1, &good, &reference, &ct).is_err());
        assert!(open_attachment(&cek, &sha256(b"x"), 0, &good, &reference, &ct).is_err());
        let other = content(4, sha256(b"other"));
        assert!(open_attachment(&cek, &core, 0, &other, &reference, &ct).is_err());
        let longer = content(5, padded);
        assert!(open_attachment(&cek, &core, 0, &longer, &reference, &ct).is_err());
        let mut elsewhere = reference;
        elsewhere.digest[0] ^= 1;
        assert_eq!(
            open_attachment(&cek, &core, 0, &good, &elsewhere, &ct),
            Err(AttachmentError::Ciphertext)
        );
    }

    #[test]
    fn padding_inside_is_checked() {
        let (cek, core) = (Cek::from_bytes([3; 32]), sha256(b"core"));
        let mut padded = pad(&[1; 1000]);
        *padded.last_mut().unwrap() = 1;
        let digest = sha256(&padded);
        let ct = seal_all(&cek.attachment_key(&core, 0, &digest), &padded).unwrap();
        let reference = pb::AttachmentRef {
            digest: sha256(&ct).to_vec(),
            size: ct.len() as u64,
        };
        assert_eq!(
            open_attachment(&cek, &core, 0, &content(1000, digest), &reference, &ct),
            Err(AttachmentError::Plaintext)
        );
    }

    #[test]
    fn data_that_changes_between_the_passes_is_noticed() {
        let (cek, core) = (Cek::from_bytes([3; 32]), sha256(b"core"));
        let mut out = Vec::new();
        let mut sealer =
            AttachmentSealer::new(&cek, &core, 0, &sha256(&pad(b"aaaa")), 4, &mut out).unwrap();
        sealer.update(b"aaab", &mut out).unwrap();
        assert_eq!(sealer.finish(&mut out), Err(AttachmentError::Changed));
        let mut hasher = PaddedHasher::new(4).unwrap();
        assert_eq!(hasher.update(b"12345"), Err(AttachmentError::Changed));
        assert_eq!(
            PaddedHasher::new(4).unwrap().finish(),
            Err(AttachmentError::Changed)
        );
        assert!(PaddedHasher::new(MAX_ATTACHMENT).is_ok());
        assert!(PaddedHasher::new(MAX_ATTACHMENT + 1).is_err());
    }
}
