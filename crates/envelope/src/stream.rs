//! STREAM over AES-256-GCM: any length, 64 KiB of plaintext a chunk, order and end authenticated.
//!
//! Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance" (2015).
//! The nonce of a chunk is seven zero bytes, the chunk's number as four big-endian bytes, and one byte that is 1 for the
//! last chunk only. A key encrypts one plaintext. An empty plaintext is one final chunk; a length that is an exact
//! multiple of the chunk adds none. No associated data: a key commits to everything around it.
//!
//! GCM does not commit to its key. Content is opened only after its key's commitment was compared, an attachment only
//! under a key derived from committed content.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use zeroize::Zeroize;

use crate::derive::StreamKey;

/// Plaintext bytes of every chunk but the last.
pub const CHUNK: usize = 64 << 10;
/// Bytes that a chunk grows by.
pub const TAG: usize = 16;
/// Most chunks: the counter has 32 bits.
const MAX_CHUNKS: u64 = 1 << 32;

/// Why a stream could not be made or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A chunk does not authenticate: altered, moved, cut off, or another key.
    #[error("a chunk does not authenticate")]
    Open,
    /// More than 2^32 chunks (256 TiB).
    #[error("the stream is too long")]
    TooLong,
}

/// Ciphertext bytes for so many plaintext bytes.
pub const fn ciphertext_len(plaintext: u64) -> u64 {
    let chunks = if plaintext == 0 {
        1
    } else {
        plaintext.div_ceil(CHUNK as u64)
    };
    plaintext + chunks * TAG as u64
}

/// Plaintext bytes in so many ciphertext bytes; none when no plaintext gives that length.
pub const fn plaintext_len(ciphertext: u64) -> Option<u64> {
    let chunk = (CHUNK + TAG) as u64;
    let chunks = ciphertext.div_ceil(chunk);
    match ciphertext.checked_sub(chunks * TAG as u64) {
        Some(plain) if ciphertext_len(plain) == ciphertext => Some(plain),
        _ => None,
    }
}

/// Encrypts bit by bit.
pub struct StreamSealer {
    state: State,
}

/// Decrypts bit by bit. What comes out before [`StreamOpener::finish`] is authentic so far, but may lack its end.
pub struct StreamOpener {
    state: State,
}

struct State {
    cipher: Aes256Gcm,
    counter: u64,
    /// Bytes not processed yet: at most one chunk, because the last one is only known at the end.
    held: Vec<u8>,
}

impl StreamSealer {
    /// Starts.
    pub fn new(key: &StreamKey) -> Self {
        Self {
            state: State::new(key),
        }
    }

    /// Takes plaintext, appends ciphertext as whole chunks get known not to be the last.
    ///
    /// # Errors
    /// [`StreamError::TooLong`].
    pub fn update(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.state.feed(plaintext, CHUNK, out, State::seal)
    }

    /// Appends the last chunk.
    ///
    /// # Errors
    /// [`StreamError::TooLong`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.state.last(out, State::seal)
    }
}

impl StreamOpener {
    /// Starts.
    pub fn new(key: &StreamKey) -> Self {
        Self {
            state: State::new(key),
        }
    }

    /// Takes ciphertext, appends the plaintext of chunks that authenticate.
    ///
    /// # Errors
    /// [`StreamError`]; nothing may be fed after one.
    pub fn update(&mut self, ciphertext: &[u8], out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.state.feed(ciphertext, CHUNK + TAG, out, State::open)
    }

    /// Opens the last chunk: only now is it known that nothing is missing.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), StreamError> {
        self.state.last(out, State::open)
    }
}

/// A whole plaintext at once.
///
/// # Errors
/// [`StreamError::TooLong`].
pub fn seal_all(key: &StreamKey, plaintext: &[u8]) -> Result<Vec<u8>, StreamError> {
    let mut out = Vec::with_capacity(ciphertext_len(plaintext.len() as u64) as usize);
    let mut sealer = StreamSealer::new(key);
    sealer.update(plaintext, &mut out)?;
    sealer.finish(&mut out)?;
    Ok(out)
}

/// A whole ciphertext at once.
///
/// # Errors
/// [`StreamError`]; no plaintext is given out then.
pub fn open_all(key: &StreamKey, ciphertext: &[u8]) -> Result<Vec<u8>, StreamError> {
    let mut out = Vec::with_capacity(ciphertext.len());
    let mut opener = StreamOpener::new(key);
    let opened = opener
        .update(ciphertext, &mut out)
        .and_then(|()| opener.finish(&mut out));
    if let Err(error) = opened {
        out.zeroize();
        return Err(error);
    }
    Ok(out)
}

impl State {
    fn new(key: &StreamKey) -> Self {
        Self {
            cipher: Aes256Gcm::new(key.as_bytes().into()),
            counter: 0,
            held: Vec::new(),
        }
    }

