//! The first start: root, node keys, bundle, services, key generation, record, disclosures, in that order.

use core::time::Duration;
use std::collections::BTreeMap;
use std::process::Stdio;

use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::{Bundle, ROOT};
use greffe_policy::Pack;
use greffe_service_kit::clock::{Clock as _, SystemClock};
use greffe_service_kit::prepare::Prepared;
use greffe_service_kit::tls::SpiffeId;
use greffe_types::{Millis, TenantId};
use prost::Message as _;
use tokio::process::Command;

use super::children::{Children, service_kind};
use super::{Marker, Stores, config};
use crate::connection;
use crate::fail::{Failure, Result, chain};
use crate::layout::{Layout, SERVICES, private_folder, write, write_secret};
use crate::operator::ceremony::{Ceremony, Wanted, descriptor};
use crate::operator::disclose::{Disclosed, disclosures};
use crate::operator::network::Network;
use crate::operator::{self, BundleParts, Operator, PERSONS, is_node};
use crate::output::narrate;

/// What a first start is told.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The tenant's name.
    pub(crate) tenant: TenantId,
    /// Id of the policy pack.
    pub(crate) pack: String,
    /// Whom members may ask.
    pub(crate) contact: String,
    /// Where services keep what they write; none for SQLite and folders.
    pub(crate) stores: Option<Stores>,
}

/// The application that `greffe` itself is.
pub(crate) const APP: &str = "greffe";

/// How long a key generation may take.
const CEREMONY_WITHIN: Duration = Duration::from_secs(600);
/// How long a journaling key serves.
const PERIOD: Duration = Duration::from_secs(366 * 86_400);

/// Sets a new folder up and leaves its services running.
pub(super) async fn set_up(
    layout: &Layout,
    options: &Options,
    children: &mut Children,
) -> Result<Marker> {
    let pack = Pack::embedded(&options.pack).ok_or_else(|| unknown_pack(&options.pack))?;
    let now = SystemClock.now();
    let operator = Operator::create(&layout.operator(), options.tenant.clone())?;
    write(
        &layout.root_key(),
        format!("{}\n", operator.root_key()?).as_bytes(),
    )?;
    let roster = roster(layout, now)?;

    narrate(format_args!("each service makes its own keys"));
    let stores = Stores::of(layout, options.stores.as_ref(), true)?;
    config::write_all(layout, &options.tenant, &stores)?;
    let mut services = BTreeMap::new();
    for service in SERVICES {
        let prepared = prepare(layout, service).await?;
        certify(layout, &operator, service, &prepared)?;
        services.insert(service.to_owned(), prepared);
    }
    let nodes = SERVICES.into_iter().filter(|service| is_node(service));
    let here = nodes.map(|node| (node.to_owned(), "this machine (development)".to_owned()));
    let parts = BundleParts {
        tenant: &operator.tenant,
        next_root: operator.next_root.verifying_key().to_bytes(),
        issuer: operator.issuer.verifying_key().to_bytes(),
        tls_authorities: vec![operator.authority.der()?],
        services: &services,
        trust_domains: &here.collect(),
        roster,
        packs: &[pack],
        contact: &options.contact,
        development: true,
    };
    let bundle = Signed::sign(operator::bundle(parts, now)?, &[(ROOT, &operator.root)]);
    for service in SERVICES {
        write(
            &layout.service(service).join("bundle.bin"),
            &bundle.raw().encode_to_vec(),
        )?;
    }
    enrol_app(layout, &operator, APP)?;

    children.start(&stores.processes()).await?;
    narrate(format_args!(
        "audit, three escrow nodes, archive and relay are running"
    ));
    let verified = Bundle::verify(bundle, &operator.root_key()?)
        .map_err(|error| Failure::because("TRUST_BUNDLE", "the trust bundle is refused", &error))?;
    bring_into_force(layout, &operator, pack, &verified, now).await?;

    let marker = Marker {
        layout: 1,
        tenant: options.tenant.clone(),
        pack: pack.id().to_owned(),
        development: true,
    };
    let text = serde_json::to_vec_pretty(&marker)
        .map_err(|error| Failure::because("MARKER", "greffe.json cannot be written", &error))?;
    write(&layout.complete(), &text)?;
    Ok(marker)
}

