//! What people are told before their first message: the pack's notice in their language, with the facts filled in.

mod template;

use core::fmt::Write as _;

use greffe_types::{Digest, TenantId};
use sha2::{Digest as _, Sha256};

pub(crate) use template::{check, check_private};

use crate::{Mode, Pack};

/// The points that every notice makes, each under a line `<!-- point: NAME -->`.
pub const POINTS: [&str; 8] = [
    "journaling-key",
    "fingerprint",
    "holders",
    "purpose",
    "legal-basis",
    "retention",
    "access",
    "rights",
];

/// The facts of a notice.
#[derive(Debug, Clone)]
pub struct NoticeValues<'a> {
    /// The tenant.
    pub tenant: &'a TenantId,
    /// The conversation's mode.
    pub mode: Mode,
    /// Key ids of the journaling keys, in the order of the disclosure; none only when private.
    pub key_fingerprints: &'a [Digest],
    /// Who holds shares; none only when private.
    pub holders: &'a [Holder],
    /// How many of them have to answer before a record opens.
    pub threshold: u32,
    /// Whom to ask: a name and an address, one line.
    pub contact: &'a str,
}

/// A holder of a share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Node name.
    pub name: String,
    /// Whose node it is: account, cluster, operator.
    pub trust_domain: String,
}

/// A notice as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    language: String,
    text: String,
}

/// Why there is no notice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    /// The pack has none in that language; another is never shown in its place.
    #[error("no notice in {language:?}; there are: {offered}")]
    Language {
        /// Asked for.
        language: String,
        /// Offered, separated by commas.
        offered: String,
    },
    /// The pack does not allow the mode.
    #[error("the pack does not allow {0} conversations")]
    Mode(Mode),
    /// A value is missing or not one line of text.
    #[error("the notice's {0} is missing, contradictory, or not one line of text")]
    Value(&'static str),
}

impl NoticeError {
    /// Stable reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Language { .. } => "NOTICE_LANGUAGE",
            Self::Mode(_) => "MODE_NOT_ALLOWED",
            Self::Value(_) => "NOTICE_VALUE",
        }
    }
}

impl Notice {
    /// The language.
    pub fn language(&self) -> &str {
        &self.language
    }

    /// The text: Markdown.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text's bytes: what key records, disclosures and acknowledgements name.
    pub fn digest(&self) -> Digest {
        Digest::new(Sha256::digest(self.text.as_bytes()).into())
    }
}

impl Pack {
    /// The notice in one language, with the facts filled in. The same values give the same bytes.
    ///
    /// # Errors
    /// When the pack has no notice in the language, does not allow the mode, or a value is missing.
    pub fn notice(&self, language: &str, values: &NoticeValues<'_>) -> Result<Notice, NoticeError> {
        let Some(template) = self.texts().notices.get(language) else {
            return Err(NoticeError::Language {
                language: language.to_owned(),
                offered: self.languages().join(", "),
            });
        };
        let mode = self
            .model
            .modes
            .get(&values.mode)
            .ok_or(NoticeError::Mode(values.mode))?;
        check_values(values)?;
        let template = match (&self.model.private_notice, values.mode) {
            (Some(private), Mode::Private) => &private[language],
            _ => template,
        };
        let text = template::fill(template, |placeholder| match placeholder {
            "tenant" => values.tenant.to_string(),
            "mode" => mode[language].clone(),
            "key_fingerprint" => join(values.key_fingerprints.iter(), ", "),
            "holders" => self.holders(values.holders),
            "threshold" => values.threshold.to_string(),
            "purpose" => self.model.purpose[language].clone(),
            "legal_basis" => self.model.legal_basis[language].clone(),
            "retention" => self.retention(language),
            "approval_minimum" => self.model.approval.minimum().to_string(),
            "approval_roles" => join(
                self.model
                    .approval_titles
                    .iter()
                    .map(|title| &title[language]),
                ", ",
            ),
            "contact" => values.contact.to_owned(),
            "pack" => self.id().to_owned(),
            "pack_digest" => self.digest().to_string(),
            _ => String::new(),
        });
        Ok(Notice {
            language: language.to_owned(),
            text,
        })
    }

    fn holders(&self, holders: &[Holder]) -> String {
        join(
            holders
                .iter()
                .map(|holder| format!("- {}: {}", holder.name, holder.trust_domain)),
            "\n",
        )
    }

    fn retention(&self, language: &str) -> String {
        join(
            self.classes()
                .iter()
                .map(|class| format!("- {}: {}", class.title[language], class.retention[language])),
            "\n",
        )
    }
}

fn check_values(values: &NoticeValues<'_>) -> Result<(), NoticeError> {
    let is_line = |text: &str| !text.trim().is_empty() && !text.contains(char::is_control);
    if !is_line(values.contact) {
        return Err(NoticeError::Value("contact"));
    }
    let valid = |holder: &Holder| is_line(&holder.name) && is_line(&holder.trust_domain);
    if !values.holders.iter().all(valid) {
        return Err(NoticeError::Value("holder"));
    }
    if values.mode == Mode::Private {
        let none = values.key_fingerprints.is_empty() && values.holders.is_empty();
        return if none {
            Ok(())
        } else {
            Err(NoticeError::Value("fingerprint"))
        };
    }
    if values.key_fingerprints.is_empty() {
        return Err(NoticeError::Value("fingerprint"));
    }
    if values.threshold == 0 || values.threshold as usize > values.holders.len() {
        return Err(NoticeError::Value("threshold"));
    }
    Ok(())
}

fn join(items: impl Iterator<Item = impl core::fmt::Display>, separator: &str) -> String {
    let mut out = String::new();
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        // Writing to a string does not fail.
        let _ = write!(out, "{item}");
    }
    out
}
