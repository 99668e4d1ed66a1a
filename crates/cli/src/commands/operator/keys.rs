//! Keys of people, and certificates for those who have no authority of their own.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use greffe_envelope::trust::ROLES;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_service_kit::prepare::{Prepared, prepare_tls};
use greffe_service_kit::tls::SpiffeId;
use greffe_types::TenantId;
use rcgen::{CertificateSigningRequestParams, SanType};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::super::form::{duration, hex};
use crate::fail::{Failure, Result};
use crate::layout::{private_folder, read_text, write};
use crate::operator::draft::Person;
use crate::operator::{Authority, entry, make_authority, make_issuer, make_root};
use crate::output::{Output, print};

/// A person's public file, in their folder.
const PERSON_FILE: &str = "person.toml";

/// What of an operator's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Root and next root: on a machine that is never online. Keep the next root apart from the root.
    Root,
    /// Device issuer: where devices are certified.
    Issuer,
    /// TLS authority, for a tenant that has none.
    Authority,
}

/// `greffe operator init`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe operator init ./root --tenant acme --part root\n  greffe operator init ./issuer --tenant acme --part issuer"
)]
pub(super) struct Init {
    /// Folder for the keys, made for its owner alone. Keys that are there already are never replaced.
    folder: PathBuf,
    /// Tenant: 1 to 63 characters of a-z, 0-9 and '-'.
    #[arg(long, value_parser = tenant)]
    tenant: TenantId,
    /// Which keys; may be repeated. Each belongs on a machine of its own.
    #[arg(long, value_enum, required = true)]
    part: Vec<Part>,
}

#[derive(Serialize)]
struct Made {
    tenant: TenantId,
    folder: PathBuf,
    /// What was made, with the fingerprint (SHA-256) of each public half.
    keys: Vec<Fingerprint>,
}

#[derive(Serialize)]
struct Fingerprint {
    key: &'static str,
    fingerprint: String,
}

impl Fingerprint {
    fn new(key: &'static str, public: &[u8]) -> Self {
        Self {
            key,
            fingerprint: hex(&Sha256::digest(public)),
        }
    }
}

/// Reads a tenant's name.
pub(super) fn tenant(text: &str) -> core::result::Result<TenantId, String> {
    TenantId::new(text).map_err(|error| error.to_string())
}

/// Makes keys.
pub(super) fn init(arguments: &Init, output: Output) -> Result<()> {
    let (folder, tenant) = (&arguments.folder, &arguments.tenant);
    let mut keys = Vec::new();
    for part in &arguments.part {
        match part {
            Part::Root => {
                let [root, next] = make_root(folder, tenant)?;
                keys.push(Fingerprint::new("root", root.as_bytes()));
                keys.push(Fingerprint::new("next root", next.as_bytes()));
            }
            Part::Issuer => {
                let issuer = make_issuer(folder, tenant)?;
                keys.push(Fingerprint::new("device issuer", &issuer));
            }
            Part::Authority => {
                let authority = make_authority(folder, tenant)?;
                keys.push(Fingerprint::new("TLS authority", &authority.der()?));
            }
        }
    }
    let made = Made {
        tenant: tenant.clone(),
        folder: folder.clone(),
        keys,
    };
    print(output, &made, |made| {
        let line = |key: &Fingerprint| format!("{:<14} {}\n", key.key, key.fingerprint);
        let lines: String = made.keys.iter().map(line).collect();
        format!(
            "keys of tenant {} in {}\n{lines}",
            made.tenant,
            made.folder.display()
        )
    })
}

/// `greffe operator person`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe operator person rita --role approver --out ./rita\n  greffe operator person eve --role reader --out ./eve"
)]
pub(super) struct PersonNew {
    /// Name in the roster.
    name: String,
    /// Role; may be repeated: administrator, approver, auditor, compliance, legal, reader, records-manager, requester.
    #[arg(long, required = true)]
    role: Vec<String>,
    /// Folder of the person's keys, new, on the person's own machine. `person.toml` in it is what is sent to the operator.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How long the person may act, such as 365d.
    #[arg(long, value_parser = duration, default_value = "1095d")]
    serves: core::time::Duration,
}

#[derive(Serialize)]
struct PersonMade {
    name: String,
    roles: Vec<String>,
    fingerprint: String,
    send: PathBuf,
}

/// Makes a person's keys.
pub(super) fn person(arguments: &PersonNew, output: Output) -> Result<()> {
    if let Some(role) = arguments
        .role
        .iter()
        .find(|role| !ROLES.contains(&role.as_str()))
    {
        return Err(Failure::usage(
            "ROLE_UNKNOWN",
            format_args!("there is no role {role:?}; there are: {}", ROLES.join(", ")),
        ));
    }
    let now = SystemClock.now();
    let from = now.minus(core::time::Duration::from_secs(60));
    let until = now.plus(arguments.serves);
    let (out, name) = (&arguments.out, &arguments.name);
    let person = entry(out, name, arguments.role.clone(), from, until)?;
    let text = toml::to_string(&Person::new(&person))
        .map_err(|error| Failure::because("DRAFT", "the entry cannot be written", &error))?;
    let send = out.join(PERSON_FILE);
    write(&send, text.as_bytes())?;
    let made = PersonMade {
        name: name.clone(),
        roles: person.roles,
        fingerprint: hex(&Sha256::digest(&person.signing_key)),
        send,
    };
    print(output, &made, |made| {
        format!(
            "{} ({}), signing key {}\nsend {} to the operator, and compare the fingerprint over another channel",
            made.name,
            made.roles.join(", "),
            made.fingerprint,
            made.send.display()
        )
    })
}

