//! `greffe operator retire`: the draft that ends a journaling key, with the archive's word that nothing is left to be opened.

use std::path::PathBuf;

use clap::Args;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{Bundle, verify_key_unused};
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_types::Digest;
use serde::Serialize;

use super::super::access::AsPerson;
use super::super::form::time;
use crate::fail::{Failure, Result, chain};
use crate::layout::private_folder;
use crate::operator::ceremony::KEY_RECORD;
use crate::operator::file;
use crate::operator::view::View;
use crate::output::{Output, print};

/// File of the draft.
const DRAFT: &str = "retirement.bin";

/// `greffe operator retire`
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  greffe operator retire --key KEY --as registrar --out retired\n\nThen: sign, publish. Every node destroys its shares of the key, for ever. deploy/runbooks/rotate-the-journaling-period.md has\nevery step."
)]
pub(super) struct Retire {
    /// The journaling key.
    #[arg(long, value_name = "KEY")]
    key: Digest,
    /// Folder for the draft, and the key's record that it is judged by.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A records manager, or somebody of the legal department: the archive says it to nobody else.
    #[command(flatten)]
    person: AsPerson,
}

#[derive(Serialize)]
struct Drafted {
    key: Digest,
    period: String,
    ended: String,
    draft: PathBuf,
    digest: String,
    key_record: PathBuf,
}

/// Drafts.
pub(super) async fn run(arguments: &Retire, output: Output) -> Result<()> {
    let people = arguments.person.open().await?;
    let trust = people.client().trust()?;
    let key_id = arguments.key;
    let record = trust.key_record(&key_id).ok_or_else(|| {
        Failure::usage(
            "KEY_UNKNOWN",
            format_args!("no disclosure names the key {key_id}: see `greffe operator nodes`"),
        )
    })?;
    if trust.retirement(&key_id).is_some() {
        return Err(Failure::refused(
            "KEY_RETIRED",
            format_args!("the key {key_id} is retired already"),
        ));
    }
    let mut disclosed = trust
        .current_disclosures()
        .flat_map(|disclosure| disclosure.keys());
    if disclosed.any(|key| *key.key_id() == key_id) {
        return Err(Failure::refused(
            "KEY_DISCLOSED",
            format_args!(
                "a disclosure in force names the key {key_id}: rotate the period first, so that conversations move to the next key"
            ),
        ));
    }
    let unused = people.confirm_key_unused(&key_id).await?;
    let bundles: Vec<&Bundle> = trust
        .older_bundles()
        .chain([trust.bundle()])
        .map(|bundle| &**bundle)
        .collect();
    verify_key_unused(unused.clone(), record, &bundles).map_err(|error| {
        Failure::unverified(
            "NOT_THE_ARCHIVES",
            format_args!(
                "what came back is not the archive's word on this key ({}): see that the connection names the right archive",
                chain(&error)
            ),
        )
    })?;
    let draft = pb::KeyRetirement {
        tenant: record.tenant.clone(),
        key_id: key_id.to_vec(),
        key_record: record.digest().to_vec(),
        at: SystemClock.now().get(),
        unused: Some(unused),
    };
    private_folder(&arguments.out)?;
    let [path, key_record] = [DRAFT, KEY_RECORD].map(|name| arguments.out.join(name));
    let draft = Signed::sign(draft, &[]);
    file::write(&path, draft.raw())?;
    file::write(&key_record, record.raw())?;
    let drafted = Drafted {
        key: key_id,
        period: record.period.clone(),
        ended: time(record.not_after),
        digest: View::new(draft.raw())?.digest,
        draft: path,
        key_record,
    };
    print(output, &drafted, |d| {
        format!(
            "the archive holds nothing of key {} (period {}, ended {})\n\
             its retirement is drafted in {}, digest {}: once the root has signed it, with --key-record {}, and it is published, every share \
             is destroyed and nothing brings one back",
            d.key,
            d.period,
            d.ended,
            d.draft.display(),
            d.digest,
            d.key_record.display()
        )
    })
}
