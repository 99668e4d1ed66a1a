//! The client library: what an internal app and the `greffe` command embed. Everything it is given is checked here, against
//! the tenant's pinned root and nothing else.
//!
//! The types and how they hang together:
//!
//! ```text
//! ConnectionConfig (TOML: tenant, root_key, packs?, [tls] cert key ca, [peers] relay archive audit escrow-N)
//!   Connection::load(&Path) | Connection::open(ConnectionConfig)
//! ClientStore::open(&folder, &tenant)               one SQLite file and its key, for any number of devices
//! Client::open(Connection, ClientStore, SharedClock).await      verified trust, log view, certificates
//!   .refresh_trust().await        .trust() -> Arc<TrustState>   .log() -> &LogView   
//!   .enrol(&UserId, not_after).await -> Enrolment { device, certificate: pb::DeviceCert }      for the issuer to sign
//!   .register(pb::SignedStatement).await -> Device     .device(&DeviceId).await     .devices().await
//! Device                                            clone freely
//!   .publish_key_packages(count).await               single use, and one of last resort
//!   .create(pb::Mode).await -> ConversationId        .invite(&id, &[UserId]).await  .remove(&id, &[UserId]).await
//!   .notice(&id, "en").await -> Notice               .acknowledge(&id, "en").await
//!   .conversation(&id).await -> ConversationInfo     .conversations().await         .history(&id, after, limit).await
//!   .thread(&id, &envelope).await -> Thread          a message with its edits, retraction, reactions; Outgoing::edit(..) and so on
//!   .sender() -> Sender                              pipelined: .send(Outgoing).await -> Pending; Pending.await -> Sent
//!   .send(Outgoing).await -> Sent
//!   .receiver(window).await -> Receiver              .next_batch().await -> Vec<Event>
//!   .catch_up().await -> Vec<Event>                  until the mailbox is empty
//!   .attachment(&id, sequence, index, &mut AsyncWrite).await
//! Person { name, signing key, reader key }           Person::generate(&folder, name, reader) | Person::load(&folder, name)
//! People::new(&Client, Person)
//!   .search(RecordQuery, page) .record .range .matters .create_matter .place_hold .act(..)
//!   .request_order(OrderRequest) .approve_order(&OrderId) .order(&OrderId) .orders(page)   one that does not verify in its place
//!   .open_order(&OrderId).await -> Opening; .next_chunk().await -> Vec<Result<OpenedRecord, NotOpened>>; .attachment(..)
//!   .openings(&OrderId).await -> LoggedOpenings      what the log says was opened under an order, sealed or not
//! ClientError::reason() -> stable SCREAMING_SNAKE reason
//! ```

mod attachment;
mod certificates;
mod client;
mod connection;
mod conversation;
mod currency;
mod device;
mod error;
mod live;
pub mod log;
mod membership;
pub mod notice;
pub mod people;
mod person;
mod receive;
mod resume;
pub mod secrets;
mod send;
mod store;
mod thread;
mod trust;

pub use client::{Client, Enrolment, HeldDevice};
pub use connection::{Connection, ConnectionConfig};
pub use conversation::{ConversationInfo, HistoryItem, MemberInfo};
pub use device::Device;
pub use error::{ClientError, Result};
pub use people::{
    LoggedOpening, LoggedOpenings, NotOpened, OpenedRecord, Opening, OrderInfo, OrderRequest,
    OrderState, Page, People, ProvedRead, Record, UnverifiedOrder, verify_record,
};
pub use person::{Person, READER_FILE, SIGNING_FILE};
pub use receive::{Event, Received, Receiver};
pub use send::{Outgoing, OutgoingAttachment, Pending, Sender, Sent, Source};
pub use store::{ClientStore, ConversationState};
pub use thread::Thread;
pub use trust::{Trust, mode_name};
