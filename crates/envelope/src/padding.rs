//! Padding: `be64 length || data || zeros` up to a Padmé size, so that sizes tell little (at most 12 % overhead).
//!
//! Padmé (Nikitin and others, "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", 2019, section
//! 4): of a length's bits, only as many stay free as its exponent has bits.

/// Why padding was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PaddingError {
    /// Shorter than the length it claims, or not of the Padmé size for that length.
    #[error("the padded length does not belong to the length inside")]
    Length,
    /// A byte of the padding is not zero.
    #[error("the padding is not all zeros")]
    NotZero,
}

/// Bytes of the length in front.
pub const PREFIX: u64 = 8;

/// The Padmé size of `len` bytes: the smallest `len` or more with the low bits clear.
pub const fn padme(len: u64) -> u64 {
    if len < 2 {
        return len;
    }
    let exponent = len.ilog2();
    let exponent_bits = exponent.ilog2() + 1;
    let low = exponent - exponent_bits;
    let mask = (1_u64 << low) - 1;
    (len + mask) & !mask
}

/// Bytes of `len` bytes once padded: `padme(8 + len)`.
pub const fn padded_len(len: u64) -> u64 {
    padme(PREFIX + len)
}

/// Whether a padded length can come out of [`padded_len`].
pub const fn is_padded_len(len: u64) -> bool {
    len >= PREFIX && padme(len) == len
}

/// Pads.
pub fn pad(data: &[u8]) -> Vec<u8> {
    let total = padded_len(data.len() as u64) as usize;
    let mut out = Vec::with_capacity(total);
    out.extend_from_slice(&(data.len() as u64).to_be_bytes());
    out.extend_from_slice(data);
    out.resize(total, 0);
    out
}

/// Takes the padding off.
///
/// # Errors
/// [`PaddingError`] when length or padding are not exactly what [`pad`] makes.
pub fn unpad(padded: &[u8]) -> Result<&[u8], PaddingError> {
    let (prefix, rest) = padded
        .split_first_chunk::<8>()
        .ok_or(PaddingError::Length)?;
    let len = u64::from_be_bytes(*prefix);
    if len > rest.len() as u64 || padded_len(len) != padded.len() as u64 {
        return Err(PaddingError::Length);
    }
    let (data, zeros) = rest.split_at(len as usize);
    if zeros.iter().any(|byte| *byte != 0) {
        return Err(PaddingError::NotZero);
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_from_the_paper() {
        // Padmé leaves small sizes alone and rounds 9 (1001b) to 10: one low bit has to be clear.
        for (len, padded) in [
            (0, 0),
            (1, 1),
            (2, 2),
            (8, 8),
            (9, 10),
            (15, 16),
            (100, 104),
            (1000, 1024),
            (1_000_001, 1_015_808),
        ] {
            assert_eq!(padme(len), padded, "{len}");
        }
    }

    proptest! {
        #[test]
        fn padding_comes_off(data in prop::collection::vec(any::<u8>(), 0..3000)) {
            let padded = pad(&data);
            prop_assert!(is_padded_len(padded.len() as u64));
            prop_assert_eq!(unpad(&padded), Ok(&data[..]));
        }

        #[test]
        fn sizes_round_up_a_little_and_are_stable(len in 0..(1_u64 << 40)) {
            let padded = padme(len);
            prop_assert!(padded >= len);
            prop_assert!((padded - len) as f64 <= 0.12 * len as f64);
            prop_assert_eq!(padme(padded), padded);
        }

        #[test]
        fn other_padding_is_refused(data in prop::collection::vec(any::<u8>(), 0..300), at in any::<usize>(), grow in 1..40_usize) {
            let mut padded = pad(&data);
            let zeros = padded.len() - 8 - data.len();
            if zeros > 0 {
                let i = 8 + data.len() + at % zeros;
                padded[i] = 1;
                prop_assert_eq!(unpad(&padded), Err(PaddingError::NotZero));
                padded[i] = 0;
            }
            padded.extend(std::iter::repeat_n(0, grow));
            prop_assert_eq!(unpad(&padded), Err(PaddingError::Length));
            prop_assert!(unpad(&padded[..7]).is_err());
        }
    }
}
