//! Checkpoints: what a log says about itself, as the text of a signed note (C2SP tlog-checkpoint).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greffe_types::Digest;

use crate::hash::TreeHead;
use crate::key::NoteVerifier;
use crate::note::{Note, NoteError, NoteSignature};

/// Why a checkpoint was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is no signed note, or not one the log signed.
    #[error("the checkpoint is not a note signed by the log")]
    Note(#[source] NoteError),
    /// The text is not origin, size, root and extension lines, in their only spelling.
    #[error("the checkpoint's text is malformed")]
    Text,
    /// It is another log's.
    #[error("the checkpoint is of another log")]
    Origin,
    /// A tree without leaves, with a root that is not that of no leaves.
    #[error("the checkpoint gives the empty tree a false root")]
    EmptyRoot,
}

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    head: TreeHead,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint of a log; extension lines are not empty and have no control characters.
    pub fn new(
        origin: &str,
        head: TreeHead,
        extensions: Vec<String>,
    ) -> Result<Self, CheckpointError> {
        if !is_line(origin) || !extensions.iter().all(|line| is_line(line)) {
            return Err(CheckpointError::Text);
        }
        if head.size == 0 && head != TreeHead::empty() {
            return Err(CheckpointError::EmptyRoot);
        }
        Ok(Self {
            origin: origin.to_owned(),
            head,
            extensions,
        })
    }

    /// Reads a note's text.
    pub fn parse_body(text: &str) -> Result<Self, CheckpointError> {
        let text = text.strip_suffix('\n').ok_or(CheckpointError::Text)?;
        let mut lines = text.split('\n');
        let mut next = || lines.next().ok_or(CheckpointError::Text);
        let (origin, size, root) = (next()?, next()?, next()?);
        let head = TreeHead {
            size: parse_decimal(size).ok_or(CheckpointError::Text)?,
            root: parse_hash(root).ok_or(CheckpointError::Text)?,
        };
        Self::new(origin, head, lines.map(str::to_owned).collect())
    }

    /// The text that is signed.
    pub fn body(&self) -> String {
        let root = STANDARD.encode(self.head.root.as_bytes());
        let mut body = format!("{}\n{}\n{root}\n", self.origin, self.head.size);
        for line in &self.extensions {
            body.push_str(line);
            body.push('\n');
        }
        body
    }

    /// The log's identity.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        self.head
    }

    /// Lines after the root; witnesses say nothing about them.
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }
}

/// A checkpoint whose log signature has been verified; a value of this type is the proof of that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Reads a checkpoint and demands the log's signature; the origin must be the log key's name.
    pub fn open(bytes: &[u8], log: &NoteVerifier) -> Result<Self, CheckpointError> {
        let note = Note::parse(bytes).map_err(CheckpointError::Note)?;
        Self::from_note(note, log)
    }

    pub(crate) fn from_note(note: Note, log: &NoteVerifier) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::parse_body(note.text())?;
        if checkpoint.origin() != log.name() {
            return Err(CheckpointError::Origin);
        }
        note.verify(&[log]).map_err(CheckpointError::Note)?;
        Ok(Self { checkpoint, note })
    }

    /// What it says.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        self.checkpoint.head
    }

    /// The note, with whatever other lines it came with.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.note.encode()
    }

    /// Adds a cosignature line; an older one of the same key is replaced.
    pub fn add(&mut self, signature: NoteSignature) {
        self.note.add(signature);
    }

    /// The same checkpoint with the log's own signature only.
    pub(crate) fn stripped(&self, log: &NoteVerifier) -> Self {
        Self {
            checkpoint: self.checkpoint.clone(),
            note: self.note.only(&log.0),
        }
    }
}

/// A decimal in its only spelling: no sign, no leading zero.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let value: u64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

/// A hash in padded base64.
pub(crate) fn parse_hash(text: &str) -> Option<Digest> {
    let bytes: [u8; 32] = STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(Digest::new(bytes))
}

fn is_line(line: &str) -> bool {
    !line.is_empty() && line.bytes().all(|byte| byte >= 0x20)
}
