//! The inside of handshakes, key packages and group infos, walked before the library decodes them: counts, types and
//! extension allow-lists. Linear in the input, allocates nothing.
//!
//! RFC 9420 lets a leaf, a key package, a group context and a group info carry extensions of any type: room for
//! content that no rule sees, and lists whose decoding takes time that grows with the square of their length.

use crate::frame::{Frame, check_size, handshake};
use crate::reader::Reader;
use crate::{EXTENSION_TYPE, Refusal, limits};

const GROUP_INFO: u16 = 4;
const KEY_PACKAGE: u16 = 5;
const PROPOSAL_BY_VALUE: u8 = 1;
const ADD: u16 = 1;
const REMOVE: u16 = 3;
const GROUP_CONTEXT_EXTENSIONS: u16 = 7;
/// RFC 9420 section 17.3.
const RATCHET_TREE: u16 = 2;
const REQUIRED_CAPABILITIES: u16 = 3;
/// draft-ietf-mls-extensions.
pub(crate) const LAST_RESORT: u16 = 10;
const CREDENTIAL_BASIC: u16 = 1;
const SOURCE_KEY_PACKAGE: u8 = 1;
const SOURCE_UPDATE: u8 = 2;
const SOURCE_COMMIT: u8 = 3;
/// Longer than any key, hash or signature of the suites we use.
const SHORT: usize = 256;

/// A commit: its header, when everything inside is of an allowed kind.
pub(crate) fn check_handshake(bytes: &[u8]) -> Result<Frame, Refusal> {
    let (frame, mut reader) = handshake(bytes)?;
    let mut proposals = reader.nested()?;
    let mut count = 0;
    while !proposals.is_empty() {
        count += 1;
        if count > limits::PROPOSALS {
            return Err(Refusal::TooMany("proposals"));
        }
        proposal(&mut proposals)?;
    }
    match reader.u8()? {
        0 => {}
        1 => update_path(&mut reader)?,
        _ => return Err(reader.malformed()),
    }
    let _signature = short(&mut reader)?;
    tag(&mut reader)?;
    tag(&mut reader)?;
    reader.end()?;
    Ok(frame)
}

/// A key package in an MLSMessage; whether it is one of last resort.
pub(crate) fn check_key_package(bytes: &[u8]) -> Result<bool, Refusal> {
    check_size("key package", limits::KEY_PACKAGE, bytes)?;
    let mut reader = Reader::new(bytes, "key package");
    if reader.header()? != KEY_PACKAGE {
        return Err(Refusal::Unexpected("kind of message"));
    }
    let last_resort = key_package(&mut reader)?;
    reader.end()?;
    Ok(last_resort)
}

/// A GroupInfo in an MLSMessage, with its ratchet tree.
pub(crate) fn check_group_info(bytes: &[u8]) -> Result<(), Refusal> {
    check_size("group info", limits::GROUP_INFO, bytes)?;
    let mut reader = Reader::new(bytes, "group info");
    if reader.header()? != GROUP_INFO {
        return Err(Refusal::Unexpected("kind of message"));
    }
    let (_version, _suite) = (reader.u16()?, reader.u16()?);
    let _group_id = short(&mut reader)?;
    let _epoch = reader.u64()?;
    let (_tree_hash, _transcript_hash) = (short(&mut reader)?, short(&mut reader)?);
    context_extensions(&mut reader)?;
    let mut tree = None;
    extensions(&mut reader, "group info", |kind, data| {
        if kind == RATCHET_TREE {
            tree = Some(data);
        }
        kind == RATCHET_TREE
    })?;
    ratchet_tree(tree.ok_or(Refusal::Malformed("group info: it has no tree"))?)?;
    tag(&mut reader)?;
    let _signer = reader.u32()?;
    let _signature = short(&mut reader)?;
    reader.end()
}

fn proposal(reader: &mut Reader<'_>) -> Result<(), Refusal> {
    if reader.u8()? != PROPOSAL_BY_VALUE {
        return Err(Refusal::LooseProposal);
    }
    match reader.u16()? {
        ADD => key_package(reader).map(|_| ()),
        REMOVE => reader.u32().map(|_| ()),
        GROUP_CONTEXT_EXTENSIONS => context_extensions(reader),
        other => Err(Refusal::Proposal(other)),
    }
}

