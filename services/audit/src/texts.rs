//! Every text of an encoded message, found by the contract's own description: no new field can be forgotten.

use std::collections::HashMap;
use std::sync::LazyLock;

use greffe_envelope::pb;
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_types::field_descriptor_proto::Type;

/// Messages nested deeper than this are refused; the contract's own nest far less.
const MAX_DEPTH: u32 = 16;
/// Every message of `greffe.envelope.v1`, as an encoded `google.protobuf.FileDescriptorSet`.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/entries.bin"));
const SIGNED_STATEMENT: &str = ".greffe.envelope.v1.SignedStatement";

/// A text holds a line break or another control character, or the bytes are not what the contract describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadText {
    /// Message and field, such as `Refusal.caller`.
    pub(crate) field: String,
}

enum Field {
    Text(String),
    Message(String),
}

/// Text and message fields of every message, by full name and number.
static FIELDS: LazyLock<HashMap<String, HashMap<u32, Field>>> = LazyLock::new(|| {
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let mut messages = HashMap::new();
    for file in &set.file {
        for message in &file.message_type {
            let fields = message.field.iter().filter_map(|field| {
                let kind = match field.r#type() {
                    Type::String => Field::Text(field.name().to_owned()),
                    Type::Message => Field::Message(field.type_name().to_owned()),
                    _ => return None,
                };
                Some((u32::try_from(field.number()).ok()?, kind))
            });
            let name = format!(".{}.{}", file.package(), message.name());
            messages.insert(name, fields.collect());
        }
    }
    messages
});

/// The message that a type of statement names; none for a type that does not exist.
pub(crate) fn statement_message(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "trust-bundle" => "TrustBundle",
        "device-cert" => "DeviceCert",
        "key-record" => "KeyRecord",
        "share-epoch" => "ShareEpoch",
        "disclosure" => "Disclosure",
        "currency" => "Currency",
        "acknowledgement" => "Acknowledgement",
        "order" => "Order",
        "approval" => "Approval",
        "receipt" => "Receipt",
        "void" => "Void",
        "range" => "RangeStatement",
        "keygen-descriptor" => "KeygenDescriptor",
        "reshare-descriptor" => "ReshareDescriptor",
        "keygen-message" => "CeremonyMessage",
        "key-unused" => "KeyUnused",
        "key-retirement" => "KeyRetirement",
        "share-proof" => "ShareProof",
        "share-destruction" => "ShareDestruction",
        "person-act" => "PersonAct",
        "report" => "Report",
        _ => return None,
    })
}

/// Refuses a message of `greffe.envelope.v1` in which any text, however deep, has a control character. Statements inside
/// are looked into as well.
pub(crate) fn check(message: &str, bytes: &[u8]) -> Result<(), BadText> {
    walk(&format!(".greffe.envelope.v1.{message}"), bytes, 0)
}

fn walk(message: &str, mut bytes: &[u8], depth: u32) -> Result<(), BadText> {
    let bad = |field: &str| BadText {
        field: format!("{}.{field}", message.rsplit('.').next().unwrap_or(message)),
    };
    let malformed = |_| bad("?");
    let fields = FIELDS.get(message).ok_or_else(|| bad("?"))?;
    if depth > MAX_DEPTH {
        return Err(bad("?"));
    }
    if message == SIGNED_STATEMENT {
        let signed = pb::SignedStatement::decode(bytes).map_err(malformed)?;
        if let Some(inner) = statement_message(&signed.r#type) {
            let inner = format!(".greffe.envelope.v1.{inner}");
            walk(&inner, &signed.statement, depth + 1)?;
        }
    }
    while !bytes.is_empty() {
        let (tag, wire) = decode_key(&mut bytes).map_err(malformed)?;
        let field = match fields.get(&tag) {
            Some(field) if wire == WireType::LengthDelimited => field,
            _ => {
                skip_field(wire, tag, &mut bytes, DecodeContext::default()).map_err(malformed)?;
                continue;
            }
        };
        let length = decode_varint(&mut bytes).map_err(malformed)?;
        let length = usize::try_from(length).map_err(|_| bad("?"))?;
        let (value, rest) = bytes.split_at_checked(length).ok_or_else(|| bad("?"))?;
        bytes = rest;
        match field {
            Field::Text(name) if !is_clean(value) => return Err(bad(name)),
            Field::Text(_) => {}
            Field::Message(name) => walk(name, value, depth + 1)?,
        }
    }
    Ok(())
}

/// UTF-8 on one line: what a log line, a terminal or a CSV file cannot take for anything else.
fn is_clean(text: &[u8]) -> bool {
    let separator = |c: char| matches!(c, '\u{2028}' | '\u{2029}');
    core::str::from_utf8(text)
        .is_ok_and(|text| !text.contains(|c: char| c.is_control() || separator(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_statement_is_described() {
        for kind in [
            "trust-bundle",
            "device-cert",
            "key-record",
            "share-epoch",
            "disclosure",
            "currency",
            "acknowledgement",
            "order",
            "approval",
            "receipt",
            "void",
            "range",
            "keygen-descriptor",
            "reshare-descriptor",
            "keygen-message",
            "key-unused",
            "key-retirement",
            "share-proof",
            "share-destruction",
            "person-act",
            "report",
        ] {
            let message = statement_message(kind).unwrap();
            assert_eq!(check(message, &[]), Ok(()), "{kind}");
        }
        assert!(check("LogEntry", &[]).is_ok());
        assert!(check("NoSuchMessage", &[]).is_err());
    }

    #[test]
    fn a_control_character_is_found_however_deep() {
        let disclosure = |language: &str| pb::Disclosure {
            notices: vec![pb::NoticeRef {
                language: language.into(),
                digest: vec![10; 32],
            }],
            ..Default::default()
        };
        let entry = |language: &str| {
            pb::LogEntry {
                event: Some(pb::log_entry::Event::Statement(pb::SignedStatement {
                    r#type: "disclosure".into(),
                    statement: disclosure(language).encode_to_vec(),
                    signatures: vec![],
                })),
                ..Default::default()
            }
            .encode_to_vec()
        };
        assert_eq!(check("LogEntry", &entry("fr")), Ok(()));
        let bad = check("LogEntry", &entry("fr\r")).unwrap_err();
        assert_eq!(bad.field, "NoticeRef.language");
    }
}
