//! A record opened with its key: what rendering and verification both start from.

use greffe_envelope::attachment::seal_attachment;
use greffe_envelope::content::Kind;
use greffe_envelope::derive::Cek;
use greffe_envelope::envelope::Envelope;
use greffe_envelope::message::open_with_cek;
use greffe_envelope::pb;
use greffe_envelope::statement::Signed;

use crate::evidence::Record;

/// A record whose ciphertext, key, certificate and attachments fit its envelope. Signatures are the verifier's to check.
pub(crate) struct Opened {
    /// The envelope.
    pub(crate) envelope: Envelope,
    /// The sender's certificate.
    pub(crate) certificate: Signed<pb::DeviceCert>,
    /// The archive's receipt.
    pub(crate) receipt: Signed<pb::Receipt>,
    /// What was inside.
    pub(crate) content: pb::Content,
    /// All of it when its kind is not known; else empty.
    pub(crate) unread: Vec<u8>,
    /// Attachments, in the order of the header.
    pub(crate) attachments: Vec<Vec<u8>>,
}

impl Opened {
    /// Opens a record; the error says which part does not fit.
    pub(crate) fn new(record: &Record) -> Result<Self, String> {
        let envelope =
            Envelope::decode(record.envelope.clone()).map_err(|e| why("envelope", &e))?;
        let certificate = Signed::<pb::DeviceCert>::decode(record.certificate.clone())
            .map_err(|e| why("certificate", &e))?;
        let receipt = Signed::<pb::Receipt>::decode(record.receipt.clone())
            .map_err(|e| why("receipt", &e))?;
        if receipt.kind() != pb::EntryKind::Message
            || receipt.entry_digest != envelope.digest().as_bytes()
            || receipt.conversation != envelope.header().conversation().as_bytes()
        {
            return Err("receipt: it is for another entry than this envelope".to_owned());
        }
        let cek = Cek::from_bytes(*record.key);
        let opened = open_with_cek(&cek, &certificate.tenant, &envelope, &record.ciphertext)
            .map_err(|e| why("content", &e))?;
        let references = &envelope.header().message().attachments;
        if record.attachments.len() != references.len() {
            return Err("attachments: not as many as the header names".to_owned());
        }
        for (index, (bytes, reference)) in (0_u32..).zip(record.attachments.iter().zip(references))
        {
            let (_, sealed, padded) = seal_attachment(&cek, &opened.core, index, bytes)
                .map_err(|e| why(&format!("attachment {index}"), &e))?;
            let inside = &opened.content.attachments[index as usize];
            if sealed != *reference || padded.as_bytes() != inside.padded_digest.as_slice() {
                return Err(format!(
                    "attachment {index}: its bytes are not those that were sent"
                ));
            }
        }
        Ok(Self {
            envelope,
            certificate,
            receipt,
            content: opened.content,
            unread: opened.unread,
            attachments: record.attachments.clone(),
        })
    }

    /// What the content is; it was refused when it says no kind.
    pub(crate) fn kind(&self) -> Kind {
        Kind::of(&self.content).unwrap_or(Kind::Unknown(self.content.kind))
    }

    /// The header's fields.
    pub(crate) fn header(&self) -> &pb::Header {
        self.envelope.header().message()
    }

    /// Where it stands among the records of a production: by conversation and number.
    pub(crate) fn place(&self) -> (Vec<u8>, u64) {
        (self.receipt.conversation.clone(), self.receipt.sequence)
    }
}

/// A part and why it is refused, with causes.
pub(crate) fn why(part: &str, error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("{part}: {error}");
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