fn key_package(reader: &mut Reader<'_>) -> Result<bool, Refusal> {
    let (_version, _suite) = (reader.u16()?, reader.u16()?);
    let _init_key = short(reader)?;
    leaf(reader)?;
    let mut last_resort = false;
    extensions(reader, "key package", |kind, data| {
        last_resort |= kind == LAST_RESORT;
        kind == LAST_RESORT && data.is_empty()
    })?;
    let _signature = short(reader)?;
    Ok(last_resort)
}

fn leaf(reader: &mut Reader<'_>) -> Result<(), Refusal> {
    let (_encryption_key, _signature_key) = (short(reader)?, short(reader)?);
    if reader.u16()? != CREDENTIAL_BASIC || reader.vector()?.len() != crate::identity::CREDENTIAL {
        return Err(Refusal::Credential);
    }
    for _list in [
        "versions",
        "suites",
        "extensions",
        "proposals",
        "credentials",
    ] {
        if reader.vector()?.len() > 2 * limits::CAPABILITIES {
            return Err(Refusal::TooMany("capabilities"));
        }
    }
    match reader.u8()? {
        SOURCE_KEY_PACKAGE => {
            let _lifetime = (reader.u64()?, reader.u64()?);
        }
        SOURCE_UPDATE => {}
        SOURCE_COMMIT => {
            let _parent_hash = short(reader)?;
        }
        _ => return Err(reader.malformed()),
    }
    extensions(reader, "leaf", |_, _| false)?;
    let _signature = short(reader)?;
    Ok(())
}

fn update_path(reader: &mut Reader<'_>) -> Result<(), Refusal> {
    leaf(reader)?;
    let mut nodes = reader.nested()?;
    while !nodes.is_empty() {
        let _key = short(&mut nodes)?;
        let mut secrets = nodes.nested()?;
        while !secrets.is_empty() {
            let _sealed = (short(&mut secrets)?, short(&mut secrets)?);
        }
    }
    Ok(())
}

fn ratchet_tree(bytes: &[u8]) -> Result<(), Refusal> {
    let mut outer = Reader::new(bytes, "ratchet tree");
    let mut nodes = outer.nested()?;
    outer.end()?;
    while !nodes.is_empty() {
        match (nodes.u8()?, nodes.rest().first()) {
            (0, _) => {}
            (1, Some(1)) => {
                nodes.u8()?;
                leaf(&mut nodes)?;
            }
            (1, Some(2)) => {
                nodes.u8()?;
                let _node = (short(&mut nodes)?, short(&mut nodes)?);
                let _unmerged = nodes.vector()?;
            }
            _ => return Err(nodes.malformed()),
        }
    }
    Ok(())
}

fn context_extensions(reader: &mut Reader<'_>) -> Result<(), Refusal> {
    extensions(reader, "group context", |kind, data| match kind {
        EXTENSION_TYPE => data.len() <= limits::DISCLOSURE,
        REQUIRED_CAPABILITIES => data.len() <= SHORT,
        _ => false,
    })
}

fn extensions<'a>(
    reader: &mut Reader<'a>,
    place: &'static str,
    mut allowed: impl FnMut(u16, &'a [u8]) -> bool,
) -> Result<(), Refusal> {
    let mut list = reader.nested()?;
    let mut count = 0;
    while !list.is_empty() {
        count += 1;
        if count > limits::EXTENSIONS {
            return Err(Refusal::TooMany("extensions"));
        }
        let (kind, data) = (list.u16()?, list.vector()?);
        if !allowed(kind, data) {
            return Err(Refusal::Extension { place, kind });
        }
    }
    Ok(())
}

/// A MAC of our suite: all of HMAC-SHA-256. A shorter one is refused before anything compares it.
fn tag(reader: &mut Reader<'_>) -> Result<(), Refusal> {
    if reader.vector()?.len() != 32 {
        return Err(reader.malformed());
    }
    Ok(())
}

fn short<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Refusal> {
    let bytes = reader.vector()?;
    if bytes.len() > SHORT {
        return Err(reader.malformed());
    }
    Ok(bytes)
}
