//! What a message can be: the kinds of content, what each may hold, and how one is read that a newer client made.
//!
//! A content that a sender may not make is not sealed ([`check`]). One that was sealed all the same is opened and shown: an edit
//! or a reaction that breaks a rule has no effect ([`crate::history`]), but nobody is kept from reading what was archived.

use prost::Message as _;

use crate::pb;
use crate::statement::StatementError;

/// Bytes of a reaction's text.
pub const MAX_REACTION: usize = 64;

/// What a content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A line or a text.
    Text,
    /// A mail.
    Mail,
    /// Another version of a message.
    Edit,
    /// A message is taken back.
    Retraction,
    /// A sign at a message.
    Reaction,
    /// Such a sign is taken back.
    ReactionRemoval,
    /// A newer client's, by its number.
    Unknown(i32),
}

impl Kind {
    /// Of a content; none when it says no kind, which is refused everywhere.
    pub fn of(content: &pb::Content) -> Option<Self> {
        Some(match pb::ContentKind::try_from(content.kind) {
            Ok(pb::ContentKind::Unspecified) => return None,
            Ok(pb::ContentKind::Text) => Self::Text,
            Ok(pb::ContentKind::Mail) => Self::Mail,
            Ok(pb::ContentKind::Edit) => Self::Edit,
            Ok(pb::ContentKind::Retraction) => Self::Retraction,
            Ok(pb::ContentKind::Reaction) => Self::Reaction,
            Ok(pb::ContentKind::ReactionRemoval) => Self::ReactionRemoval,
            Err(_) => Self::Unknown(content.kind),
        })
    }

    /// Its name in what programs read; stable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Mail => "mail",
            Self::Edit => "edit",
            Self::Retraction => "retraction",
            Self::Reaction => "reaction",
            Self::ReactionRemoval => "reaction-removal",
            Self::Unknown(_) => "unknown",
        }
    }

    /// Whether it says something by itself: a text or a mail, which others can be about.
    pub const fn is_message(self) -> bool {
        matches!(self, Self::Text | Self::Mail)
    }

    /// Whether it is about a message: an edit, a retraction, a reaction or its removal.
    pub const fn is_act(self) -> bool {
        !self.is_message() && !matches!(self, Self::Unknown(_))
    }
}

/// Why a content is not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// No kind, or one that this version does not know.
    #[error("the content is of no kind that this version can make")]
    Kind,
    /// An edit, retraction or reaction without its message.
    #[error(
        "an edit, a retraction or a reaction names the message it is about by its envelope digest"
    )]
    NoTarget,
    /// A text or mail about a message.
    #[error("a text or a mail is about no other message: it may answer one")]
    Target,
    /// What only a text or a mail has: attachments, an answered message, a sender without a name.
    #[error(
        "an edit, a retraction or a reaction has no attachments and answers no message: send another message"
    )]
    Extra,
    /// A retraction says nothing, and neither it nor a reaction has a subject.
    #[error("a retraction has neither text nor subject, a reaction no subject")]
    Wordy,
    /// A reaction's text.
    #[error("a reaction is 1 to 64 bytes of UTF-8 without control characters")]
    Reaction,
    /// The answered message's digest.
    #[error("the message answered is named by its envelope digest of 32 bytes, or not at all")]
    Reply,
}

impl ContentError {
    /// Stable reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Kind => "CONTENT_KIND",
            Self::NoTarget | Self::Target => "CONTENT_TARGET",
            Self::Extra | Self::Wordy => "CONTENT_EXTRA",
            Self::Reaction => "REACTION_TEXT",
            Self::Reply => "CONTENT_REPLY",
        }
    }
}

/// What a sender of this version may make. That content and header speak of the same attachments is
/// [`crate::message`]'s to check, that the target is one's own is [`crate::history`]'s.
///
/// # Errors
/// [`ContentError`].
pub fn check(content: &pb::Content) -> Result<(), ContentError> {
    let kind = Kind::of(content).ok_or(ContentError::Kind)?;
    match kind {
        Kind::Unknown(_) => return Err(ContentError::Kind),
        Kind::Text | Kind::Mail => {
            if !content.target.is_empty() {
                return Err(ContentError::Target);
            }
            if !matches!(content.reply_to.len(), 0 | 32) {
                return Err(ContentError::Reply);
            }
            return Ok(());
        }
        Kind::Edit | Kind::Retraction | Kind::Reaction | Kind::ReactionRemoval => {}
    }
    if content.target.len() != 32 {
        return Err(ContentError::NoTarget);
    }
    if !content.attachments.is_empty() || !content.reply_to.is_empty() || content.unknown_sender {
        return Err(ContentError::Extra);
    }
    if kind != Kind::Edit
        && (!content.subject.is_empty() || kind == Kind::Retraction && !content.text.is_empty())
    {
        return Err(ContentError::Wordy);
    }
    if matches!(kind, Kind::Reaction | Kind::ReactionRemoval) && reaction(content).is_none() {
        return Err(ContentError::Reaction);
    }
    Ok(())
}

