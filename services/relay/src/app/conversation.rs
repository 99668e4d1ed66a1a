//! Conversations: creation, what members see of them, acknowledgements.

use greffe_envelope::label::{hash, sha256};
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;
use greffe_envelope::trust::verify_acknowledgement;
use greffe_mls::Observer;
use greffe_types::{ConversationId, DeviceId, Digest};
use std::collections::HashSet;

use super::App;
use crate::error::RelayError;
use crate::replicas::{TOPIC, changed};
use crate::session::Session;
use crate::store::conversations::{ConversationRow, NewConversation};
use crate::store::members::MemberRow;
use crate::store::{acknowledgements, conversations, items, members};

/// A conversation as its members see it.
#[derive(Debug, Clone)]
pub struct View {
    /// The conversation.
    pub id: ConversationId,
    /// Its state.
    pub row: ConversationRow,
    /// Users and devices, and whether each has acknowledged the disclosure in force.
    pub members: Vec<(String, DeviceId, bool)>,
}

/// Where a page of conversations goes on: the last one's place.
pub type Place = (u64, Option<ConversationId>);

impl App {
    /// Creates a conversation with the session's device as its only member: observed, logged, stored. The same group info
    /// again answers the same.
    ///
    /// # Errors
    /// [`RelayError::GroupInfo`] when its disclosure is not the current one of its mode, and other refusals.
    pub async fn create_conversation(
        &self,
        session: &Session,
        id: ConversationId,
        group_info: Vec<u8>,
    ) -> Result<View, RelayError> {
        let origin = sha256(&group_info);
        if let Some(row) = conversations::get(self.db.read(), &self.scope, &id).await? {
            return self.created_before(session, &id, &row, &origin).await;
        }
        let now = self.now();
        self.devices.valid(&session.certificate, now).await?;
        self.catch_up().await?;
        let trust = self.mls.clone();
        let observer = greffe_service_kit::blocking(move || Observer::start(trust, &group_info))
            .await
            .map_err(|_| RelayError::Damaged("a task stopped"))?;
        let observer = match observer {
            Ok(observer) => observer,
            Err(refusal) => {
                return Err(RelayError::GroupInfo(self.devices.confirm(refusal).await?));
            }
        };
        if observer.id() != id {
            return Err(RelayError::Field("conversation"));
        }
        let members = observer.members();
        let alone = members.len() == 1
            && members[0].device == session.device
            && members[0].certificate == session.certificate;
        if !alone || observer.epoch() != 0 {
            return Err(RelayError::Creator);
        }
        let disclosed = observer.disclosure().digest;
        let disclosure = self.disclosure(&disclosed)?;
        self.check_mode(&disclosure)?;
        let mode = disclosure.message().mode;
        let created = pb::ConversationCreated {
            conversation: id.to_vec(),
            mode,
            disclosure: disclosed.to_vec(),
            device: session.device.to_vec(),
        };
        // the id is the conversation's alone: a second creation under it is another event and refused by the log itself
        let entry = hash("conversation-created", &[id.as_bytes()]);
        let log_index = self
            .log(&entry, pb::log_entry::Event::Conversation(created))
            .await?;
        let new = NewConversation {
            conversation: id,
            created_by: session.device,
            created_at: now,
            origin,
            log_index,
            mode,
            disclosure: disclosed,
            epoch: 0,
            observer: observer.encode()?,
        };
        let creator = MemberRow {
            conversation: id,
            device: session.device,
            user: session.user.as_str().to_owned(),
            certificate: session.certificate,
            from_seq: 0,
            until_seq: None,
            counter: 0,
            previous: Digest::ZERO,
            cursor: 0,
        };
        let inserted = self
            .write("create_conversation", async |conn| {
                if !conversations::insert(conn, &self.scope, &new).await? {
                    return Ok(false);
                }
                members::insert(conn, &self.scope, &creator).await?;
                Ok(true)
            })
            .await?;
        if !inserted {
            let row = conversations::get(self.db.read(), &self.scope, &id).await?;
            let row = row.ok_or(RelayError::NoConversation)?;
            return self.created_before(session, &id, &row, &origin).await;
        }
        self.view(session, &id).await
    }

    async fn created_before(
        &self,
        session: &Session,
        id: &ConversationId,
        row: &ConversationRow,
        origin: &Digest,
    ) -> Result<View, RelayError> {
        if row.origin != *origin {
            return Err(RelayError::ConversationTaken);
        }
        self.view(session, id).await
    }

