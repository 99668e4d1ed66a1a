//! What the log says of a read: that a person read something, and a commitment to what it was.
//!
//! Everybody in the tenant may read the log. Were it to name the records that somebody looks at before asking for an order, a
//! sealed order would be no secret.

use greffe_types::Digest;

use crate::label::hash;

/// Bytes of the salt.
pub const READ_SALT: usize = 32;

/// `H("read" || salt || subject)`, the subject being what the archive says it is for the action: an id, a digest, a query. The
/// archive draws the salt and keeps both for those who oversee reads.
pub fn read_subject(salt: &[u8; READ_SALT], subject: &[u8]) -> Digest {
    hash("read", &[salt, subject])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::{lp, sha256};

    #[test]
    fn salt_and_subject_are_committed_to() {
        let commitment = read_subject(&[1; 32], b"subject");
        assert_ne!(commitment, read_subject(&[2; 32], b"subject"));
        assert_ne!(commitment, read_subject(&[1; 32], b"subjects"));
        let spelled = [lp(b"greffe/v1/read").as_slice(), &[1; 32], b"subject"].concat();
        assert_eq!(commitment, sha256(&spelled));
    }
}
