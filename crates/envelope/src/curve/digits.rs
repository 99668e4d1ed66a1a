//! Scalars cut into signed digits: at one pace for secrets, sparse for public values.

use zeroize::Zeroizing;

use super::Scalar;

/// Most digits of the widths used here: 257 bits, the last being a carry, in fives.
pub(super) const MOST: usize = 52;

/// The scalar in base `2^width` with digits from `-2^(width-1)` to `2^(width-1)`, least significant first; `ceil(257 / width)`
/// of them. Constant-time.
pub(super) fn signed<const N: usize>(k: &Scalar, width: usize) -> Zeroizing<[i8; N]> {
    let bytes = k.to_bytes();
    let mut digits = Zeroizing::new([0_i8; N]);
    let mut carry = 0_i16;
    for (i, digit) in digits.iter_mut().enumerate() {
        let bit = i * width;
        let low =
            u16::from(byte_at(&bytes, bit / 8)) | u16::from(byte_at(&bytes, bit / 8 + 1)) << 8;
        let value = ((low >> (bit % 8)) & ((1 << width) - 1)) as i16 + carry;
        // 1 when the value is above 2^(width-1): then it is lent from the next digit.
        carry = ((1 << (width - 1)) - value) >> 15 & 1;
        *digit = (value - (carry << width)) as i8;
    }
    digits
}

/// A digit's sign, as a mask of all ones when negative, and its magnitude. Constant-time.
#[inline]
pub(super) fn split(digit: i8) -> (u64, u64) {
    // Hidden from the compiler, so that it makes no branch of a selection by it.
    let digit = core::hint::black_box(i64::from(digit));
    let sign = digit >> 63;
    (sign as u64, ((digit ^ sign) - sign) as u64)
}

/// Byte `i` from the least significant; zero beyond the end.
fn byte_at(bytes: &[u8; 32], i: usize) -> u8 {
    if i < 32 { bytes[31 - i] } else { 0 }
}

/// The scalar in non-adjacent form of width `width`: odd digits below `2^(width-1)` in magnitude, `width - 1` zeros or more
/// between two of them; least significant first. For public values.
pub(super) fn sparse(k: &Scalar, width: usize) -> Vec<i8> {
    let mut words = [0_u64; 5];
    for (word, bytes) in words.iter_mut().zip(k.to_bytes().rchunks(8)) {
        *word = bytes
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    let mut digits = vec![0_i8; 258];
    let (mut bit, mut carry) = (0, 0);
    while bit < 257 {
        let (word, shift) = (bit / 64, bit % 64);
        let mut window = words[word] >> shift;
        if shift > 64 - width && word + 1 < words.len() {
            window |= words[word + 1] << (64 - shift);
        }
        let value = carry + (window & ((1 << width) - 1));
        if value & 1 == 0 {
            bit += 1;
            continue;
        }
        let half = 1 << (width - 1);
        carry = u64::from(value >= half);
        digits[bit] = (value as i16 - (carry as i16) * 2 * half as i16) as i8;
        bit += width;
    }
    while digits.last() == Some(&0) {
        digits.pop();
    }
    digits
}