    /// Appends what comes in, chunk by chunk of `size`, and has each made into what comes out where it stands. One is held back
    /// while it could be the last.
    fn feed(
        &mut self,
        mut bytes: &[u8],
        size: usize,
        out: &mut Vec<u8>,
        each: impl Fn(&mut Self, &mut Vec<u8>, usize, bool) -> Result<(), StreamError>,
    ) -> Result<(), StreamError> {
        while bytes.len() > size - self.held.len() {
            let (now, later) = bytes.split_at(size - self.held.len());
            let start = out.len();
            // At once: growing in between would leave a copy behind.
            out.reserve(CHUNK + TAG);
            out.extend_from_slice(&self.held);
            self.held.clear();
            out.extend_from_slice(now);
            bytes = later;
            each(self, out, start, false)?;
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// What was held back is the last chunk.
    fn last(
        &mut self,
        out: &mut Vec<u8>,
        each: impl Fn(&mut Self, &mut Vec<u8>, usize, bool) -> Result<(), StreamError>,
    ) -> Result<(), StreamError> {
        let start = out.len();
        out.reserve(self.held.len() + TAG);
        out.extend_from_slice(&self.held);
        each(self, out, start, true)
    }

    /// Encrypts the chunk that begins at `start`, in place, and appends its tag; nothing stays of one that cannot be.
    fn seal(&mut self, out: &mut Vec<u8>, start: usize, last: bool) -> Result<(), StreamError> {
        let sealed = self.seal_in_place(&mut out[start..], last);
        match sealed {
            Ok(tag) => out.extend_from_slice(&tag),
            Err(_) => {
                out[start..].zeroize();
                out.truncate(start);
            }
        }
        sealed.map(drop)
    }

    fn seal_in_place(&mut self, chunk: &mut [u8], last: bool) -> Result<Tag, StreamError> {
        let nonce = self.nonce(last)?;
        self.cipher
            .encrypt_inout_detached(&nonce, b"", chunk.into())
            .map_err(|_| StreamError::TooLong)
    }

    /// Decrypts the chunk that begins at `start`, in place, without its tag; nothing of one that does not authenticate stays.
    fn open(&mut self, out: &mut Vec<u8>, start: usize, last: bool) -> Result<(), StreamError> {
        let opened = self.open_in_place(&mut out[start..], last);
        let end = opened.map_or(start, |len| start + len);
        out.truncate(end);
        opened.map(drop)
    }

    fn open_in_place(&mut self, chunk: &mut [u8], last: bool) -> Result<usize, StreamError> {
        let nonce = self.nonce(last)?;
        let (body, tag) = chunk
            .split_last_chunk_mut::<TAG>()
            .ok_or(StreamError::Open)?;
        let tag = Tag::from(*tag);
        self.cipher
            .decrypt_inout_detached(&nonce, b"", (&mut *body).into(), &tag)
            .map_err(|_| StreamError::Open)?;
        // Only an empty stream may end in an empty chunk: any other has a shorter form.
        if body.is_empty() && self.counter > 1 {
            return Err(StreamError::Open);
        }
        Ok(body.len())
    }

    fn nonce(&mut self, last: bool) -> Result<Nonce<aes_gcm::aead::consts::U12>, StreamError> {
        if self.counter >= MAX_CHUNKS {
            return Err(StreamError::TooLong);
        }
        let mut nonce = [0_u8; 12];
        nonce[7..11].copy_from_slice(&(self.counter as u32).to_be_bytes());
        nonce[11] = u8::from(last);
        self.counter += 1;
        Ok(nonce.into())
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> StreamKey {
        StreamKey::from_bytes([7; 32])
    }

    fn sizes() -> impl Strategy<Value = usize> {
        prop_oneof![
            0..200_usize,
            CHUNK - 2..CHUNK + 3,
            2 * CHUNK - 2..2 * CHUNK + 3,
            0..4 * CHUNK
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn streams_round_trip_however_they_are_cut(size in sizes(), cut in 1..100_000_usize) {
            let plain: Vec<u8> = (0..size).map(|i| i as u8).collect();
            let whole = seal_all(&key(), &plain).unwrap();
            prop_assert_eq!(whole.len() as u64, ciphertext_len(size as u64));
            prop_assert_eq!(plaintext_len(whole.len() as u64), Some(size as u64));
            let (mut ct, mut back) = (Vec::new(), Vec::new());
            let mut sealer = StreamSealer::new(&key());
            for piece in plain.chunks(cut) {
                sealer.update(piece, &mut ct).unwrap();
            }
            sealer.finish(&mut ct).unwrap();
            prop_assert_eq!(&ct, &whole);
            let mut opener = StreamOpener::new(&key());
            for piece in ct.chunks(cut) {
                opener.update(piece, &mut back).unwrap();
            }
            opener.finish(&mut back).unwrap();
            prop_assert_eq!(back, plain);
        }

        #[test]
        fn cut_swapped_or_altered_streams_do_not_open(size in 1..3 * CHUNK, at in any::<usize>(), cut in 1..2 * CHUNK) {
            let mut ct = seal_all(&key(), &vec![1; size]).unwrap();
            let shorter = ct.len().saturating_sub(cut);
            prop_assert_eq!(open_all(&key(), &ct[..shorter]), Err(StreamError::Open));
            let at = at % ct.len();
            ct[at] ^= 1;
            prop_assert_eq!(open_all(&key(), &ct), Err(StreamError::Open));
        }
    }

    #[test]
    fn chunks_keep_their_place() {
        let ct = seal_all(&key(), &vec![1; 3 * CHUNK]).unwrap();
        let step = CHUNK + TAG;
        let mut swapped = ct.clone();
        swapped[..step].copy_from_slice(&ct[step..2 * step]);
        swapped[step..2 * step].copy_from_slice(&ct[..step]);
        assert_eq!(open_all(&key(), &swapped), Err(StreamError::Open));
        // Ends at a chunk that was not the last.
        assert_eq!(open_all(&key(), &ct[..2 * step]), Err(StreamError::Open));
        assert_eq!(open_all(&key(), b""), Err(StreamError::Open));
    }

    #[test]
    fn impossible_lengths_are_known() {
        assert_eq!(plaintext_len(15), None);
        assert_eq!(plaintext_len(16), Some(0));
        assert_eq!(plaintext_len((CHUNK + TAG) as u64), Some(CHUNK as u64));
        assert_eq!(plaintext_len((CHUNK + TAG + 16) as u64), None);
        assert_eq!(
            plaintext_len((CHUNK + TAG + 17) as u64),
            Some(CHUNK as u64 + 1)
        );
    }
}
