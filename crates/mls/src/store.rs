//! The write buffer between the library's synchronous storage and the caller's transaction.
//!
//! Nothing here reaches a disk. The library writes into `staged`; the caller persists those rows together with its
//! outbox in one transaction and then says so, or discards them.

use core::convert::Infallible;
use core::fmt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use greffe_types::ConversationId;
use mls_rs::{GroupStateStorage, KeyPackageStorage, PreSharedKeyStorage};
use mls_rs_codec::{MlsDecode, MlsEncode};
use mls_rs_core::error::IntoAnyError;
use mls_rs_core::group::{EpochRecord, GroupState};
use mls_rs_core::key_package::KeyPackageData;
use mls_rs_core::psk::{ExternalPskId, PreSharedKey};
use zeroize::Zeroizing;

/// Which table a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// A conversation's MLS state without its tree, keyed by conversation id; written by every operation.
    Group,
    /// A conversation's ratchet tree, keyed by conversation id; written when the epoch changes.
    Tree,
    /// A key package's secrets, keyed by its reference; deleted when used, unless of last resort.
    KeyPackage,
    /// Disclosures seen, keyed by scope, serial and digest: never updated, so conversations do not overwrite each other's.
    /// One client has a few.
    Disclosure,
}

impl Table {
    /// Its name in a database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Group => "mls_group",
            Self::Tree => "mls_tree",
            Self::KeyPackage => "mls_key_package",
            Self::Disclosure => "mls_disclosure",
        }
    }

    /// The table of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Group, Self::Tree, Self::KeyPackage, Self::Disclosure]
            .into_iter()
            .find(|table| table.name() == name)
    }
}

/// Where a row is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// Its table.
    pub table: Table,
    /// Its key in the table: at most a few hundred bytes.
    pub key: Vec<u8>,
}

impl RowKey {
    pub(crate) fn new(table: Table, key: impl Into<Vec<u8>>) -> Self {
        let key = key.into();
        Self { table, key }
    }

    /// The rows that `Client::load` wants, besides all of `Table::Disclosure`.
    pub fn of_conversation(id: ConversationId) -> [Self; 2] {
        [Table::Group, Table::Tree].map(|table| Self::new(table, *id.as_bytes()))
    }
}

/// A stored row. Its value is secret: seal it at rest.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// Where it is.
    pub key: RowKey,
    /// What it holds.
    pub value: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({:?}, {} bytes)", self.key, self.value.len())
    }
}

type Staged = BTreeMap<RowKey, Option<Zeroizing<Vec<u8>>>>;

/// Everything that changed since the last time the caller said `persisted`: write it in one transaction with whatever
/// was produced, before sending or acknowledging anything.
#[must_use = "persist it in one transaction with the outbox, then call persisted(); or call discard()"]
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StateChange(Staged);

impl StateChange {
    /// The rows: a value to put, or none to delete. Values are secret: seal them at rest.
    pub fn rows(&self) -> impl Iterator<Item = (&RowKey, Option<&[u8]>)> {
        self.0
            .iter()
            .map(|(key, value)| (key, value.as_ref().map(|value| value.as_slice())))
    }

    /// Whether there is nothing to persist.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for StateChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// Rows as persisted, and what was staged over them.
#[derive(Clone, Default)]
pub(crate) struct Buffer(Arc<Mutex<Rows>>);

#[derive(Default)]
struct Rows {
    stored: BTreeMap<RowKey, Zeroizing<Vec<u8>>>,
    staged: Staged,
}

impl Buffer {
    pub(crate) fn new(rows: impl IntoIterator<Item = Row>) -> Self {
        Self(Arc::new(Mutex::new(Rows {
            stored: rows.into_iter().map(|row| (row.key, row.value)).collect(),
            staged: Staged::new(),
        })))
    }

    pub(crate) fn get(&self, key: &RowKey) -> Option<Zeroizing<Vec<u8>>> {
        let rows = self.lock();
        match rows.staged.get(key) {
            Some(staged) => staged.clone(),
            None => rows.stored.get(key).cloned(),
        }
    }

