//! Statements for people's eyes: every field on a line of its own, and what differs from another one.

use std::collections::BTreeMap;

use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement};
use greffe_types::to_hex;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::decode_hex;
use super::draft::Draft;
use crate::commands::form::{one_line, time};
use crate::fail::{Failure, Result, chain};

/// Longest value in hexadecimal that is printed whole; of longer ones their digest is what people compare.
const LONGEST: usize = 64;

/// A statement, its fields by their places.
#[derive(Debug, Serialize)]
pub(crate) struct View {
    /// What it is, such as `trust-bundle`.
    pub(crate) kind: String,
    /// SHA-256 of its bytes: what signatures cover, and what people compare.
    pub(crate) digest: String,
    /// Whose signatures stand beside it, verified or not.
    pub(crate) signers: Vec<String>,
    /// Every field.
    pub(crate) fields: BTreeMap<String, String>,
}

/// A field that is not the same in two statements.
#[derive(Debug, Serialize)]
pub(crate) struct Difference {
    field: String,
    before: Option<String>,
    after: Option<String>,
}

impl View {
    /// Of a statement.
    pub(crate) fn new(raw: &pb::SignedStatement) -> Result<Self> {
        let value = match raw.r#type.as_str() {
            pb::TrustBundle::TYPE => serde_json::to_value(Draft::new(&decode(raw)?))
                .map_err(|e| Failure::because("OUTPUT", "the bundle cannot be shown", &e))?,
            pb::KeygenDescriptor::TYPE => descriptor(&decode(raw)?),
            pb::ReshareDescriptor::TYPE => resharing(&decode(raw)?),
            pb::KeyRetirement::TYPE => retirement(&decode(raw)?)?,
            pb::KeyRecord::TYPE => record(&decode(raw)?),
            pb::ShareEpoch::TYPE => epoch(&decode(raw)?),
            pb::Disclosure::TYPE => disclosure(&decode(raw)?)?,
            other => {
                return Err(Failure::usage(
                    "STATEMENT_KIND",
                    format_args!(
                        "{:?} is nothing that a tenant's root signs: name a trust bundle, ceremony descriptor, key record, share \
                         epoch, disclosure or retirement",
                        one_line(other)
                    ),
                ));
            }
        };
        let mut fields = BTreeMap::new();
        flatten(String::new(), &value, &mut fields);
        Ok(Self {
            kind: raw.r#type.clone(),
            digest: to_hex(&Sha256::digest(&raw.statement)),
            signers: raw.signatures.iter().map(|s| s.signer.clone()).collect(),
            fields,
        })
    }

    /// For a person.
    pub(crate) fn text(&self) -> String {
        let signers = match self.signers.as_slice() {
            [] => "nobody".to_owned(),
            some => some.join(", "),
        };
        let mut text = format!(
            "{}, digest {}\nsigned by {}\n",
            self.kind,
            self.digest,
            one_line(&signers)
        );
        for (field, value) in &self.fields {
            text.push_str(&format!("  {field}: {value}\n"));
        }
        text
    }

    /// What changes from an earlier statement to this one.
    pub(crate) fn differences(&self, earlier: &Self) -> Vec<Difference> {
        let names = earlier.fields.keys().chain(self.fields.keys());
        let mut names: Vec<&String> = names.collect();
        names.sort_unstable();
        names.dedup();
        let differs = |name: &&String| earlier.fields.get(*name) != self.fields.get(*name);
        let names = names.into_iter().filter(differs);
        names
            .map(|name| Difference {
                field: name.clone(),
                before: earlier.fields.get(name).cloned(),
                after: self.fields.get(name).cloned(),
            })
            .collect()
    }
}

impl Difference {
    /// For a person: `-` is gone, `+` is new.
    pub(crate) fn text(&self) -> String {
        let line = |sign, value: &Option<String>| {
            value.as_ref().map_or_else(String::new, |value| {
                format!("{sign} {}: {value}\n", self.field)
            })
        };
        line('-', &self.before) + &line('+', &self.after)
    }
}

