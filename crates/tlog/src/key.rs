//! Names and Ed25519 keys of signers, in the text forms of C2SP signed-note.

use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// What a key signs, as the type byte of its key id says: the same key and name under another type is another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyType {
    /// 0x01: Ed25519 over the note's text.
    Note,
    /// 0x04: cosignature/v1, Ed25519 over a time and the note's text.
    Cosignature,
}

impl KeyType {
    fn byte(self) -> u8 {
        match self {
            Self::Note => 0x01,
            Self::Cosignature => 0x04,
        }
    }
}

/// Why a name or key was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Empty, or with a space, a plus sign or a control character.
    #[error("a signer's name is empty or has a space, a plus sign or a control character")]
    Name,
    /// The text is not `name+id+key`.
    #[error("the key text is malformed")]
    Format,
    /// The type byte is another one than this kind of key has.
    #[error("the key text is of another type")]
    Type,
    /// The id is not that of this name, type and key.
    #[error("the key id does not belong to the name and key")]
    Id,
    /// Not a point of the curve, or one of small order.
    #[error("not a usable Ed25519 public key")]
    Point,
}

/// A public key with the name and id by which signature lines refer to it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct NamedKey {
    name: String,
    id: u32,
    kind: KeyType,
    key: VerifyingKey,
}

impl NamedKey {
    pub(crate) fn new(name: &str, kind: KeyType, key: &[u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| KeyError::Point)?;
        // A key of small order accepts signatures that nobody made.
        if key.is_weak() {
            return Err(KeyError::Point);
        }
        Ok(Self {
            name: name.to_owned(),
            id: key_id(name, kind, key.as_bytes()),
            kind,
            key,
        })
    }

    /// Reads `name+id+base64(type ‖ key)`.
    pub(crate) fn parse(text: &str, kind: KeyType) -> Result<Self, KeyError> {
        let (name, rest) = text.split_once('+').ok_or(KeyError::Format)?;
        let (id, key) = rest.split_once('+').ok_or(KeyError::Format)?;
        let id = parse_id(id)?;
        let typed = STANDARD.decode(key).map_err(|_| KeyError::Format)?;
        let (type_byte, key) = typed.split_first().ok_or(KeyError::Format)?;
        if *type_byte != kind.byte() {
            return Err(KeyError::Type);
        }
        let key = key.try_into().map_err(|_| KeyError::Format)?;
        let named = Self::new(name, kind, key)?;
        if named.id == id {
            Ok(named)
        } else {
            Err(KeyError::Id)
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Strict verification: no signature has a second valid encoding.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = Signature::from_slice(signature) else {
            return false;
        };
        self.key.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = vec![self.kind.byte()];
        typed.extend_from_slice(self.key.as_bytes());
        write!(
            f,
            "{}+{:08x}+{}",
            self.name,
            self.id,
            STANDARD.encode(typed)
        )
    }
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A secret key with its name. The key is wiped when dropped and shown nowhere.
pub(crate) struct NamedSigner {
    public: NamedKey,
    secret: SigningKey,
}

impl NamedSigner {
    pub(crate) fn new(name: &str, kind: KeyType, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let secret = SigningKey::from_bytes(seed);
        let public = NamedKey::new(name, kind, secret.verifying_key().as_bytes())?;
        Ok(Self { public, secret })
    }

    /// Reads `PRIVATE+KEY+name+id+base64(type ‖ seed)`.
    pub(crate) fn parse(text: &str, kind: KeyType) -> Result<Self, KeyError> {
        let text = text.strip_prefix("PRIVATE+KEY+").ok_or(KeyError::Format)?;
        let (name, rest) = text.split_once('+').ok_or(KeyError::Format)?;
        let (id, seed) = rest.split_once('+').ok_or(KeyError::Format)?;
        let id = parse_id(id)?;
        let typed = Zeroizing::new(STANDARD.decode(seed).map_err(|_| KeyError::Format)?);
        let (type_byte, seed) = typed.split_first().ok_or(KeyError::Format)?;
        if *type_byte != kind.byte() {
            return Err(KeyError::Type);
        }
        let seed = seed.try_into().map_err(|_| KeyError::Format)?;
        let signer = Self::new(name, kind, seed)?;
        if signer.public.id == id {
            Ok(signer)
        } else {
            Err(KeyError::Id)
        }
    }

    pub(crate) fn public(&self) -> &NamedKey {
        &self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.secret.sign(message).to_bytes()
    }
}

/// A name stands alone between spaces and plus signs, so it has none.
pub(crate) fn check_name(name: &str) -> Result<(), KeyError> {
    let refused = |c: char| c.is_whitespace() || c < ' ' || c == '+';
    if name.is_empty() || name.contains(refused) {
        Err(KeyError::Name)
    } else {
        Ok(())
    }
}

/// SHA-256(name ‖ 0x0A ‖ type ‖ key), its first four bytes.
fn key_id(name: &str, kind: KeyType, key: &[u8; 32]) -> u32 {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', kind.byte()]);
    hasher.update(key);
    let hash: [u8; 32] = hasher.finalize().into();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// Eight lower-case hexadecimal digits.
fn parse_id(text: &str) -> Result<u32, KeyError> {
    let bytes = greffe_types::from_hex::<4>(text).map_err(|_| KeyError::Format)?;
    Ok(u32::from_be_bytes(bytes))
}

/// A key that verifies notes: the log's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteVerifier(pub(crate) NamedKey);

impl NoteVerifier {
    /// From a name and a raw Ed25519 public key.
    pub fn new(name: &str, key: &[u8; 32]) -> Result<Self, KeyError> {
        NamedKey::new(name, KeyType::Note, key).map(Self)
    }

    /// Its name; for a log, the origin of its checkpoints.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The raw public key.
    pub fn key(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl FromStr for NoteVerifier {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        NamedKey::parse(text, KeyType::Note).map(Self)
    }
}

impl fmt::Display for NoteVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key that signs notes.
pub struct NoteSigner(pub(crate) NamedSigner);

impl NoteSigner {
    /// From a name and the 32 bytes of an Ed25519 secret key, which the caller wipes.
    pub fn new(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        NamedSigner::new(name, KeyType::Note, seed).map(Self)
    }

    /// The key that verifies what this one signs.
    pub fn verifier(&self) -> NoteVerifier {
        NoteVerifier(self.0.public().clone())
    }
}

impl FromStr for NoteSigner {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        NamedSigner::parse(text, KeyType::Note).map(Self)
    }
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteSigner({})", self.0.public())
    }
}
