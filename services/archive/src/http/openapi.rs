//! The OpenAPI 3.1 description of the routes, made from the contracts: their messages, and their comments as the words.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::prost_types::source_code_info::Location;
use prost_reflect::{
    EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor, MethodDescriptor,
};
use serde_json::{Map, Value, json};

use super::refusal::status_code;
use super::route::{ROUTES, Route};
use crate::people::PERSON_TOKEN;

const INTRODUCTION: &str = "\
The archive's RPCs of people, for tools that speak JSON. Messages are in the canonical JSON of proto3: 64-bit numbers are texts, \
bytes are base64 (in a path or parameter base64url, RFC 4648), times are milliseconds since 1970 in UTC. Unknown parameters and \
fields are refused.\n\n\
Every call needs both: a client certificate of the tenant, and a person-token, signed by a person of the roster and valid for at \
most 15 minutes. What is read is written to the log. Acts, orders and approvals are statements that people sign; whoever carries \
them adds nothing.\n\n\
A refusal is google.rpc.Status: act on the reason of its ErrorInfo, not on the words. Only repeat what has a RetryInfo or is 503.";

/// The document.
pub fn document() -> Value {
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in &ROUTES {
        if let Some(rpc) = route.descriptor() {
            let operation = operation(route, &rpc, &mut schemas);
            let methods = paths.entry(route.path).or_default();
            methods.insert(route.method.to_lowercase(), operation);
        }
    }
    let mut components = schemas.finish();
    components.insert("Status".to_owned(), status());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Greffe archive",
            "version": "v1",
            "description": INTRODUCTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{
            "url": "https://{host}:7443",
            "variables": { "host": { "default": "archive", "description": "DNS name in the archive's certificate" } },
        }],
        "security": [{ "certificate": [], "person": [] }],
        "tags": [
            { "name": "ArchiveService", "description": "Records, ranges, matters, holds and other acts" },
            { "name": "OrderService", "description": "Orders to open records" },
        ],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                "Refusal": {
                    "description": "What was refused, why, and a stable reason",
                    "content": { "application/json": { "schema": reference("Status") } },
                },
            },
            "securitySchemes": {
                "certificate": {
                    "type": "mutualTLS",
                    "description": "A certificate of the tenant's authority for spiffe://TENANT/app/NAME",
                },
                "person": {
                    "type": "apiKey",
                    "in": "header",
                    "name": PERSON_TOKEN,
                    "description": "Base64 of a SignedStatement of type person-token for the audience archive",
                },
            },
        },
    })
}

fn operation(route: &Route, rpc: &MethodDescriptor, schemas: &mut Schemas) -> Value {
    let mut operation = json!({
        "operationId": rpc.name(),
        "tags": [route.rpc.0],
        "description": comment(&rpc.parent_file(), rpc.path()),
        "responses": {
            "200": {
                "description": "Done",
                "content": { "application/json": { "schema": schemas.message(&rpc.output()) } },
            },
        },
    });
    let refusals = [
        tonic::Code::InvalidArgument,
        tonic::Code::Unauthenticated,
        tonic::Code::PermissionDenied,
        tonic::Code::NotFound,
        tonic::Code::AlreadyExists,
        tonic::Code::ResourceExhausted,
        tonic::Code::Internal,
        tonic::Code::Unavailable,
        tonic::Code::DeadlineExceeded,
    ];
    for code in refusals {
        operation["responses"][status_code(code).as_str()] =
            json!({ "$ref": "#/components/responses/Refusal" });
    }
    if route.body {
        operation["requestBody"] = json!({
            "required": true,
            "content": { "application/json": { "schema": schemas.message(&rpc.input()) } },
        });
    } else {
        let mut parameters = Vec::new();
        self::parameters(route, &rpc.input(), "", schemas, &mut parameters);
        operation["parameters"] = parameters.into();
    }
    operation
}

fn parameters(
    route: &Route,
    message: &MessageDescriptor,
    prefix: &str,
    schemas: &mut Schemas,
    found: &mut Vec<Value>,
) {
    for field in message.fields() {
        let name = format!("{prefix}{}", field.json_name());
        if let Kind::Message(inner) = field.kind() {
            parameters(route, &inner, &format!("{name}."), schemas, found);
            continue;
        }
        let in_path = route.path.contains(&format!("{{{name}}}"));
        let mut schema = schemas.field(&field);
        if let Some(encoding) = schema.get_mut("contentEncoding") {
            *encoding = json!("base64url");
        }
        found.push(json!({
            "name": name,
            "in": if in_path { "path" } else { "query" },
            "required": in_path,
            "description": comment(&field.parent_message().parent_file(), field.path()),
            "schema": schema,
        }));
    }
}

/// The messages and enums that the routes reach.
#[derive(Default)]
struct Schemas {
    wanted: Vec<MessageDescriptor>,
    seen: BTreeSet<String>,
    done: BTreeMap<String, Value>,
}

