//! What the nodes have answered in a ceremony, kept in its folder before the next is asked for. Nothing in it is secret: what
//! nodes tell one another in confidence is encrypted to their own keys.

use std::path::{Path, PathBuf};

use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement};
use prost::Message;

use super::file;
use crate::fail::{Failure, Result};
use crate::layout::{private_folder, write_whole};

/// Rounds of messages; after the last the nodes sign the result.
pub(crate) const ROUNDS: u32 = 3;
/// The descriptor that the root signed.
const DESCRIPTOR: &str = "descriptor.bin";

/// An answer of a node, of a key generation or a resharing.
pub(crate) trait Answer: Message + Default {
    /// The messages in it.
    fn messages(self) -> Vec<pb::SignedStatement>;
}

/// The answers of some nodes to every round.
pub(crate) struct Transcript {
    folder: PathBuf,
    nodes: Vec<String>,
}

/// Keeps a descriptor in a folder that has none yet, or finds the same one there.
pub(crate) fn begin(folder: &Path, descriptor: &pb::SignedStatement) -> Result<()> {
    private_folder(folder)?;
    let path = folder.join(DESCRIPTOR);
    if !path.exists() {
        return file::write(&path, descriptor);
    }
    if file::read(&path)? == *descriptor {
        return Ok(());
    }
    Err(Failure::refused(
        "CEREMONY_OTHER",
        format_args!(
            "{} is the folder of another ceremony: name a new one, or go on without a descriptor",
            folder.display()
        ),
    ))
}

/// The descriptor of the ceremony that was begun in a folder.
pub(crate) fn descriptor(folder: &Path) -> Result<pb::SignedStatement> {
    let path = folder.join(DESCRIPTOR);
    if path.is_file() {
        return file::read(&path);
    }
    Err(Failure::usage(
        "CEREMONY_NOT_FOUND",
        format_args!(
            "no ceremony was begun in {}: name the signed descriptor with `greffe operator ceremony start`",
            folder.display()
        ),
    ))
}

impl Transcript {
    /// Of those who take part.
    pub(crate) fn new(folder: &Path, nodes: Vec<String>) -> Self {
        Self {
            folder: folder.to_owned(),
            nodes,
        }
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Those who take part.
    pub(crate) fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// How many rounds every node has answered, and who has answered in the next one.
    pub(crate) fn progress(&self) -> (u32, Vec<String>) {
        for round in 0..=ROUNDS {
            let answered = |node: &&String| self.has(round, node);
            let answered: Vec<String> = self.nodes.iter().filter(answered).cloned().collect();
            if answered.len() < self.nodes.len() {
                return (round, answered);
            }
        }
        (ROUNDS + 1, Vec::new())
    }

    /// Whether a node has answered a round.
    pub(crate) fn has(&self, round: u32, node: &str) -> bool {
        self.file(round, node).is_file()
    }

    /// Keeps a node's answer.
    pub(crate) fn keep(&self, round: u32, node: &str, answer: &impl Message) -> Result<()> {
        write_whole(&self.file(round, node), &answer.encode_to_vec())
    }

    /// Every node's answer to a round.
    pub(crate) fn answers<A: Answer>(&self, round: u32) -> Result<Vec<A>> {
        let read = |node: &String| {
            let path = self.file(round, node);
            let bytes = std::fs::read(&path).map_err(|e| Failure::io("read", &path, &e))?;
            A::decode(bytes.as_slice()).map_err(|error| {
                Failure::because(
                    "CEREMONY",
                    format_args!("{} is damaged", path.display()),
                    &error,
                )
            })
        };
        self.nodes.iter().map(read).collect()
    }

    /// The messages in every node's answer to a round.
    pub(crate) fn messages<A: Answer>(&self, round: u32) -> Result<Vec<pb::SignedStatement>> {
        let answers = self.answers::<A>(round)?.into_iter();
        Ok(answers.flat_map(Answer::messages).collect())
    }

    fn file(&self, round: u32, node: &str) -> PathBuf {
        self.folder.join(format!("round-{round}-{node}.bin"))
    }
}

/// Broadcasts and what is addressed to the node, sorted by sender.
pub(crate) fn for_node(
    messages: &[pb::SignedStatement],
    node: &str,
) -> Result<Vec<pb::SignedStatement>> {
    let mut chosen = Vec::with_capacity(messages.len());
    for message in messages {
        let inner = pb::CeremonyMessage::decode(message.statement.as_slice()).map_err(|error| {
            Failure::because("CEREMONY", "a node sent no ceremony message", &error)
        })?;
        if inner.receiver.is_empty() || inner.receiver == node {
            chosen.push((inner.sender, message.clone()));
        }
    }
    chosen.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(chosen.into_iter().map(|(_, message)| message).collect())
}

/// One statement that every node has signed alone, with all of the signatures.
pub(crate) fn merge<'a, M: Statement + Clone>(
    copies: impl Iterator<Item = Option<&'a pb::SignedStatement>>,
) -> Result<Signed<M>> {
    let differ = || {
        Failure::refused(
            "CEREMONY",
            format_args!(
                "the nodes did not all sign the same {}: begin a new ceremony",
                M::TYPE
            ),
        )
    };
    let mut merged: Option<pb::SignedStatement> = None;
    for copy in copies {
        let copy = copy.ok_or_else(differ)?;
        match &mut merged {
            None => merged = Some(copy.clone()),
            Some(merged) if merged.statement == copy.statement => {
                merged.signatures.extend(copy.signatures.iter().cloned());
            }
            Some(_) => return Err(differ()),
        }
    }
    let mut merged = merged.ok_or_else(differ)?;
    merged.signatures.sort_by(|a, b| a.signer.cmp(&b.signer));
    Signed::decode(merged)
        .map_err(|error| Failure::because("CEREMONY", "a node's statement is refused", &error))
}
