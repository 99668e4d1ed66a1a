//! Root-signed statements: into the log, into the database, into force.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use greffe_envelope::label::sha256;
use greffe_envelope::pb;
use greffe_envelope::statement::{Signed, Statement as _};
use greffe_envelope::trust::{Applied, Bundle};
use greffe_service_kit::append::AppendError;
use greffe_service_kit::boot::SharedTrust;
use greffe_types::Digest;
use prost::Message as _;

use super::App;
use crate::error::RelayError;
use crate::replicas::{STATEMENT, TOPIC};
use crate::store::statements::{self, StatementRow};

/// What the tenant's clients are given.
#[derive(Debug, Clone, Default)]
pub struct TrustView {
    /// Newest bundle.
    pub bundle: pb::SignedStatement,
    /// Newest disclosure of each mode, with its place in the log.
    pub disclosures: Vec<(pb::SignedStatement, u64)>,
    /// Superseded disclosures, by serial.
    pub superseded: Vec<(pb::SignedStatement, u64)>,
    /// Bundles before the newest, by version.
    pub older_bundles: Vec<pb::SignedStatement>,
    /// Versions of the bundles that are in the log, with their places.
    pub bundle_places: Vec<(u64, u64)>,
    /// Records of every key.
    pub key_records: Vec<(pb::SignedStatement, u64)>,
    /// Every share epoch of each key, in their order.
    pub share_epochs: Vec<(pb::SignedStatement, u64)>,
    /// Retirements of keys.
    pub retirements: Vec<(pb::SignedStatement, u64)>,
}

impl App {
    /// The tenant's trust as clients need it.
    pub fn trust_view(&self) -> TrustView {
        let trust = self.trust.read();
        let index = |digest: &Digest| trust.log_index(digest).unwrap_or_default();
        let mut view = TrustView {
            bundle: trust.bundle().signed().raw().clone(),
            ..TrustView::default()
        };
        let older = trust.older_bundles();
        view.older_bundles = older.map(|bundle| bundle.signed().raw().clone()).collect();
        let bundles = trust.older_bundles().chain([trust.bundle()]);
        let place =
            |bundle: &Arc<Bundle>| Some((bundle.version(), trust.log_index(&bundle.digest())?));
        view.bundle_places = bundles.filter_map(place).collect();
        let mut disclosures: Vec<_> = trust.disclosures().collect();
        disclosures.sort_by_key(|disclosure| {
            let said = disclosure.message();
            (said.mode, said.standing_order.clone(), said.serial)
        });
        let current: HashSet<Digest> = trust.current_disclosures().map(|d| d.digest()).collect();
        for disclosure in disclosures {
            let digest = disclosure.digest();
            let list = if current.contains(&digest) {
                &mut view.disclosures
            } else {
                &mut view.superseded
            };
            list.push((disclosure.signed().raw().clone(), index(&digest)));
        }
        // A key without a disclosure is nobody's yet; one of an old disclosure still opens what was sealed to it.
        let disclosed = trust.disclosures().flat_map(|disclosure| disclosure.keys());
        let mut keys: Vec<Digest> = disclosed.map(|key| *key.key_id()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            if let Some(record) = trust.key_record(&key) {
                let at = index(&record.digest());
                view.key_records.push((record.raw().clone(), at));
            }
            for epoch in trust.share_epoch_statements(&key) {
                let at = index(&epoch.digest());
                view.share_epochs.push((epoch.raw().clone(), at));
            }
            if let Some(retirement) = trust.retirement(&key) {
                let at = index(&retirement.digest());
                view.retirements.push((retirement.raw().clone(), at));
            }
        }
        view
    }

    /// Brings a statement into force: verified, logged, stored, taken in. The same again answers the same.
    ///
    /// # Errors
    /// [`RelayError::Statement`], [`RelayError::StatementType`].
    pub async fn publish(&self, statement: pb::SignedStatement) -> Result<u64, RelayError> {
        self.catch_up().await?;
        let _one = self.publishing.lock().await;
        let digest = sha256(&statement.statement);
        let kind = kind(&statement)?;
        let (checked, known) = {
            let trust = self.trust.read();
            (trust.check(&statement), trust.log_index(&digest))
        };
        match (checked, known) {
            (Err(why), _) => return Err(RelayError::Statement(kind, why)),
            (Ok(Applied::Other), _) => return Err(RelayError::StatementType),
            (Ok(Applied::Known), Some(index)) => return Ok(index),
            // the first bundle is known from its file and still has to be logged
            (Ok(Applied::New | Applied::Known), _) => {}
        }
        let index = self.log_statement(statement.clone()).await?;
        self.take_in(&statement, index).await?;
        Ok(index)
    }

    /// A statement found in the log. What is not validly signed changes nothing; what is being published at the same time is
    /// stored once, and taken in twice is taken in.
    ///
    /// # Errors
    /// The database's.
    pub async fn found_in_log(
        &self,
        statement: &pb::SignedStatement,
        index: u64,
    ) -> Result<(), RelayError> {
        if kind(statement).is_err() {
            return Ok(());
        }
        let checked = {
            let trust = self.trust.read();
            let known = trust.log_index(&sha256(&statement.statement)).is_some();
            trust.check(statement).map(|applied| (applied, known))
        };
        match checked {
            Ok((Applied::New, _) | (Applied::Known, false)) => self.take_in(statement, index).await,
            Ok(_) => Ok(()),
            Err(why) => {
                tracing::warn!(
                    index,
                    kind = statement.r#type,
                    "a statement in the log does not hold and is ignored: {why}"
                );
                Ok(())
            }
        }
    }

