//! Productions: what a reader's machine writes from opened records, and the verifier that needs no network and no clock.
//!
//! A production is a folder, or one zip file of the same files. `FORMAT.md` in it, which is `format.md` beside this file, or
//! `format-v1.md` where nothing is in it that version 1 cannot show, describes every file; that text is the specification of
//! this crate. Two things make it hold:
//!
//! - everything a person reads (`messages.jsonl`, `messages/`, `attachments/`'s names, `index.html`, `custody.json`, `FORMAT.md`)
//!   follows from what is in `evidence/`, so the verifier makes it anew and compares bytes;
//! - `evidence/` is signatures, hash paths and ciphertext with its key, so the verifier recomputes it up to the tenant root.
//!
//! The manifest names every file, and the reader signs the manifest: nothing can be left out, added or exchanged later.

mod error;
mod evidence;
mod history;
mod layout;
mod manifest;
mod opened;
mod render;
mod verify;
mod write;
mod zip;

pub use error::WriteError;
pub use evidence::{LogProof, Production, Record};
pub use verify::{Finding, Report, approved, verify};
pub use write::{Producer, write, write_zip};
pub use zip::is_zip;