fn decode<M: Statement + Clone>(raw: &pb::SignedStatement) -> Result<M> {
    let signed = Signed::<M>::decode(raw.clone()).map_err(|error| {
        Failure::usage(
            "STATEMENT_FILE",
            format_args!(
                "it does not decode ({}): copy it again from where it was written",
                chain(&error)
            ),
        )
    })?;
    Ok(signed.message().clone())
}

fn descriptor(d: &pb::KeygenDescriptor) -> Value {
    json!({
        "tenant": d.tenant, "session": to_hex(&d.session), "period": d.period, "not_before": time(d.not_before),
        "not_after": time(d.not_after), "threshold": d.threshold, "nodes": d.nodes.join(", "),
        "bundle_version": d.bundle_version, "purpose": d.purpose, "expiry": time(d.expiry), "notices": notices(&d.notices),
    })
}

fn resharing(d: &pb::ReshareDescriptor) -> Value {
    let dealers: Vec<String> = d.dealers.iter().map(u32::to_string).collect();
    json!({
        "tenant": d.tenant, "session": to_hex(&d.session), "key_id": to_hex(&d.key_id), "previous": to_hex(&d.previous),
        "threshold": d.threshold, "nodes": d.nodes.join(", "), "dealers": dealers.join(", "), "expiry": time(d.expiry),
    })
}

fn retirement(r: &pb::KeyRetirement) -> Result<Value> {
    let raw = r.unused.clone().unwrap_or_default();
    let unused = decode::<pb::KeyUnused>(&raw)?;
    Ok(json!({
        "tenant": r.tenant, "key_id": to_hex(&r.key_id), "record": to_hex(&r.key_record), "at": time(r.at),
        "unused": { "key_id": to_hex(&unused.key_id), "record": to_hex(&unused.key_record), "at": time(unused.at) },
    }))
}

fn record(r: &pb::KeyRecord) -> Value {
    json!({
        "tenant": r.tenant, "key_id": to_hex(&r.key_id), "period": r.period, "not_before": time(r.not_before),
        "not_after": time(r.not_after), "kem": r.kem, "public_key": to_hex(&r.public_key), "t_min": r.t_min,
        "committee": r.committee.join(", "), "notices": notices(&r.notices), "purpose": r.purpose,
        "transcript": to_hex(&r.transcript),
    })
}

fn epoch(e: &pb::ShareEpoch) -> Value {
    let holders = e.holders.iter().map(|holder| {
        json!({ "name": holder.node, "index": holder.index, "verification_share": to_hex(&holder.verification_share) })
    });
    json!({
        "tenant": e.tenant, "key_id": to_hex(&e.key_id), "epoch": e.epoch, "previous": to_hex(&e.previous),
        "threshold": e.threshold, "holders": holders.collect::<Vec<_>>(),
    })
}

fn disclosure(d: &pb::Disclosure) -> Result<Value> {
    let records = d.key_records.iter().map(|raw| {
        let record = decode::<pb::KeyRecord>(raw)?;
        Ok(json!({
            "key_id": to_hex(&record.key_id), "period": record.period, "not_after": time(record.not_after),
            "record": to_hex(&Sha256::digest(&raw.statement)),
        }))
    });
    Ok(json!({
        "tenants": d.tenants.join(", "), "mode": greffe_client::mode_name(d.mode()), "serial": d.serial,
        "policy_id": d.policy_id, "policy_digest": to_hex(&d.policy_digest), "notices": notices(&d.notices),
        "standing_order": to_hex(&d.standing_order), "keys": records.collect::<Result<Vec<_>>>()?,
    }))
}

fn notices(notices: &[pb::NoticeRef]) -> Value {
    let notices = notices
        .iter()
        .map(|notice| json!({ "language": notice.language, "digest": to_hex(&notice.digest) }));
    notices.collect()
}

/// Fields by their places; items of a list by what names them, so that one that moves is not another one. No two share a
/// place: what would stand where another one does is numbered, since what is not shown would be signed unseen.
fn flatten(place: String, value: &Value, fields: &mut BTreeMap<String, String>) {
    let below = |part: &str| {
        if place.is_empty() {
            part.to_owned()
        } else {
            format!("{place}.{part}")
        }
    };
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                flatten(below(name), value, fields);
            }
        }
        Value::Array(list) => {
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for (number, item) in (1..).zip(list) {
                let name = name_of(item, number);
                let times = seen.entry(name.clone()).or_default();
                *times += 1;
                flatten(below(&numbered(&name, *times)), item, fields);
            }
        }
        Value::String(text) => put(place, shown(text), fields),
        other => put(place, other.to_string(), fields),
    }
}

