//! A sector's policy pack: parsed strictly, checked against itself, identified by the digest of its exact bytes.

mod canonical;
mod folder;
mod lint;
mod model;
mod raw;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use greffe_types::Digest;

pub use folder::{FolderError, load_folder};
pub use lint::LintError;
pub use model::{
    ApprovalRule, ApprovalRuleError, Clock, Evidence, HoldReleaseRule, RecordClass, Start,
};

use crate::{Mode, Role};

/// The texts of a pack, as its folder holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackTexts {
    /// `pack.toml`.
    pub pack: String,
    /// `notice.<language>.md`, by language.
    pub notices: BTreeMap<String, String>,
}

/// A pack that has passed every check.
#[derive(Debug, Clone)]
pub struct Pack {
    pub(crate) model: model::Model,
    texts: PackTexts,
    canonical: Vec<u8>,
    digest: Digest,
}

/// Why a pack was refused.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Not the TOML of a pack: a syntax error, a missing or an unknown key, a value of another kind.
    #[error("pack.toml is not a pack")]
    Syntax(#[source] Box<toml::de::Error>),
    /// It contradicts itself or lacks something that it must have.
    #[error("the pack does not hold together")]
    Lint(#[from] LintError),
    /// Canonical bytes that are none.
    #[error("the canonical bytes end early, go on too long, or are not UTF-8")]
    Canonical,
}

impl PackError {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Syntax(_) => "PACK_SYNTAX",
            Self::Lint(_) => "PACK_LINT",
            Self::Canonical => "PACK_CANONICAL",
        }
    }
}

/// A record class that the pack does not know: ingest is refused, never defaulted to something shorter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pack {pack} has no record class {class:?}")]
pub struct ClassError {
    /// The pack.
    pub pack: String,
    /// The class asked for.
    pub class: String,
}

impl ClassError {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        "RECORD_CLASS_UNKNOWN"
    }
}

impl Pack {
    /// Parses and checks the texts of a pack.
    ///
    /// # Errors
    /// When the TOML is not a pack's, or the pack contradicts itself.
    pub fn from_texts(texts: PackTexts) -> Result<Self, PackError> {
        lint::check_bytes("pack.toml", &texts.pack)?;
        let raw: raw::Pack =
            toml::from_str(&texts.pack).map_err(|error| PackError::Syntax(Box::new(error)))?;
        let model = lint::check(raw, &texts)?;
        let canonical = canonical::encode(&texts);
        let digest = canonical::digest(&canonical);
        Ok(Self {
            model,
            texts,
            canonical,
            digest,
        })
    }

    /// Parses and checks the canonical bytes of a pack, as [`Self::canonical`] gives them.
    ///
    /// # Errors
    /// As [`Self::from_texts`], and when the bytes are not canonical.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, PackError> {
        let texts = canonical::decode(bytes).ok_or(PackError::Canonical)?;
        let pack = Self::from_texts(texts)?;
        if pack.canonical != bytes {
            return Err(PackError::Canonical);
        }
        Ok(pack)
    }

    /// The packs that every binary carries.
    pub fn all_embedded() -> &'static [Self] {
        static PACKS: LazyLock<Vec<Pack>> = LazyLock::new(|| {
            EMBEDDED
                .iter()
                .map(|texts| {
                    Pack::from_texts(PackTexts {
                        pack: texts.pack.to_owned(),
                        notices: texts
                            .notices
                            .iter()
                            .map(|(language, text)| ((*language).to_owned(), (*text).to_owned()))
                            .collect(),
                    })
                    .expect("embedded packs are constants, and a test loads each of them")
                })
                .collect()
        });
        &PACKS
    }

    /// An embedded pack by id.
    pub fn embedded(id: &str) -> Option<&'static Self> {
        Self::all_embedded().iter().find(|pack| pack.id() == id)
    }

    /// Its id, such as `us-broker-dealer`.
    pub fn id(&self) -> &str {
        &self.model.id
    }

    /// Its version, from 1; for people, the digest is what counts.
    pub const fn version(&self) -> u32 {
        self.model.version
    }

    /// Its title.
    pub fn title(&self) -> &str {
        &self.model.title
    }

    /// SHA-256 of [`Self::canonical`]: what trust bundles, disclosures and headers name.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// `LP("greffe/v1/policy-pack") || LP(pack.toml) || be32 n || n times LP(language) || LP(notice)`, sorted by language,
    /// where `LP(x)` is the be32 length of x before x: the exact bytes of the files, so any tool can recompute it.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// Its texts.
    pub const fn texts(&self) -> &PackTexts {
        &self.texts
    }

    /// Languages of its notices, sorted.
    pub fn languages(&self) -> &[String] {
        &self.model.languages
    }

    /// Modes that conversations may have, from the lowest.
    pub fn modes_allowed(&self) -> impl Iterator<Item = Mode> + '_ {
        self.model.modes.keys().copied()
    }

    /// Whether conversations may have this mode.
    pub fn allows(&self, mode: Mode) -> bool {
        self.model.modes.contains_key(&mode)
    }

    /// The class that clients write when their user chooses none.
    pub fn message_class(&self) -> &RecordClass {
        &self.model.classes[self.model.message_class]
    }

    /// The class of that name. The empty name means unclassified, for which only some packs have a class.
    ///
    /// # Errors
    /// When the pack has no such class: the record must be refused.
    pub fn class(&self, name: &str) -> Result<&RecordClass, ClassError> {
        let found = if name.is_empty() {
            self.model
                .unclassified_class
                .map(|index| &self.model.classes[index])
        } else {
            self.model.classes.iter().find(|class| class.name == name)
        };
        found.ok_or_else(|| ClassError {
            pack: self.model.id.clone(),
            class: name.to_owned(),
        })
    }

    /// Its record classes, in the order of the file.
    pub fn classes(&self) -> &[RecordClass] {
        &self.model.classes
    }

    /// What an order needs before it is released.
    pub const fn approval(&self) -> &ApprovalRule {
        &self.model.approval
    }

    /// What releasing a hold needs.
    pub const fn hold_release(&self) -> &HoldReleaseRule {
        &self.model.hold_release
    }

    /// Roles that each need a person of their own to approve a disposition.
    pub fn disposition_roles(&self) -> &[Role] {
        &self.model.disposition_roles
    }

    /// Why records are kept, in one of the pack's languages.
    pub fn purpose(&self, language: &str) -> Option<&str> {
        self.model.purpose.get(language).map(String::as_str)
    }
}

struct EmbeddedTexts {
    pack: &'static str,
    notices: [(&'static str, &'static str); 2],
}

macro_rules! embedded {
    ($id:literal) => {
        EmbeddedTexts {
            pack: include_str!(concat!("../../../../policies/packs/", $id, "/pack.toml")),
            notices: [
                (
                    "en",
                    include_str!(concat!("../../../../policies/packs/", $id, "/notice.en.md")),
                ),
                (
                    "fr",
                    include_str!(concat!("../../../../policies/packs/", $id, "/notice.fr.md")),
                ),
            ],
        }
    };
}

const EMBEDDED: [EmbeddedTexts; 2] = [
    embedded!("fr-corporate-archive"),
    embedded!("us-broker-dealer"),
];