    /// Keys of a table's stored rows.
    pub(crate) fn keys_of(&self, table: Table) -> Vec<Vec<u8>> {
        let rows = self.lock();
        let keys = rows.stored.keys();
        keys.filter(|key| key.table == table)
            .map(|key| key.key.clone())
            .collect()
    }

    pub(crate) fn put(&self, key: RowKey, value: Zeroizing<Vec<u8>>) {
        self.lock().staged.insert(key, Some(value));
    }

    pub(crate) fn remove(&self, key: RowKey) {
        self.lock().staged.insert(key, None);
    }

    pub(crate) fn change(&self) -> StateChange {
        StateChange(self.lock().staged.clone())
    }

    /// What was staged is now stored.
    pub(crate) fn persisted(&self) {
        let mut rows = self.lock();
        for (key, value) in core::mem::take(&mut rows.staged) {
            match value {
                Some(value) => rows.stored.insert(key, value),
                None => rows.stored.remove(&key),
            };
        }
    }

    /// What was staged never happened.
    pub(crate) fn discard(&self) {
        self.lock().staged.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row that does not parse.
#[derive(Debug, thiserror::Error)]
#[error("a stored key package is damaged")]
pub(crate) struct Damaged;

impl IntoAnyError for Damaged {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(Box::new(self))
    }
}

impl GroupStateStorage for Buffer {
    type Error = Infallible;

    fn state(&self, group_id: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, Infallible> {
        Ok(self.get(&RowKey::new(Table::Group, group_id)))
    }

    /// None: the relay's order puts every message of an epoch before the commit that ends it, so no key outlives one.
    fn epoch(&self, _group: &[u8], _epoch: u64) -> Result<Option<Zeroizing<Vec<u8>>>, Infallible> {
        Ok(None)
    }

    fn write(
        &mut self,
        state: GroupState,
        _epoch_inserts: Vec<EpochRecord>,
        _epoch_updates: Vec<EpochRecord>,
    ) -> Result<(), Infallible> {
        self.put(RowKey::new(Table::Group, state.id), state.data);
        Ok(())
    }

    fn max_epoch_id(&self, _group_id: &[u8]) -> Result<Option<u64>, Infallible> {
        Ok(None)
    }
}

impl KeyPackageStorage for Buffer {
    type Error = Damaged;

    fn delete(&mut self, id: &[u8]) -> Result<(), Damaged> {
        self.remove(RowKey::new(Table::KeyPackage, id));
        Ok(())
    }

    fn insert(&mut self, id: Vec<u8>, package: KeyPackageData) -> Result<(), Damaged> {
        let value = package.mls_encode_to_vec().map_err(|_| Damaged)?;
        self.put(RowKey::new(Table::KeyPackage, id), value.into());
        Ok(())
    }

    fn get(&self, id: &[u8]) -> Result<Option<KeyPackageData>, Damaged> {
        Self::get(self, &RowKey::new(Table::KeyPackage, id))
            .map(|bytes| KeyPackageData::mls_decode_exhaustive(&bytes))
            .transpose()
            .map_err(|_| Damaged)
    }
}

impl PreSharedKeyStorage for Buffer {
    type Error = Infallible;

    /// Conversations use none.
    fn get(&self, _id: &ExternalPskId) -> Result<Option<PreSharedKey>, Infallible> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staged_rows_hide_stored_ones_until_discarded() {
        let key = RowKey::new(Table::Tree, [1]);
        let value = |byte: u8| Zeroizing::new(vec![byte]);
        let buffer = Buffer::new([Row {
            key: key.clone(),
            value: value(1),
        }]);
        buffer.remove(key.clone());
        assert_eq!(buffer.get(&key), None);
        buffer.discard();
        assert_eq!(buffer.get(&key), Some(value(1)));
        buffer.put(key.clone(), value(2));
        assert_eq!(buffer.change().rows().count(), 1);
        buffer.persisted();
        assert!(buffer.change().is_empty());
        buffer.discard();
        assert_eq!(buffer.get(&key), Some(value(2)));
    }

    #[test]
    fn tables_have_distinct_names() {
        for table in [
            Table::Group,
            Table::Tree,
            Table::KeyPackage,
            Table::Disclosure,
        ] {
            assert_eq!(Table::from_name(table.name()), Some(table));
        }
        assert_eq!(Table::from_name("other"), None);
    }
}