fn put(place: String, value: String, fields: &mut BTreeMap<String, String>) {
    let free = (1..)
        .map(|times| numbered(&place, times))
        .find(|place| !fields.contains_key(place))
        .unwrap_or(place);
    fields.insert(free, value);
}

/// The first of a name has it alone.
fn numbered(name: &str, times: usize) -> String {
    if times < 2 {
        name.to_owned()
    } else {
        format!("{name}#{times}")
    }
}

fn name_of(item: &Value, number: usize) -> String {
    if let Value::String(text) = item
        && text.len() <= LONGEST
    {
        return one_line(text);
    }
    ["name", "service", "id", "language", "key_id", "certificate"]
        .iter()
        .find_map(|name| item.get(name)?.as_str())
        .map_or_else(|| number.to_string(), one_line)
}

fn shown(text: &str) -> String {
    match decode_hex(text) {
        Some(bytes) if text.len() > LONGEST => {
            format!(
                "{} bytes of SHA-256 {}",
                bytes.len(),
                to_hex(&Sha256::digest(&bytes))
            )
        }
        _ => one_line(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_by_its_place() {
        let bundle = |roles: &[&str], names: &[&str]| {
            let person = |name: &&str| pb::Person {
                name: (*name).to_owned(),
                roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                reader_key: vec![7; 1249],
                ..pb::Person::default()
            };
            let bundle = pb::TrustBundle {
                tenant: "acme".into(),
                roster: names.iter().map(person).collect(),
                ..pb::TrustBundle::default()
            };
            View::new(Signed::sign(bundle, &[]).raw()).unwrap()
        };
        let first = bundle(&["reader"], &["eve", "ron"]);
        assert_eq!(first.signers, Vec::<String>::new());
        assert!(
            first.fields["roster.eve.reader_key"].starts_with("1249 bytes of SHA-256"),
            "{first:?}"
        );
        // The order of people changes nothing that they may do.
        assert!(
            bundle(&["reader"], &["ron", "eve"])
                .differences(&first)
                .is_empty()
        );
        let differences = bundle(&["reader", "legal"], &["eve"]).differences(&first);
        let text: String = differences.iter().map(Difference::text).collect();
        assert!(text.contains("+ roster.eve.roles.legal: legal\n"), "{text}");
        assert!(text.contains("- roster.ron.name: ron\n"), "{text}");
        assert!(!text.contains("roster.eve.name"), "{text}");
    }

    /// Whatever a draft has twice is shown twice: the later one would otherwise hide the one that was put before it.
    #[test]
    fn nothing_of_a_list_hides_another_item_of_its_name() {
        let bundle = |revocations: &[u64]| {
            let revoked = |from: &u64| pb::Revocation {
                certificate: vec![7; 32],
                from: *from,
            };
            let bundle = pb::TrustBundle {
                revocations: revocations.iter().map(revoked).collect(),
                ..pb::TrustBundle::default()
            };
            View::new(Signed::sign(bundle, &[]).raw()).unwrap()
        };
        let (old, new) = (1_577_836_800_000, 1_767_225_600_000);
        let first = bundle(&[new]);
        let shown = |view: &View| -> String {
            let differences = view.differences(&first);
            differences.iter().map(Difference::text).collect()
        };
        for both in [[old, new], [new, old]] {
            let text = shown(&bundle(&both));
            assert!(text.contains("2020-01-01"), "{text}");
            assert!(text.contains("#2.certificate"), "{text}");
        }
        let notice = |digest: u8| pb::NoticeRef {
            language: "en".into(),
            digest: vec![digest; 32],
        };
        let record = pb::KeyRecord {
            notices: vec![notice(1), notice(2)],
            ..pb::KeyRecord::default()
        };
        let view = View::new(Signed::sign(record, &[]).raw()).unwrap();
        let digests = view.fields.keys().filter(|field| field.ends_with("digest"));
        assert_eq!(digests.count(), 2, "{view:?}");
    }
}