impl Schemas {
    fn message(&mut self, message: &MessageDescriptor) -> Value {
        if self.seen.insert(message.full_name().to_owned()) {
            self.wanted.push(message.clone());
        }
        reference(message.full_name())
    }

    fn enumeration(&mut self, kind: &EnumDescriptor) -> Value {
        let names: Vec<String> = kind.values().map(|value| value.name().to_owned()).collect();
        let words = kind.values().map(|value| {
            let said = comment(&kind.parent_file(), value.path());
            format!("\n- {}: {said}", value.name())
        });
        let words: String = words.collect();
        let said = comment(&kind.parent_file(), kind.path());
        self.done.insert(
            kind.full_name().to_owned(),
            json!({ "type": "string", "enum": names, "description": said + &words }),
        );
        reference(kind.full_name())
    }

    /// A field's schema, as a list when it is one.
    fn field(&mut self, field: &FieldDescriptor) -> Value {
        let one = match field.kind() {
            Kind::Message(message) => self.message(&message),
            Kind::Enum(kind) => self.enumeration(&kind),
            kind => scalar(&kind),
        };
        if field.is_list() {
            json!({ "type": "array", "items": one })
        } else {
            one
        }
    }

    fn finish(mut self) -> BTreeMap<String, Value> {
        while let Some(message) = self.wanted.pop() {
            let mut properties = Map::new();
            for field in message.fields() {
                let mut schema = self.field(&field);
                schema["description"] = comment(&message.parent_file(), field.path()).into();
                properties.insert(field.json_name().to_owned(), schema);
            }
            let schema = json!({
                "type": "object",
                "description": comment(&message.parent_file(), message.path()),
                "properties": properties,
                "additionalProperties": false,
            });
            self.done.insert(message.full_name().to_owned(), schema);
        }
        self.done
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The canonical JSON of a scalar. Nothing in the contracts is a map or a floating-point number.
fn scalar(kind: &Kind) -> Value {
    match kind {
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
        Kind::Uint64 | Kind::Fixed64 => {
            json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$" })
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            json!({ "type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$" })
        }
        Kind::Uint32 | Kind::Fixed32 => {
            json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({ "type": "integer" }),
        Kind::Double | Kind::Float => json!({ "type": "number" }),
        Kind::String | Kind::Message(_) | Kind::Enum(_) => json!({ "type": "string" }),
    }
}

/// google.rpc.Status, with the details that a refusal carries.
fn status() -> Value {
    json!({
        "type": "object",
        "description": "google.rpc.Status",
        "required": ["code", "message", "details"],
        "properties": {
            "code": { "type": "integer", "description": "google.rpc.Code" },
            "message": { "type": "string", "description": "For a person; its words change" },
            "details": {
                "type": "array",
                "items": { "anyOf": [
                    {
                        "type": "object",
                        "required": ["@type", "reason", "domain", "metadata"],
                        "properties": {
                            "@type": { "const": "type.googleapis.com/google.rpc.ErrorInfo" },
                            "reason": { "type": "string", "pattern": "^[A-Z][A-Z0-9_]{0,62}$", "description": "Stable" },
                            "domain": { "const": "greffe" },
                            "metadata": { "type": "object", "additionalProperties": { "type": "string" } },
                        },
                    },
                    {
                        "type": "object",
                        "required": ["@type", "retryDelay"],
                        "properties": {
                            "@type": { "const": "type.googleapis.com/google.rpc.RetryInfo" },
                            "retryDelay": { "type": "string", "pattern": "^[0-9]+\\.[0-9]{9}s$" },
                        },
                    },
                ] },
            },
        },
    })
}

/// What the contract says above something.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let found = info
        .iter()
        .flat_map(|info| &info.location)
        .find(|location: &&Location| location.path == path);
    let words = found
        .and_then(|location| location.leading_comments.as_deref())
        .unwrap_or_default();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");

    #[test]
    fn the_committed_description_is_the_one_that_is_served() {
        let mut made = serde_json::to_string_pretty(&document()).unwrap();
        made.push('\n');
        if std::env::var_os("GREFFE_WRITE_OPENAPI").is_some() {
            std::fs::write(FILE, &made).unwrap();
        }
        let committed = std::fs::read_to_string(FILE).unwrap_or_default();
        assert!(
            made == committed,
            "the routes or contracts changed: GREFFE_WRITE_OPENAPI=1 cargo test --release -p greffe-archive openapi"
        );
    }

    #[test]
    fn everything_is_said_in_words() {
        let document = document();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for operation in methods.as_object().unwrap().values() {
                assert_ne!(operation["description"], "", "{path}");
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    assert_ne!(parameter["description"], "", "{path} {}", parameter["name"]);
                }
            }
        }
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(schemas.contains_key("greffe.archive.v1.RecordSummary"));
        for (name, schema) in schemas {
            assert_ne!(schema["description"], "", "{name}");
        }
    }
}