    /// Stores a checked, logged statement and takes it into the trust, unless another replica has stored a different one in
    /// its place: one of the two comes into force, the same everywhere.
    async fn take_in(&self, statement: &pb::SignedStatement, index: u64) -> Result<(), RelayError> {
        let row = row(statement, index)?;
        let digest = sha256(&statement.statement);
        self.write("publish_statement", async |conn| {
            if !statements::insert(conn, &self.scope, &digest, &row).await?
                && !statements::is_stored(&mut *conn, &self.scope, &digest).await?
            {
                return Err(RelayError::Conflict);
            }
            let told = [STATEMENT.to_owned()];
            Ok(self.db.notify(conn, TOPIC, told).await?)
        })
        .await?;
        take_in(&self.trust, &row)
    }

    /// Takes in what other replicas have stored. Nothing to do but a count when they have not.
    ///
    /// # Errors
    /// The database's.
    pub async fn catch_up(&self) -> Result<(), RelayError> {
        if !self.db.is_shared() {
            return Ok(());
        }
        let stored = statements::count(self.db.read(), &self.scope).await?;
        if stored == self.known.load(Ordering::Relaxed) {
            return Ok(());
        }
        let stored = statements::all(self.db.read(), &self.scope).await?;
        for row in &stored {
            // Verified by whoever stored it, and again here.
            take_in(&self.trust, row)?;
        }
        self.known.fetch_max(stored.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Appends a signed statement to the log; the same one again gives the same leaf.
    pub(super) async fn log_statement(
        &self,
        statement: pb::SignedStatement,
    ) -> Result<u64, RelayError> {
        let id = sha256(&statement.encode_to_vec());
        self.log(&id, pb::log_entry::Event::Statement(statement))
            .await
    }

    /// Appends an event to the log. `id` names it: the same event again gives the same leaf.
    pub(super) async fn log(
        &self,
        id: &Digest,
        event: pb::log_entry::Event,
    ) -> Result<u64, RelayError> {
        let (id, _) = id.as_bytes().split_at(16);
        let id = id.try_into().map_err(|_| RelayError::Damaged("digest"))?;
        let appended = self.appender.append_event(id, event).await;
        let appended = appended.map_err(|error| match error {
            AppendError::Refused { reason, .. } if reason == "IDEMPOTENCY_CONFLICT" => {
                RelayError::Conflict
            }
            AppendError::Overloaded => RelayError::Busy("too many entries wait for the log"),
            AppendError::Stopped => RelayError::Stopping,
            error => RelayError::Log(error),
        })?;
        Ok(appended.index)
    }
}

/// Takes a stored statement into the trust.
///
/// # Errors
/// When it does not parse, or does not hold under this root.
pub(super) fn take_in(trust: &SharedTrust, row: &StatementRow) -> Result<(), RelayError> {
    let statement = pb::SignedStatement::decode(row.statement.as_slice())
        .map_err(|_| RelayError::Damaged("statement"))?;
    let kind = kind(&statement)?;
    let mut trust = trust.write();
    trust
        // The file may name a newer first bundle by now than the ones that were stored.
        .recall(&statement, row.log_index)
        .map(|_| ())
        .map_err(|why| RelayError::Statement(kind, why))
}

fn kind(statement: &pb::SignedStatement) -> Result<&'static str, RelayError> {
    [
        pb::TrustBundle::TYPE,
        pb::KeyRecord::TYPE,
        pb::ShareEpoch::TYPE,
        pb::Disclosure::TYPE,
        pb::KeyRetirement::TYPE,
    ]
    .into_iter()
    .find(|kind| *kind == statement.r#type)
    .ok_or(RelayError::StatementType)
}

/// As a row: what a later one supersedes, and by which number.
fn row(statement: &pb::SignedStatement, log_index: u64) -> Result<StatementRow, RelayError> {
    let refused = |_| RelayError::Field("statement");
    let (scope, serial) = match kind(statement)? {
        pb::TrustBundle::TYPE => {
            let bundle = Signed::<pb::TrustBundle>::decode(statement.clone()).map_err(refused)?;
            (Vec::new(), bundle.version)
        }
        pb::KeyRecord::TYPE => {
            let record = Signed::<pb::KeyRecord>::decode(statement.clone()).map_err(refused)?;
            (record.key_id.clone(), 0)
        }
        pb::ShareEpoch::TYPE => {
            let epoch = Signed::<pb::ShareEpoch>::decode(statement.clone()).map_err(refused)?;
            (epoch.key_id.clone(), epoch.epoch)
        }
        pb::KeyRetirement::TYPE => {
            let retirement =
                Signed::<pb::KeyRetirement>::decode(statement.clone()).map_err(refused)?;
            (retirement.key_id.clone(), 0)
        }
        _ => {
            let disclosure =
                Signed::<pb::Disclosure>::decode(statement.clone()).map_err(refused)?;
            let mut line = disclosure.mode.to_be_bytes().to_vec();
            line.extend_from_slice(&disclosure.standing_order);
            (line, disclosure.serial)
        }
    };
    Ok(StatementRow {
        kind: statement.r#type.clone(),
        scope,
        serial,
        statement: statement.encode_to_vec(),
        log_index,
    })
}