/// `greffe operator app`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe operator app desk --tenant acme --out ./desk")]
pub(super) struct App {
    /// Name of the application.
    name: String,
    /// Tenant.
    #[arg(long, value_parser = tenant)]
    tenant: TenantId,
    /// Folder for `tls.key` and the request `tls.csr`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Requested {
    name: String,
    request: PathBuf,
}

/// Makes an application's TLS key and the request for its certificate.
pub(super) fn app(arguments: &App, output: Output) -> Result<()> {
    let id = SpiffeId::app(&arguments.tenant, &arguments.name).map_err(|error| {
        Failure::because("APP_NAME", "the application has no valid name", &error)
    })?;
    let out = std::path::absolute(&arguments.out)
        .map_err(|error| Failure::io("find", &arguments.out, &error))?;
    private_folder(&out)?;
    let csr = prepare_tls(&out.join("tls.key"), &id)
        .map_err(|error| Failure::because(error.reason(), "no request can be made", &error))?;
    let request = arguments.out.join("tls.csr");
    write(&request, csr.as_bytes())?;
    let made = Requested {
        name: id.to_string(),
        request,
    };
    print(output, &made, |made| {
        format!("request for {} in {}", made.name, made.request.display())
    })
}

/// `greffe operator certify`
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  greffe operator certify relay.json --tenant acme --name service/relay --authority ./ca --out tls.crt\n  greffe operator certify desk/tls.csr --tenant acme --name app/desk --authority ./ca --out desk/tls.crt"
)]
pub(super) struct Certify {
    /// What `greffe serve --prepare` printed, or a request in PEM, with exactly one `spiffe://` name.
    request: PathBuf,
    /// Tenant, which the name has to be of.
    #[arg(long, value_parser = tenant)]
    tenant: TenantId,
    /// Who it is for: service/NAME or app/NAME. A request for any other name is refused, since whoever wrote the request would
    /// otherwise choose what they may do.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Folder of the TLS authority.
    #[arg(long, value_name = "DIR")]
    authority: PathBuf,
    /// File for the certificate.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Certified {
    name: String,
    certificate: PathBuf,
}

/// Certifies a request.
pub(super) fn certify(arguments: &Certify, output: Output) -> Result<()> {
    let path = &arguments.request;
    let expected: SpiffeId = format!("spiffe://{}/{}", arguments.tenant, arguments.name)
        .parse()
        .map_err(|_| {
            Failure::usage(
                "CERTIFY_NAME",
                format_args!(
                    "--name {:?} has to be service/NAME or app/NAME",
                    arguments.name
                ),
            )
        })?;
    let text = read_text(path)?;
    let csr = match serde_json::from_str::<Prepared>(&text) {
        Ok(prepared) => prepared.csr_pem,
        Err(_) => text,
    };
    let refused = |why: &str| {
        Failure::refused(
            "REQUEST_REFUSED",
            format_args!(
                "{} {why}: it has to ask for exactly one name, spiffe://{}/service/NAME or spiffe://{1}/app/NAME",
                path.display(),
                arguments.tenant
            ),
        )
    };
    let request = CertificateSigningRequestParams::from_pem(&csr)
        .map_err(|_| refused("is no certificate request"))?;
    let names = &request.params.subject_alt_names;
    let mut uris = names.iter().filter_map(|name| match name {
        SanType::URI(uri) => Some(uri.as_str()),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        return Err(refused("names nobody, or several"));
    };
    let id: SpiffeId = uri
        .parse()
        .map_err(|_| refused("asks for a name that is none of ours"))?;
    if *id.tenant() != arguments.tenant {
        return Err(Failure::refused(
            "WRONG_TENANT",
            format_args!(
                "{} asks for {id}, which is not of tenant {}",
                path.display(),
                arguments.tenant
            ),
        ));
    }
    if id != expected {
        return Err(Failure::refused(
            "NAME_MISMATCH",
            format_args!(
                "{} asks for {id}, and it is to be certified as {expected}: find out who wrote the request; nothing is certified",
                path.display()
            ),
        ));
    }
    let authority = Authority::load(&arguments.authority)?;
    write(&arguments.out, authority.certify(&csr, &id)?.as_bytes())?;
    let made = Certified {
        name: id.to_string(),
        certificate: arguments.out.clone(),
    };
    print(output, &made, |made| {
        format!(
            "{} is certified in {}",
            made.name,
            made.certificate.display()
        )
    })
}
