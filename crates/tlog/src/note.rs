//! Signed notes: a text and lines that sign it (C2SP signed-note).

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::key::{NamedKey, NoteSigner, NoteVerifier, check_name};

/// Longest note read or made, in bytes.
pub const MAX_NOTE: usize = 256 * 1024;

/// Most signature lines read.
pub const MAX_SIGNATURES: usize = 100;

/// Why a note was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`MAX_NOTE`], or with more than [`MAX_SIGNATURES`] lines of signatures.
    #[error("the note is too long")]
    TooLong,
    /// Not UTF-8, with control characters, or without a final newline.
    #[error("the note's text is malformed")]
    Text,
    /// No blank line before signatures, or a line that is none.
    #[error("the note's signature lines are malformed")]
    SignatureLine,
    /// None of the known keys signed.
    #[error("no known key signed the note")]
    Unsigned,
    /// A line names a known key, and is not its signature.
    #[error("the signature by {name} is not valid")]
    Signature {
        /// The signer's name.
        name: String,
    },
}

/// One signature line; verified or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    id: u32,
    bytes: Vec<u8>,
}

impl NoteSignature {
    pub(crate) fn new(key: &NamedKey, bytes: Vec<u8>) -> Self {
        Self {
            name: key.name().to_owned(),
            id: key.id(),
            bytes,
        }
    }

    /// Reads a line without its newline.
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let rest = line.strip_prefix("— ").ok_or(NoteError::SignatureLine)?;
        let (name, encoded) = rest.split_once(' ').ok_or(NoteError::SignatureLine)?;
        check_name(name).map_err(|_| NoteError::SignatureLine)?;
        let decoded = STANDARD
            .decode(encoded)
            .map_err(|_| NoteError::SignatureLine)?;
        match decoded.split_first_chunk::<4>() {
            Some((id, bytes)) if !bytes.is_empty() => Ok(Self {
                name: name.to_owned(),
                id: u32::from_be_bytes(*id),
                bytes: bytes.to_vec(),
            }),
            _ => Err(NoteError::SignatureLine),
        }
    }

    /// Name of the signer it claims.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The claimed key's id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What follows the key id.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn is_by(&self, key: &NamedKey) -> bool {
        self.id == key.id() && self.name == key.name()
    }
}

/// The line, without its newline.
impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.bytes);
        write!(f, "— {} {}", self.name, STANDARD.encode(bytes))
    }
}

/// A text and its signature lines. Well-formed, and nothing more: [`Self::verify`] says who signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// A note nobody has signed yet; its text ends in a newline and has no other control character.
    pub fn new(text: impl Into<String>) -> Result<Self, NoteError> {
        let text = text.into();
        if text.len() > MAX_NOTE {
            return Err(NoteError::TooLong);
        }
        check_text(&text)?;
        Ok(Self {
            text,
            signatures: Vec::new(),
        })
    }

    /// Reads a note with at least one signature line.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE {
            return Err(NoteError::TooLong);
        }
        let whole = core::str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        // The last blank line separates; the text may have others.
        let end = whole.rfind("\n\n").ok_or(NoteError::SignatureLine)?;
        let (text, lines) = (&whole[..=end], &whole[end + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::SignatureLine)?;
        let mut note = Self::new(text)?;
        for line in lines.split('\n') {
            if note.signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::TooLong);
            }
            note.signatures.push(NoteSignature::parse(line)?);
        }
        Ok(note)
    }

    /// As bytes; [`Self::parse`] reads them back once somebody has signed.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.text.clone();
        out.push('\n');
        for signature in &self.signatures {
            out.push_str(&signature.to_string());
            out.push('\n');
        }
        out.into_bytes()
    }

    /// The text, with its final newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All lines, verified or not.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Signs; a line of the same key is replaced.
    pub fn sign(&mut self, signer: &NoteSigner) {
        let bytes = signer.0.sign(self.text.as_bytes()).to_vec();
        self.add(NoteSignature::new(signer.0.public(), bytes));
    }

    /// Adds a line made elsewhere; one of the same name and key id is replaced.
    pub fn add(&mut self, signature: NoteSignature) {
        self.signatures
            .retain(|line| (line.id, &line.name) != (signature.id, &signature.name));
        self.signatures.push(signature);
    }

    /// Which of the known keys signed. Lines of unknown keys are ignored; a false line of a known key spoils the note.
    pub fn verify<'k>(
        &self,
        known: &[&'k NoteVerifier],
    ) -> Result<Vec<&'k NoteVerifier>, NoteError> {
        let mut signed = Vec::new();
        for verifier in known {
            let mut lines = self.lines_of(&verifier.0).peekable();
            if lines.peek().is_some() {
                signed.push(*verifier);
            }
            if lines.any(|line| !verifier.0.verify(self.text.as_bytes(), &line.bytes)) {
                return Err(NoteError::Signature {
                    name: verifier.name().to_owned(),
                });
            }
        }
        if signed.is_empty() {
            return Err(NoteError::Unsigned);
        }
        Ok(signed)
    }

    pub(crate) fn lines_of<'a>(
        &'a self,
        key: &'a NamedKey,
    ) -> impl Iterator<Item = &'a NoteSignature> {
        self.signatures.iter().filter(|line| line.is_by(key))
    }

    /// The same text with the lines of one key only.
    pub(crate) fn only(&self, key: &NamedKey) -> Self {
        Self {
            text: self.text.clone(),
            signatures: self.lines_of(key).cloned().collect(),
        }
    }
}

fn check_text(text: &str) -> Result<(), NoteError> {
    let clean = text.bytes().all(|byte| byte >= 0x20 || byte == b'\n');
    if clean && text.ends_with('\n') {
        Ok(())
    } else {
        Err(NoteError::Text)
    }
}
