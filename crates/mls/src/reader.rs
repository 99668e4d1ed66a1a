//! A reader of RFC 9420's presentation language that borrows, never allocates and never reads past the end.

use crate::Refusal;

/// Bytes still to be read, and what they are called in a refusal.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that was not read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Nothing may follow.
    pub(crate) fn end(&self) -> Result<(), Refusal> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }

    pub(crate) const fn malformed(&self) -> Refusal {
        Refusal::Malformed(self.what)
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Refusal> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| self.malformed())?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Refusal> {
        Ok(self.number(1)? as u8)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Refusal> {
        Ok(self.number(2)? as u16)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Refusal> {
        Ok(self.number(4)? as u32)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Refusal> {
        self.number(8)
    }

    /// A variable-size vector (RFC 9420 section 2.1.2); lengths not in shortest form are refused.
    pub(crate) fn vector(&mut self) -> Result<&'a [u8], Refusal> {
        let first = *self.rest.first().ok_or_else(|| self.malformed())?;
        let size = match first >> 6 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return Err(self.malformed()),
        };
        let mask = u64::MAX >> (66 - 8 * size);
        let len = self.number(size)? & mask;
        let shortest = match size {
            1 => true,
            2 => len >= 1 << 6,
            _ => len >= 1 << 14,
        };
        if !shortest {
            return Err(self.malformed());
        }
        self.take(len as usize)
    }

    /// A vector, as a reader of its own.
    pub(crate) fn nested(&mut self) -> Result<Self, Refusal> {
        Ok(Self {
            rest: self.vector()?,
            what: self.what,
        })
    }

    fn number(&mut self, size: usize) -> Result<u64, Refusal> {
        let bytes = self.take(size)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_shortest_form_and_bounded() {
        let read = |bytes: &[u8]| Reader::new(bytes, "test").vector().map(<[u8]>::len);
        assert_eq!(read(&[2, 1, 1]).unwrap(), 2);
        assert_eq!(read(&[&[0x40, 64][..], &[0; 64]].concat()).unwrap(), 64);
        assert_eq!(
            read(&[&[0x80, 0, 0x40, 0][..], &[0; 16384]].concat()).unwrap(),
            16384
        );
        for bad in [
            &[][..],
            &[3, 1],
            &[0x40, 63],
            &[0x80, 0, 0, 1, 0],
            &[0xbf, 0xff, 0xff, 0xff],
            &[0xc0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