/// A reaction's text, when it is one.
pub fn reaction(content: &pb::Content) -> Option<&str> {
    let text = core::str::from_utf8(&content.text).ok()?;
    let fits = (1..=MAX_REACTION).contains(&text.len()) && !text.chars().any(hides);
    fits.then_some(text)
}

/// Characters that would move or hide what stands beside a reaction: controls, and marks of direction.
fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Reads a content's protobuf: strictly, but for kinds that are not known, of which fields that are not known are passed over.
///
/// # Errors
/// [`StatementError`], as [`crate::statement::decode_strict`].
pub fn decode(bytes: &[u8]) -> Result<pb::Content, StatementError> {
    let content =
        pb::Content::decode(bytes).map_err(|error| StatementError::Decode("content", error))?;
    let newer = matches!(Kind::of(&content), Some(Kind::Unknown(_)));
    if newer || content.encode_to_vec() == bytes {
        Ok(content)
    } else {
        Err(StatementError::NotDeterministic("content"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(kind: pb::ContentKind) -> pb::Content {
        pb::Content {
            kind: kind.into(),
            target: vec![7; 32],
            ..Default::default()
        }
    }

    #[test]
    fn what_may_be_made_and_what_not() {
        use pb::ContentKind::{Edit, Mail, Reaction, ReactionRemoval, Retraction, Text};
        for kind in [Edit, Retraction, Reaction, ReactionRemoval] {
            let mut good = content(kind);
            if matches!(kind, Reaction | ReactionRemoval) {
                good.text = "👍".into();
            }
            assert_eq!(check(&good), Ok(()), "{kind:?}");
            for length in [0, 31, 33] {
                let mut bad = good.clone();
                bad.target = vec![7; length];
                assert_eq!(check(&bad), Err(ContentError::NoTarget));
            }
            let mut bad = good.clone();
            bad.reply_to = vec![7; 32];
            assert_eq!(check(&bad), Err(ContentError::Extra));
            let mut bad = good.clone();
            bad.unknown_sender = true;
            assert_eq!(check(&bad), Err(ContentError::Extra));
            let mut bad = good.clone();
            bad.attachments = vec![pb::ContentAttachment::default()];
            assert_eq!(check(&bad), Err(ContentError::Extra));
            let mut subject = good.clone();
            subject.subject = "x".into();
            assert_eq!(check(&subject).is_ok(), kind == Edit);
        }
        for kind in [Text, Mail] {
            let mut plain = content(kind);
            assert_eq!(check(&plain), Err(ContentError::Target));
            plain.target.clear();
            assert_eq!(check(&plain), Ok(()));
            plain.reply_to = vec![1; 31];
            assert_eq!(check(&plain), Err(ContentError::Reply));
        }
        let mut wordy = content(Retraction);
        wordy.text = b"because".to_vec();
        assert_eq!(check(&wordy), Err(ContentError::Wordy));
        let mut none = content(Text);
        none.kind = 0;
        assert_eq!(check(&none), Err(ContentError::Kind));
        none.kind = 7;
        assert_eq!(check(&none), Err(ContentError::Kind));
    }

    #[test]
    fn a_reaction_is_short_and_stays_where_it_is() {
        let of = |text: &[u8]| {
            let mut content = content(pb::ContentKind::Reaction);
            content.text = text.to_vec();
            check(&content)
        };
        for good in ["+1", "👩‍🚀", "ça va", &"x".repeat(64)] {
            assert_eq!(of(good.as_bytes()), Ok(()), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", "a\nb", "\u{1b}[2J", "\u{202e}abc", "a\u{2028}", &long] {
            assert_eq!(of(bad.as_bytes()), Err(ContentError::Reaction), "{bad:?}");
        }
        assert_eq!(of(b"\xff"), Err(ContentError::Reaction));
    }

    #[test]
    fn a_newer_kind_is_read_as_far_as_it_is_understood_and_a_known_one_strictly() {
        // field 1 = kind, field 2 = text, field 15 = something that this version does not know
        let newer = [8, 99, 18, 2, b'h', b'i', 122, 1, b'?'];
        let content = decode(&newer).unwrap();
        assert_eq!(
            (Kind::of(&content), content.text.as_slice()),
            (Some(Kind::Unknown(99)), b"hi".as_slice())
        );
        let mut known = newer;
        for kind in 0..=6 {
            known[1] = kind;
            assert!(
                matches!(decode(&known), Err(StatementError::NotDeterministic(_))),
                "{kind}"
            );
        }
        assert!(decode(&[8]).is_err());
    }
}
