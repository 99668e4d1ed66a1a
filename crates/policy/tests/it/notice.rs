//! Notices: in the reader's language or not at all, with every fact, and nothing smuggled in by a value.

use greffe_policy::{Holder, Mode, NoticeError, NoticeValues, Pack};
use greffe_types::{Digest, TenantId};
use sha2::Digest as _;

use crate::support::pack;

struct Facts {
    tenant: TenantId,
    keys: Vec<Digest>,
    holders: Vec<Holder>,
    contact: String,
}

impl Facts {
    fn new() -> Self {
        let holder = |name: &str, trust_domain: &str| Holder {
            name: name.into(),
            trust_domain: trust_domain.into(),
        };
        Self {
            tenant: TenantId::new("acme-bank").expect("a name"),
            keys: vec![Digest::new([0xab; 32])],
            holders: vec![
                holder("escrow-1", "Acme, own cluster"),
                holder("escrow-2", "Notaire & Cie"),
                holder("escrow-3", "Third Party LLC"),
            ],
            contact: "privacy@acme.example".into(),
        }
    }

    fn values(&self, mode: Mode) -> NoticeValues<'_> {
        NoticeValues {
            tenant: &self.tenant,
            mode,
            key_fingerprints: &self.keys,
            holders: &self.holders,
            threshold: 2,
            contact: &self.contact,
        }
    }
}

#[test]
fn every_language_shows_every_fact() {
    let facts = Facts::new();
    for pack in Pack::all_embedded() {
        for language in pack.languages() {
            let notice = pack
                .notice(language, &facts.values(Mode::Journaled))
                .expect("a notice");
            let text = notice.text();
            let purpose = pack.purpose(language).expect("a purpose");
            let digest = pack.digest().to_string();
            for fact in [
                &"ab".repeat(32),
                "acme-bank",
                pack.id(),
                "- escrow-1: Acme, own cluster\n- escrow-2: Notaire & Cie\n- escrow-3: Third Party LLC",
                "privacy@acme.example",
                purpose,
                &digest,
            ] {
                assert!(text.contains(fact), "{} {language}: {fact}", pack.id());
            }
            for class in pack.classes() {
                assert!(text.contains(class.title(language).expect("a title")));
            }
            assert!(
                !text.contains("{{") && !text.contains("<!-- point"),
                "{text}"
            );
            let expected: [u8; 32] = sha2::Sha256::digest(text.as_bytes()).into();
            assert_eq!(notice.digest(), Digest::new(expected));
            assert_eq!(notice.language(), language);
        }
    }
}

#[test]
fn the_approval_rule_and_retention_are_the_packs() {
    let facts = Facts::new();
    let notice = pack("us-broker-dealer")
        .notice("en", &facts.values(Mode::Supervised))
        .expect("a notice");
    assert!(
        notice
            .text()
            .contains("- Complaints: 4 years (3 years as communications")
    );
    assert!(notice.text().contains("At least 2 people"));
    assert!(
        notice
            .text()
            .contains("among them: a registered principal, the compliance department.")
    );
    assert!(
        notice
            .text()
            .contains("Rules: 17 CFR 240.17a-4 (SEC) and FINRA rules 4511 and 4513.")
    );
    assert!(notice.text().contains("mode is supervised: as journaled"));
}

#[test]
fn another_language_or_mode_is_refused_never_replaced() {
    let facts = Facts::new();
    let us = pack("us-broker-dealer");
    assert_eq!(
        us.notice("de", &facts.values(Mode::Journaled)),
        Err(NoticeError::Language {
            language: "de".into(),
            offered: "en, fr".into()
        })
    );
    assert_eq!(
        us.notice("en", &facts.values(Mode::Private)),
        Err(NoticeError::Mode(Mode::Private))
    );
}

#[test]
fn a_private_conversation_has_a_notice_without_a_key() {
    let facts = Facts::new();
    let fr = pack("fr-corporate-archive");
    let mut values = facts.values(Mode::Private);
    assert_eq!(
        fr.notice("fr", &values),
        Err(NoticeError::Value("fingerprint"))
    );
    values.key_fingerprints = &[];
    assert!(fr.notice("fr", &values).is_err(), "it has no holders");
    values.key_fingerprints = &facts.keys;
    values.holders = &[];
    assert!(fr.notice("fr", &values).is_err(), "it has no key");
    values.key_fingerprints = &[];
    let notice = fr.notice("fr", &values).expect("a notice");
    assert!(
        notice
            .text()
            .starts_with("# Information : cette conversation est privée")
    );
    assert!(notice.text().contains("aucune copie de ses clés"));
}

#[test]
fn missing_and_smuggled_values_are_refused() {
    let us = pack("us-broker-dealer");
    let refused = |change: fn(&mut Facts), threshold: u32| {
        let mut facts = Facts::new();
        change(&mut facts);
        let mut values = facts.values(Mode::Journaled);
        values.threshold = threshold;
        us.notice("en", &values).is_err()
    };
    assert!(!refused(|_| (), 2));
    assert!(refused(|_| (), 0));
    assert!(refused(|_| (), 4));
    assert!(refused(|f| f.keys.clear(), 2));
    assert!(refused(|f| f.holders.clear(), 2));
    assert!(refused(|f| f.contact = String::new(), 2));
    assert!(refused(|f| f.contact = "a\n# No archive exists".into(), 2));
    assert!(refused(|f| f.holders[0].trust_domain = " ".into(), 2));
    // A value that looks like a placeholder is shown as it is.
    let mut facts = Facts::new();
    facts.contact = "{{purpose}}".into();
    let notice = us
        .notice("en", &facts.values(Mode::Journaled))
        .expect("a notice");
    assert!(notice.text().contains("Write to: {{purpose}}."));
}

/// Who is told something else has another digest: key, holders, threshold, contact, mode all count.
#[test]
fn every_fact_changes_the_digest() {
    let us = pack("us-broker-dealer");
    let digest = |change: fn(&mut Facts), threshold: u32, mode: Mode| {
        let mut facts = Facts::new();
        change(&mut facts);
        let mut values = facts.values(mode);
        values.threshold = threshold;
        us.notice("en", &values).expect("a notice").digest()
    };
    let digests = [
        digest(|_| (), 2, Mode::Journaled),
        digest(|_| (), 3, Mode::Journaled),
        digest(|_| (), 2, Mode::Supervised),
        digest(|f| f.keys[0] = Digest::new([0xac; 32]), 2, Mode::Journaled),
        digest(
            |f| f.holders[2].trust_domain = "Acme".into(),
            2,
            Mode::Journaled,
        ),
        digest(
            |f| f.contact = "dpo@acme.example".into(),
            2,
            Mode::Journaled,
        ),
    ];
    for (index, one) in digests.iter().enumerate() {
        assert!(!digests[..index].contains(one));
    }
    assert_eq!(digests[0], digest(|_| (), 2, Mode::Journaled));
}
