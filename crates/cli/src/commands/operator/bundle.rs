//! `greffe operator bundle`: drafts of the trust bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_policy::Pack;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_service_kit::prepare::Prepared;
use greffe_types::TenantId;
use serde::Serialize;

use super::super::form::one_line;
use super::edit::{self, Edit};
use crate::fail::{Failure, Result};
use crate::layout::{read_text, write_whole};
use crate::operator::draft::{Draft, Person};
use crate::operator::view::View;
use crate::operator::{BundleParts, bundle, certificate_der, read_public, read_root};
use crate::output::{Output, print};
use crate::up::unknown_pack;

/// `greffe operator bundle`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe operator bundle new --help")]
pub(super) struct BundleArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one is parsed a process")]
enum What {
    /// Draft the first bundle of a tenant from the public halves that services and people sent.
    New(New),
    /// Draft the next bundle from the one in force: people come and go, a node is replaced, a certificate revoked.
    Edit(Edit),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  greffe operator bundle new --root root.pub --next-root next-root.pub --issuer issuer.pub --authority ca.crt \\\n    --service relay.json --service archive.json --service audit.json \\\n    --service escrow-1.json --service escrow-2.json --service escrow-3.json \\\n    --trust-domain 'escrow-1=Notary Ltd' --trust-domain 'escrow-2=Trust AG' --trust-domain 'escrow-3=ourselves' \\\n    --person rita.toml --person carl.toml --person eve.toml --pack us-broker-dealer \\\n    --contact 'compliance, compliance@acme.example' --out bundle.toml"
)]
struct New {
    /// The root's public line.
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// The next root's public line.
    #[arg(long, value_name = "FILE")]
    next_root: PathBuf,
    /// The device issuer's public line.
    #[arg(long, value_name = "FILE")]
    issuer: PathBuf,
    /// Certificate of the authority of the services' TLS certificates, PEM; may be repeated.
    #[arg(long, value_name = "FILE", required = true)]
    authority: Vec<PathBuf>,
    /// What a service's `--prepare` printed; one for each of relay, archive, audit, and every escrow node.
    #[arg(long, value_name = "FILE", required = true)]
    service: Vec<PathBuf>,
    /// Whose domain a node stands in, as notices name its holder: `escrow-1=Notary Ltd`. May be repeated.
    #[arg(long, value_name = "NODE=TEXT", value_parser = pair)]
    trust_domain: Vec<(String, String)>,
    /// A person's public file; may be repeated.
    #[arg(long, value_name = "FILE")]
    person: Vec<PathBuf>,
    /// Policy pack; the first is in force, others may be named too.
    #[arg(long, value_name = "ID", required = true)]
    pack: Vec<String>,
    /// Whom notices tell members to ask: a name and an address.
    #[arg(long)]
    contact: String,
    /// File for the draft, `.toml`.
    #[arg(long, value_name = "FILE", value_parser = draft_file)]
    out: PathBuf,
}

/// What was drafted.
#[derive(Serialize)]
struct Drafted {
    draft: PathBuf,
    version: u64,
    digest: String,
}

/// Drafts.
pub(super) fn run(arguments: BundleArguments, output: Output) -> Result<()> {
    match arguments.what {
        What::New(new) => {
            let drafted = make(&new)?;
            finish(&new.out, &drafted, output)
        }
        What::Edit(edit) => {
            let drafted = edit::make(&edit)?;
            finish(&edit.out, &drafted, output)
        }
    }
}

fn finish(out: &Path, bundle: &pb::TrustBundle, output: Output) -> Result<()> {
    write_whole(out, Draft::new(bundle).text()?.as_bytes())?;
    let view = View::new(Signed::sign(bundle.clone(), &[]).raw())?;
    let drafted = Drafted {
        draft: out.to_owned(),
        version: bundle.version,
        digest: view.digest,
    };
    print(output, &drafted, |d| {
        format!(
            "trust bundle {} is drafted in {}, digest {}\nnothing of it is in force before the root has signed it",
            d.version,
            d.draft.display(),
            d.digest
        )
    })
}

