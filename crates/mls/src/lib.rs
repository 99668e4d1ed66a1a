//! Users' encryption: MLS (RFC 9420) behind an API of our own, with the journaling extension and its rules.

mod client;
mod conversation;
mod disclosure;
mod frame;
mod identity;
pub mod limits;
mod observer;
mod reader;
mod receive;
mod refusal;
mod rules;
mod shape;
mod store;
mod trust;

pub use client::{Client, Invitation, KeyPackage, KeyPackageKind};
pub use conversation::{Conversation, Handshake};
pub use frame::{Frame, FrameKind};
pub use greffe_envelope::pb::Mode;
pub use identity::{Member, SigningKey};
pub use observer::{KeyPackageInfo, Observer, check_key_package};
pub use receive::{Application, Committed, Event};
pub use refusal::{MlsError, Refusal};
pub use store::{Row, RowKey, StateChange, Table};
pub use trust::{
    Device, DeviceDirectory, DisclosureError, DisclosureInfo, DisclosureVerifier, PresentedDevices,
    Trust,
};

/// The journaling extension's type: GroupContext, private use range of RFC 9420 section 17.3.
pub const EXTENSION_TYPE: u16 = 0xF0A1;

/// What a leaf's capabilities say when its client shows edits, retractions and reactions: an extension type that no list ever
/// holds. A device sends none of these in a conversation where a leaf does not say so.
pub const SHOWS_HISTORY: u16 = 0xF0A4;
