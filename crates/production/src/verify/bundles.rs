//! The anchors: trust bundles under the root, and what was disclosed to the members.

use std::collections::BTreeMap;

use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{Bundle, RootKey, Trust, VerifiedDisclosure, verify_disclosure};

use super::Report;
use crate::evidence::Production;
use crate::layout;
use crate::opened::why;

/// Bundles that the root signed.
pub(super) struct Anchors {
    root: RootKey,
    bundles: BTreeMap<u64, Bundle>,
    newest: u64,
}

impl Anchors {
    /// The newest bundle of the production.
    pub(super) fn current(&self) -> &Bundle {
        &self.bundles[&self.newest]
    }

    /// The bundle that a receipt was judged by.
    pub(super) fn version(&self, version: u64) -> Option<&Bundle> {
        self.bundles.get(&version)
    }

    /// Newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Bundle> {
        self.bundles.values().rev()
    }
}

/// Every bundle in the folder, verified under the root; none when not one of them holds.
pub(super) fn verify(
    files: &BTreeMap<String, Vec<u8>>,
    root: &RootKey,
    report: &mut Report,
) -> Option<Anchors> {
    let mut bundles = BTreeMap::new();
    for (path, bytes) in files
        .iter()
        .filter(|(path, _)| path.starts_with("evidence/bundles/"))
    {
        let bundle = Signed::<pb::TrustBundle>::decode_bytes(bytes)
            .map_err(|e| why("it is refused", &e))
            .and_then(|signed| {
                if signed.signers().count() > 1 + signed.nodes.len() {
                    return Err("it carries signatures that nobody asked for".to_owned());
                }
                Bundle::verify(signed, root).map_err(|e| why("it is refused under this root", &e))
            });
        match bundle {
            Ok(bundle) if *path == layout::bundle(bundle.version()) => {
                bundles.insert(bundle.version(), bundle);
            }
            Ok(_) => report.add(path, "it is named after another version"),
            Err(problem) => report.add(path, problem),
        }
    }
    let Some(newest) = bundles.keys().next_back().copied() else {
        report.add("evidence/bundles", "no trust bundle that this root signed");
        return None;
    };
    Some(Anchors {
        root: root.clone(),
        bundles,
        newest,
    })
}

/// The disclosures of the production that hold.
pub(super) fn disclosures(
    production: &Production,
    anchors: &Anchors,
    report: &mut Report,
) -> Vec<VerifiedDisclosure> {
    let older: Vec<&Bundle> = anchors.newest_first().collect();
    let trust = Trust {
        root: &anchors.root,
        bundle: anchors.current(),
        older: &older,
    };
    let mut verified = Vec::new();
    for raw in &production.disclosures {
        let path = layout::disclosure(crate::manifest::sha256(&raw.statement));
        if raw.signatures.len() != 1 {
            report.add(&path, "it carries other signatures than the root's");
        }
        let disclosure = Signed::<pb::Disclosure>::decode(raw.clone())
            .map_err(|e| why("it is refused", &e))
            .and_then(|signed| {
                verify_disclosure(signed, &[trust]).map_err(|e| why("it is refused", &e))
            });
        match disclosure {
            Ok(disclosure) => verified.push(disclosure),
            Err(problem) => report.add(path, problem),
        }
    }
    verified
}
