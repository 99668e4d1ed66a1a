//! Messages in the canonical JSON of proto3, by their descriptors.

use prost::Message as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};
use tonic::Status;

use super::refusal::malformed;

/// A request's message: from its body, if it has one, and from parameters named by JSON names with dots between. A name that the
/// message does not have is refused, and so is one that is given twice and is no list.
pub(super) fn request(
    kind: &MessageDescriptor,
    parameters: &[(String, String)],
    body: Option<&[u8]>,
) -> Result<Vec<u8>, Status> {
    let mut message = match body {
        Some(body) => {
            serde_json::from_slice(body).map_err(|error| malformed(&error.to_string()))?
        }
        None => Value::Object(Map::new()),
    };
    for (name, value) in parameters {
        place(&mut message, kind, name, value).map_err(|what| malformed(&what))?;
    }
    let message = DynamicMessage::deserialize(kind.clone(), message)
        .map_err(|error| malformed(&error.to_string()))?;
    Ok(message.encode_to_vec())
}

/// Puts a parameter where its name says.
fn place(
    message: &mut Value,
    kind: &MessageDescriptor,
    name: &str,
    text: &str,
) -> Result<(), String> {
    let unknown = || format!("there is no parameter {name:?}");
    let Value::Object(fields) = message else {
        return Err(unknown());
    };
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    let field = kind.get_field_by_json_name(first).ok_or_else(unknown)?;
    match (field.kind(), rest) {
        (Kind::Message(inner), Some(rest)) if !field.is_list() && !field.is_map() => {
            let below = fields
                .entry(first)
                .or_insert_with(|| Value::Object(Map::new()));
            place(below, &inner, rest, text)
        }
        (Kind::Message(_), _) | (_, Some(_)) => Err(unknown()),
        (_, None) => {
            let value = scalar(&field, text)?;
            if field.is_list() {
                match fields
                    .entry(first)
                    .or_insert_with(|| Value::Array(Vec::new()))
                {
                    Value::Array(values) => values.push(value),
                    _ => return Err(unknown()),
                }
            } else if fields.insert(first.to_owned(), value).is_some() {
                return Err(format!("{name:?} is given twice"));
            }
            Ok(())
        }
    }
}

/// Numbers, enums and bytes are read from texts anyway.
fn scalar(field: &FieldDescriptor, text: &str) -> Result<Value, String> {
    match (field.kind(), text) {
        (Kind::Bool, "true") => Ok(Value::Bool(true)),
        (Kind::Bool, "false") => Ok(Value::Bool(false)),
        (Kind::Bool, _) => Err(format!("{:?} is true or false", field.json_name())),
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// An answer's message.
pub(super) fn response(kind: &MessageDescriptor, bytes: &[u8]) -> Result<bytes::Bytes, Status> {
    let failed = |_| Status::internal("the answer is not the RPC's message");
    let message = DynamicMessage::decode(kind.clone(), bytes).map_err(failed)?;
    // Fields at their default are written too: a tool then sees what there is, and the last page's token is "".
    let options = prost_reflect::SerializeOptions::new().skip_default_fields(false);
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut json);
    match message.serialize_with_options(&mut serializer, &options) {
        Ok(()) => Ok(json.into()),
        Err(_) => Err(Status::internal("the answer cannot be written as JSON")),
    }
}

#[cfg(test)]
mod tests {
    use greffe_api::archive as api;
    use greffe_envelope::pb;

    use super::super::POOL;
    use super::*;

    fn kind(name: &str) -> MessageDescriptor {
        POOL.get_message_by_name(&format!("greffe.archive.v1.{name}"))
            .unwrap()
    }

    fn search(parameters: &[(&str, &str)]) -> Result<api::SearchRecordsRequest, Status> {
        let parameters: Vec<_> = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let bytes = request(&kind("SearchRecordsRequest"), &parameters, None)?;
        Ok(api::SearchRecordsRequest::decode(bytes.as_slice()).unwrap())
    }

    #[test]
    fn parameters_become_the_message() {
        let found = search(&[
            ("query.participant", "bob"),
            ("query.from", "18446744073709551615"),
            ("query.mode", "MODE_JOURNALED"),
            ("query.conversation", "_-8"),
            ("query.recordClass", "chat"),
            ("pageSize", "3"),
        ])
        .unwrap();
        let query = found.query.unwrap();
        assert_eq!(query.from, u64::MAX);
        assert_eq!(query.mode, i32::from(pb::Mode::Journaled));
        assert_eq!(query.conversation, [0xff, 0xef]);
        assert_eq!(
            (query.participant.as_str(), query.record_class.as_str()),
            ("bob", "chat")
        );
        assert_eq!(found.page_size, 3);
        assert_eq!(search(&[]).unwrap(), api::SearchRecordsRequest::default());
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        for wrong in [
            &[("participant", "bob")][..],
            &[("query", "bob")],
            &[("query.participant.name", "bob")],
            &[("query.", "bob")],
            &[("pageSize", "many")],
            &[("pageSize", "-1")],
            &[("pageSize", "1"), ("pageSize", "2")],
            &[("query.mode", "MODE_SECRET")],
            &[("query.conversation", "not base64!")],
            &[("query.from", "1.5")],
        ] {
            let refused = search(wrong).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{wrong:?}");
        }
        for body in [
            "",
            "[]",
            "7",
            "{\"acts\": [{}], \"more\": 1}",
            "{\"acts\": \"x\"}",
            "{}{}",
        ] {
            let refused = request(&kind("ActRequest"), &[], Some(body.as_bytes()));
            assert!(refused.is_err(), "{body}");
        }
    }

    #[test]
    fn an_answer_is_canonical_json_with_every_field() {
        let answer = api::SearchRecordsResponse {
            records: vec![api::RecordSummary {
                record: u64::MAX,
                digest: vec![0xff, 0xef],
                mode: pb::Mode::Journaled.into(),
                ..api::RecordSummary::default()
            }],
            next_page_token: String::new(),
        };
        let json = response(&kind("SearchRecordsResponse"), &answer.encode_to_vec()).unwrap();
        let json: Value = serde_json::from_slice(&json).unwrap();
        let record = &json["records"][0];
        assert_eq!(record["record"], "18446744073709551615");
        assert_eq!(record["digest"], "/+8=");
        assert_eq!(record["mode"], "MODE_JOURNALED");
        assert_eq!(record["disposed"], false);
        assert_eq!(json["nextPageToken"], "");
    }
}
