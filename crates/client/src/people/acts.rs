//! Acts: matters, holds, retention, disposition. Each is signed by the person who asks, and by those who have to consent.

use core::time::Duration;

use greffe_api::archive as api;
use greffe_envelope::pb;
use greffe_types::{Digest, MatterId, Millis};
use prost::Message as _;

use super::{Page, People};
use crate::client::random;
use crate::error::{ClientError, Result};

impl People {
    /// Signs an act without bringing it; a second person signs the same bytes with their own client.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn sign_act(&self, action: &str, act: &[u8]) -> Result<pb::SignedStatement> {
        let tenant = self.client.connection().tenant();
        self.person.sign_act(tenant, action, act, self.client.now())
    }

    /// Brings an act with every signature it needs, the asking person's first; gives the index of its log entry.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn perform(&self, acts: Vec<pb::SignedStatement>) -> Result<u64> {
        let archive = self.archive()?;
        let answer = self.unary("Act", api::ActRequest { acts }, |request| {
            let mut archive = archive.clone();
            async move { archive.act(request).await }
        });
        Ok(answer.await?.log_index)
    }

    async fn act(&self, action: &str, act: Vec<u8>) -> Result<u64> {
        let signed = self.sign_act(action, &act)?;
        self.perform(vec![signed]).await
    }

    /// Opens a matter.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn create_matter(&self, name: &str) -> Result<MatterId> {
        let matter = MatterId::new(random()?);
        let act = api::MatterAct {
            matter: matter.to_vec(),
            name: name.to_owned(),
        };
        self.act("matter.create", act.encode_to_vec()).await?;
        Ok(matter)
    }

    /// Closes a matter.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn close_matter(&self, matter: &MatterId) -> Result<u64> {
        let act = api::MatterAct {
            matter: matter.to_vec(),
            name: String::new(),
        };
        self.act("matter.close", act.encode_to_vec()).await
    }

    /// A page of matters with their holds.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn matters(&self, page: Option<String>) -> Result<Page<api::Matter>> {
        let archive = self.archive()?;
        let request = api::ListMattersRequest {
            page_size: 0,
            page_token: page.unwrap_or_default(),
        };
        let answer = self.unary("ListMatters", request, |request| {
            let mut archive = archive.clone();
            async move { archive.list_matters(request).await }
        });
        let answer = answer.await?;
        Ok(Page::new(answer.matters, answer.next_page_token))
    }

    /// The archive's word that nothing is left which a journaling key opens: half of what retires the key.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn confirm_key_unused(&self, key_id: &Digest) -> Result<pb::SignedStatement> {
        let archive = self.archive()?;
        let request = api::ConfirmKeyUnusedRequest {
            key_id: key_id.to_vec(),
        };
        let answer = self.unary("ConfirmKeyUnused", request, |request| {
            let mut archive = archive.clone();
            async move { archive.confirm_key_unused(request).await }
        });
        let unused = answer.await?.unused;
        unused.ok_or(ClientError::Answer("no statement on the key"))
    }

    /// Places a hold on everything that a query finds, now and later; gives its id.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn place_hold(
        &self,
        matter: &MatterId,
        query: &api::RecordQuery,
        reason: &str,
    ) -> Result<[u8; 16]> {
        let hold = random()?;
        let act = hold_act(&hold, matter, Some(query.clone()), reason);
        self.act("hold.place", act).await?;
        Ok(hold)
    }

    /// What the release of a hold is: two people sign these bytes for the action "hold.release".
    pub fn hold_release(hold: &[u8; 16], matter: &MatterId, reason: &str) -> Vec<u8> {
        hold_act(hold, matter, None, reason)
    }

    /// Extends the retention of records.
    ///
    /// # Errors
    /// [`crate::ClientError`].
    pub async fn extend_retention(
        &self,
        records: &[Digest],
        retain_until: Millis,
        reason: &str,
    ) -> Result<u64> {
        let act = api::RetentionAct {
            records: records.iter().map(Digest::to_vec).collect(),
            retain_until: retain_until.get(),
            reason: reason.to_owned(),
        };
        self.act("retention.extend", act.encode_to_vec()).await
    }

    /// What the disposition of a record is: the person who asks signs these bytes for the action "record.dispose", and so do
    /// a records manager and a legal person, who are both somebody else.
    pub fn disposal(record: &Digest, reason: &str) -> Vec<u8> {
        api::DisposeAct {
            record: record.to_vec(),
            reason: reason.to_owned(),
        }
        .encode_to_vec()
    }

    /// How far ahead an instant lies, for expiries.
    pub fn after(&self, duration: Duration) -> Millis {
        self.client.now().plus(duration)
    }
}

fn hold_act(
    hold: &[u8; 16],
    matter: &MatterId,
    query: Option<api::RecordQuery>,
    reason: &str,
) -> Vec<u8> {
    api::HoldAct {
        hold: hold.to_vec(),
        matter: matter.to_vec(),
        query,
        reason: reason.to_owned(),
    }
    .encode_to_vec()
}
