//! Acts of people: verified, permitted, done in one transaction with their log entries, answered once those are in the log.
//!
//! The first signer asks; whom else an act needs is the pack's to say. An act that comes again is a retry: it is answered by
//! what its first use did.

mod dispose;
mod holds;
mod retention;

use greffe_api::archive as api;
use greffe_envelope::pb::log_entry::Event;
use greffe_policy::{AccessRules, Pack};
use greffe_service_kit::db::Connection;
use greffe_service_kit::errors::ServiceError;
use greffe_types::MatterId;

use super::Person;
use super::refusal::{
    self, ACT_NONCE_REUSED, ACT_UNKNOWN, MATTER_CLOSED, MATTER_EXISTS, MATTER_UNKNOWN,
    PACK_UNKNOWN, field, require,
};
use super::signers::{Acts, SignedAct};
use crate::app::{App, News};
use crate::error::ArchiveError;
use crate::store::matters::{self, Matter};
use crate::store::{acts, outbox};

/// Longest name of a matter.
const MAX_NAME: usize = 200;
/// Longest reason of an act.
const MAX_REASON: usize = 1000;

/// Performs an act.
pub(crate) async fn act(
    app: &App,
    person: &Person,
    request: api::ActRequest,
) -> Result<api::ActResponse, ArchiveError> {
    let acts = Acts::verify(request.acts, &app.bundle(), &person.name, app.now())?;
    let asker = &acts.asker().signer;
    let _asks = AccessRules::embedded()
        .check_act(acts.action(), &asker.person, &asker.roles)
        .map_err(|error| refusal::access(&error))?;
    let append = match acts.action() {
        "matter.create" => create_matter(app, &acts).await?,
        "matter.close" => close_matter(app, &acts).await?,
        "hold.place" => holds::place(app, &acts).await?,
        "hold.release" => holds::release(app, &acts).await?,
        "retention.extend" => retention::extend(app, &acts).await?,
        "record.dispose" => dispose::dispose(app, &acts).await?,
        _ => return Err(ACT_UNKNOWN.refuse().into()),
    };
    let logged = app.logged(&append).await?;
    Ok(api::ActResponse {
        log_index: logged.index,
    })
}

async fn create_matter(app: &App, acts: &Acts) -> Result<[u8; 16], ArchiveError> {
    let asker = acts.only()?;
    let about: api::MatterAct = acts.about()?;
    let matter = matter_id(&about.matter)?;
    require(
        (1..=MAX_NAME).contains(&about.name.len()) && !about.name.contains(char::is_control),
        "act.name",
    )?;
    app.write_and_wake("matter_create", &[News::Outbox], async |conn| {
        if let Some(append) = retried(app, conn, acts).await? {
            return Ok(append);
        }
        let by = (asker.signer.person.as_str(), app.now().get());
        if !matters::create(conn, &app.scope, &matter, &about.name, by).await? {
            return Err(MATTER_EXISTS.refuse().into());
        }
        done(app, conn, acts).await
    })
    .await
}

async fn close_matter(app: &App, acts: &Acts) -> Result<[u8; 16], ArchiveError> {
    acts.only()?;
    let about: api::MatterAct = acts.about()?;
    let matter = matter_id(&about.matter)?;
    app.write_and_wake("matter_close", &[News::Outbox], async |conn| {
        if let Some(append) = retried(app, conn, acts).await? {
            return Ok(append);
        }
        let known = known_matter(app, conn, &matter).await?;
        require(
            about.name.is_empty() || about.name == known.name,
            "act.name",
        )?;
        if !matters::close(conn, &app.scope, &matter, app.now().get()).await? {
            return Err(MATTER_CLOSED.refuse().into());
        }
        done(app, conn, acts).await
    })
    .await
}

/// A matter that exists.
async fn known_matter(
    app: &App,
    conn: &mut Connection,
    matter: &MatterId,
) -> Result<Matter, ArchiveError> {
    Ok(matters::get(conn, &app.scope, matter)
        .await?
        .ok_or_else(|| MATTER_UNKNOWN.refuse())?)
}

/// A matter that takes holds and orders.
pub(crate) async fn open_matter(
    app: &App,
    conn: &mut Connection,
    matter: &MatterId,
) -> Result<(), ArchiveError> {
    if known_matter(app, conn, matter).await?.is_open() {
        Ok(())
    } else {
        Err(MATTER_CLOSED.refuse().into())
    }
}

/// The append that answers acts that were done before; none when they are new.
async fn retried(
    app: &App,
    conn: &mut Connection,
    acts: &Acts,
) -> Result<Option<[u8; 16]>, ArchiveError> {
    let asker = acts.asker();
    let Some((digest, append)) = acts::done(conn, &app.scope, &asker.nonce).await? else {
        return Ok(None);
    };
    if digest != asker.signed.digest().as_bytes() {
        return Err(ACT_NONCE_REUSED.refuse().into());
    }
    let append = append
        .try_into()
        .map_err(|_| ArchiveError::Damaged("an act's append id"))?;
    Ok(Some(append))
}

/// Remembers the acts and tells the log of each of them; the last entry answers.
async fn done(app: &App, conn: &mut Connection, acts: &Acts) -> Result<[u8; 16], ArchiveError> {
    let mut last = None;
    for act in acts.all() {
        let id = outbox::append_id("person-act", &[act.signed.digest().as_bytes()]);
        let event = Event::Statement(act.signed.raw().clone());
        outbox::put(conn, &app.scope, &id, event, None).await?;
        last = Some(id);
    }
    let append = last.ok_or(ArchiveError::Damaged("acts without a person"))?;
    remember(app, conn, acts.all(), &append).await?;
    Ok(append)
}

/// Remembers acts by their nonces, with the append that answers them.
async fn remember(
    app: &App,
    conn: &mut Connection,
    people: &[SignedAct],
    append: &[u8; 16],
) -> Result<(), ArchiveError> {
    for act in people {
        let digest = act.signed.digest();
        if !acts::remember(conn, &app.scope, &act.nonce, &digest, append).await? {
            return Err(ACT_NONCE_REUSED.refuse().into());
        }
    }
    Ok(())
}

/// The packs that the trust bundle names and the archive has: what binds the tenant binds every act of it.
fn tenant_packs(app: &App) -> Result<Vec<Pack>, ServiceError> {
    let bundle = app.bundle();
    let packs = bundle
        .message()
        .packs
        .iter()
        .map(|named| {
            app.packs
                .get(&named.digest)
                .cloned()
                .ok_or_else(|| PACK_UNKNOWN.refuse().with("pack", &named.id))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if packs.is_empty() {
        return Err(PACK_UNKNOWN.refuse());
    }
    Ok(packs)
}

fn matter_id(bytes: &[u8]) -> Result<MatterId, ServiceError> {
    MatterId::try_from(bytes).map_err(|_| field("act.matter"))
}

fn reason(text: &str) -> Result<(), ServiceError> {
    require((1..=MAX_REASON).contains(&text.len()), "act.reason")
}