fn make(new: &New) -> Result<pb::TrustBundle> {
    let root = read_root(&new.root)?;
    let tenant = root.tenant();
    let next = read_root(&new.next_root)?;
    if next.tenant() != tenant || next.as_bytes() == root.as_bytes() {
        return Err(Failure::refused(
            "NEXT_ROOT",
            "the next root has to be another key of the same tenant: name next-root.pub, which `greffe operator init` wrote beside root.pub",
        ));
    }
    let mut services = BTreeMap::new();
    for path in &new.service {
        let prepared = prepared(path, tenant)?;
        if services
            .insert(prepared.service.clone(), prepared)
            .is_some()
        {
            return Err(Failure::usage(
                "SERVICE_KEYS",
                format_args!("{} is of a service that was named before", path.display()),
            ));
        }
    }
    // It signs nothing, but a tenant without one cannot be reached.
    if !services.contains_key("relay") {
        return Err(Failure::usage(
            "SERVICE_KEYS",
            "relay is missing: name the file that its --prepare printed",
        ));
    }
    let packs = new
        .pack
        .iter()
        .map(|id| pack(id))
        .collect::<Result<Vec<_>>>()?;
    let parts = BundleParts {
        tenant,
        next_root: *next.as_bytes(),
        issuer: read_public(&new.issuer, "issuer", tenant)?,
        tls_authorities: authorities(&new.authority)?,
        services: &services,
        trust_domains: &new.trust_domain.iter().cloned().collect(),
        roster: new
            .person
            .iter()
            .map(|path| person(path))
            .collect::<Result<_>>()?,
        packs: &packs,
        contact: &new.contact,
        development: false,
    };
    bundle(parts, SystemClock.now())
}

/// What a service of this tenant prepared.
pub(super) fn prepared(path: &Path, tenant: &TenantId) -> Result<Prepared> {
    let prepared: Prepared = serde_json::from_str(&read_text(path)?).map_err(|error| {
        Failure::usage(
            "SERVICE_KEYS",
            format_args!(
                "{} is not what `greffe serve --prepare` prints: {error}",
                path.display()
            ),
        )
    })?;
    if !prepared
        .spiffe_id
        .starts_with(&format!("spiffe://{tenant}/"))
    {
        return Err(Failure::refused(
            "WRONG_TENANT",
            format_args!(
                "{} was prepared as {}, not for tenant {tenant}",
                path.display(),
                one_line(&prepared.spiffe_id)
            ),
        ));
    }
    Ok(prepared)
}

/// A person's public file.
pub(super) fn person(path: &Path) -> Result<pb::Person> {
    let wrong = |why: &str| {
        Failure::usage(
            "PERSON_FILE",
            format_args!(
                "{} is not what `greffe operator person` writes ({why}): have it sent again",
                path.display()
            ),
        )
    };
    let person: Person =
        toml::from_str(&read_text(path)?).map_err(|error| wrong(error.message()))?;
    person.parse().map_err(wrong)
}

/// A policy pack of this program.
pub(super) fn pack(id: &str) -> Result<&'static Pack> {
    Pack::embedded(id).ok_or_else(|| unknown_pack(id))
}

/// Certificates of TLS authorities, DER.
pub(super) fn authorities(files: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let read = files.iter().map(|path| certificate_der(&read_text(path)?));
    read.collect()
}

/// `NODE=TEXT`.
pub(super) fn pair(text: &str) -> core::result::Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "it has to be NODE=TEXT".to_owned())
}

/// The ending says that it is text.
pub(super) fn draft_file(text: &str) -> core::result::Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.extension().is_some_and(|end| end == "toml") {
        Ok(path)
    } else {
        Err("a draft's name has to end in .toml".to_owned())
    }
}