/// Publishes the bundle, has the nodes make the journaling key, publishes it and what discloses it.
async fn bring_into_force(
    layout: &Layout,
    operator: &Operator,
    pack: &Pack,
    bundle: &Bundle,
    now: Millis,
) -> Result<()> {
    let network = Network::new(connection::open(layout, APP)?);
    publish(&network, bundle.signed().raw(), bundle).await?;
    narrate(format_args!(
        "the escrow nodes generate the journaling key; nobody ever holds it"
    ));
    let wanted = descriptor(Wanted {
        bundle: bundle.message(),
        pack,
        period: None,
        not_before: now.minus(Duration::from_secs(60)),
        serves: PERIOD,
        threshold: 2,
        expiry: now.plus(CEREMONY_WITHIN),
    })?;
    let by_root = [(ROOT, &operator.root)];
    let wanted = Signed::sign(wanted, &by_root);
    let ceremony = Ceremony::begin(&layout.operator().join("ceremony"), wanted.raw())?;
    let mut made = ceremony.run(&network, bundle, now).await?;
    narrate(format_args!(
        "journaling key {} is shared {} of {}",
        made.key_id,
        made.threshold,
        bundle.message().nodes.len()
    ));
    made.record.add_signature(ROOT, &operator.root);
    for statement in [made.record.raw(), made.epoch.raw()] {
        publish(&network, statement, bundle).await?;
    }
    let disclosed = Disclosed {
        bundle,
        pack,
        record: made.record.raw(),
        epoch: made.epoch.message(),
        serial: 1,
    };
    for disclosure in disclosures(&disclosed)? {
        let disclosure = Signed::sign(disclosure, &by_root);
        publish(&network, disclosure.raw(), bundle).await?;
    }
    Ok(())
}

/// Publishes a statement, and waits for every node: all of them stand on this machine.
async fn publish(
    network: &Network,
    statement: &pb::SignedStatement,
    bundle: &Bundle,
) -> Result<()> {
    let index = network.publish(statement).await?;
    let missing = network.activate(statement, index, bundle.message()).await;
    missing
        .into_iter()
        .next()
        .map_or(Ok(()), |(_, why)| Err(why))
}

/// No such pack: says which there are.
pub(crate) fn unknown_pack(id: &str) -> Failure {
    let known: Vec<&str> = Pack::all_embedded().iter().map(Pack::id).collect();
    Failure::usage(
        "UNKNOWN_PACK",
        format_args!("no policy pack {id:?}; there are: {}", known.join(", ")),
    )
}

fn roster(layout: &Layout, now: Millis) -> Result<Vec<pb::Person>> {
    let from = now.minus(Duration::from_secs(60));
    let until = operator::valid_until(now);
    PERSONS
        .iter()
        .map(|person| person.create(&layout.person(person.name), from, until))
        .collect()
}

/// Has a service make its keys, in a process of its own, and say their public halves.
async fn prepare(layout: &Layout, service: &'static str) -> Result<Prepared> {
    let failed = |why: String| {
        Failure::failed(
            "SERVICE_KEYS",
            format_args!("{service} could not make its keys: {why}"),
        )
    };
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let output = Command::new(program)
        .arg("serve")
        .arg(service_kind(service))
        .arg("--config")
        .arg(layout.service(service).join("config.toml"))
        .arg("--prepare")
        .arg(service)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(chain(&error)))
}

fn certify(layout: &Layout, operator: &Operator, service: &str, prepared: &Prepared) -> Result<()> {
    let id = SpiffeId::service(&operator.tenant, service)
        .map_err(|error| Failure::because("SERVICE_NAME", "a service has no valid name", &error))?;
    let files = config::tls_files(&layout.service(service));
    write(
        &files.cert,
        operator
            .authority
            .certify(&prepared.csr_pem, &id)?
            .as_bytes(),
    )?;
    write(&files.ca, operator.authority.pem().as_bytes())
}

/// Gives an application a TLS identity and a file that says where the services are.
pub(crate) fn enrol_app(layout: &Layout, operator: &Operator, name: &str) -> Result<()> {
    let id = SpiffeId::app(&operator.tenant, name).map_err(|error| {
        Failure::because("APP_NAME", "the application has no valid name", &error)
    })?;
    let folder = layout.app(name);
    private_folder(&folder)?;
    let files = config::tls_files(&folder);
    let tls = operator.authority.issue(&id)?;
    write_secret(&files.key, tls.key.as_bytes())?;
    write(&files.cert, tls.cert.as_bytes())?;
    write(&files.ca, tls.ca.as_bytes())?;
    connection::write(layout, name, &operator.tenant)
}