    /// A conversation's state, for a member.
    ///
    /// # Errors
    /// [`RelayError::NoConversation`].
    pub async fn view(&self, session: &Session, id: &ConversationId) -> Result<View, RelayError> {
        let mut conn = self.db.read().acquire().await?;
        let row = conversations::get(&mut *conn, &self.scope, id)
            .await?
            .ok_or(RelayError::NoConversation)?;
        let present = members::present(&mut *conn, &self.scope, id).await?;
        if !present.iter().any(|row| row.device == session.device) {
            return Err(RelayError::NoConversation);
        }
        let acknowledged: HashSet<DeviceId> =
            acknowledgements::devices(&mut *conn, &self.scope, id, &row.disclosure)
                .await?
                .into_iter()
                .collect();
        let members = present
            .into_iter()
            .map(|row| (row.user, row.device, acknowledged.contains(&row.device)))
            .collect();
        Ok(View {
            id: *id,
            row,
            members,
        })
    }

    /// A page of the device's conversations, by creation, and where the next page begins when there may be one.
    ///
    /// # Errors
    /// The database's.
    pub async fn list_conversations(
        &self,
        session: &Session,
        after: Place,
        limit: u32,
    ) -> Result<(Vec<View>, Option<Place>), RelayError> {
        let found =
            members::conversations_of(self.db.read(), &self.scope, &session.device, after, limit)
                .await?;
        let more = found.len() == limit as usize;
        let next = found.last().filter(|_| more);
        let next = next.map(|(index, id)| (*index, Some(*id)));
        let mut views = Vec::with_capacity(found.len());
        for (_, id) in &found {
            match self.view(session, id).await {
                Ok(view) => views.push(view),
                // removed while the page was put together
                Err(RelayError::NoConversation) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((views, next))
    }

    /// Records an acknowledgement: verified, logged, stored; from then on the device's mailbox of the conversation is open.
    /// The same again answers the same. A device that was removed meanwhile may still acknowledge, until it has taken in the
    /// commit that removed it: it learns of that from the conversation, and of the conversation only after the notice.
    ///
    /// # Errors
    /// [`RelayError::NoConversation`], [`RelayError::Statement`], [`RelayError::NotInForce`].
    pub async fn acknowledge(
        &self,
        session: &Session,
        raw: pb::SignedStatement,
    ) -> Result<u64, RelayError> {
        const KIND: &str = "acknowledgement";
        let signed = Signed::<pb::Acknowledgement>::decode(raw)
            .map_err(|why| RelayError::Statement(KIND, why.into()))?;
        let id = ConversationId::try_from(signed.conversation.as_slice())
            .map_err(|_| RelayError::Field("conversation"))?;
        let digest = Digest::try_from(signed.disclosure.as_slice())
            .map_err(|_| RelayError::Field("disclosure"))?;
        let (db, scope, device) = (self.db.read(), &self.scope, &session.device);
        let row = conversations::get(db, scope, &id).await?;
        let in_force = row.ok_or(RelayError::NoConversation)?.disclosure;
        let known = acknowledgements::find(db, scope, &id, device, &digest).await?;
        let stays = members::stays(db, scope, device, Some(&id)).await?;
        let wanted = known.is_some() || stays.iter().any(MemberRow::has_more);
        if stays.is_empty() || !wanted {
            return Err(RelayError::NoConversation);
        }
        let cert = self.devices.valid(&session.certificate, self.now()).await?;
        self.catch_up().await?;
        self.check_acknowledged(&id, &digest, &in_force).await?;
        let disclosure = self.disclosure(&digest)?;
        verify_acknowledgement(&signed, &cert, disclosure.signed(), &id)
            .map_err(|why| RelayError::Statement(KIND, why))?;
        if let Some(index) = known {
            return Ok(index);
        }
        let index = self.log_statement(signed.into_raw()).await?;
        self.write("acknowledge_notice", async |conn| {
            acknowledgements::insert(conn, &self.scope, &id, device, &digest, index).await?;
            let told = [changed(device)];
            Ok(self.db.notify(conn, TOPIC, told).await?)
        })
        .await?;
        self.mailbox.wake([&session.device]);
        Ok(index)
    }

    /// What may be acknowledged: the disclosure in force; one that waits to be delivered under; the current one, before a
    /// commit brings it in (consent comes before the commit).
    async fn check_acknowledged(
        &self,
        id: &ConversationId,
        digest: &Digest,
        in_force: &Digest,
    ) -> Result<(), RelayError> {
        let current = || {
            let trust = self.trust.read();
            trust
                .current_disclosures()
                .any(|current| current.digest() == *digest)
        };
        if digest == in_force
            || current()
            || items::made_under(self.db.read(), &self.scope, id, digest).await?
        {
            Ok(())
        } else {
            Err(RelayError::NotInForce)
        }
    }
}
