//! Edits, retractions and reactions put to the messages they are about. Nothing is ever left out: what has no effect is kept
//! with the reason, so that whoever shows a conversation can show all that was said.
//!
//! Everything follows from the items of one conversation in the order of their numbers; every member who has them, and every
//! reader to whom they were opened, arrives at the same.
//!
//! 1. The target is a text or a mail with a lower number: never another edit, so there are no chains and no cycles.
//! 2. Only its author edits or retracts a message, by any device; any member reacts.
//! 3. A message that was retracted stays retracted, and what is about it from then on has no effect.
//! 4. A user has a reaction at a message once, and at most [`MAX_STANDING`] different ones; only their own are theirs to remove.

use std::collections::{BTreeMap, HashMap};

use greffe_types::Digest;

use crate::content::{self, Kind};
use crate::pb;

/// Different reactions of one user that stand at one message.
pub const MAX_STANDING: usize = 16;

/// An item of a conversation whose content is known. `A` says who sent it: a user, with the tenant where there are several.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a, A> {
    /// Its number in the conversation.
    pub sequence: u64,
    /// Its envelope digest.
    pub envelope: Digest,
    /// The user who sent it, as the device certificate names them.
    pub author: A,
    /// What it says.
    pub content: &'a pb::Content,
}

/// Why an edit, a retraction or a reaction has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Why {
    /// Another user's message.
    #[error("only the user who sent a message edits or retracts it")]
    NotTheAuthor,
    /// Nothing before it in the conversation has that digest.
    #[error("no earlier message of this conversation has that digest")]
    TargetUnknown,
    /// An earlier item, of which it is not known here what it says or who sent it.
    #[error("what it is about is not among the messages that are known here")]
    TargetNotHere,
    /// An edit, a retraction, a reaction, or a kind that is not known.
    #[error("what it is about is neither a text nor a mail: name the message itself")]
    TargetNoMessage,
    /// The message was taken back before.
    #[error("the message it is about was retracted before")]
    Retracted,
    /// That user's reaction is there already.
    #[error("that reaction of this user is there already")]
    Repeated,
    /// That user has no such reaction there.
    #[error("this user has no such reaction there")]
    NothingToRemove,
    /// [`MAX_STANDING`] of that user are there.
    #[error("a user has at most 16 different reactions at a message")]
    TooMany,
    /// It breaks a rule of [`content::check`], which a client that keeps to them would not have sealed.
    #[error("it is not made as its kind asks")]
    Malformed,
}

impl Why {
    /// Stable reason.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotTheAuthor => "NOT_THE_AUTHOR",
            Self::TargetUnknown => "TARGET_UNKNOWN",
            Self::TargetNotHere => "TARGET_NOT_HERE",
            Self::TargetNoMessage => "TARGET_NO_MESSAGE",
            Self::Retracted => "TARGET_RETRACTED",
            Self::Repeated => "REACTION_REPEATED",
            Self::NothingToRemove => "REACTION_UNKNOWN",
            Self::TooMany => "REACTIONS_TOO_MANY",
            Self::Malformed => "CONTENT_MALFORMED",
        }
    }
}

/// An edit, a retraction, a reaction or its removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    /// Its number in the conversation.
    pub sequence: u64,
    /// What it is.
    pub kind: Kind,
    /// Whether it has effect.
    pub verdict: Result<(), Why>,
}

/// A text or mail, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<A> {
    /// Its number in the conversation.
    pub sequence: u64,
    /// Who sent it.
    pub author: A,
    /// Numbers of its versions: itself, then the edits that took effect.
    pub versions: Vec<u64>,
    /// Number of the retraction that took effect.
    pub retracted: Option<u64>,
    /// Reactions that stand: by text, who, with the number.
    pub reactions: BTreeMap<String, BTreeMap<A, u64>>,
    /// Everything about it in order, whether it took effect or not.
    pub acts: Vec<Act>,
    /// How many reactions of a user stand: counted as they come, since a hostile member sends as many as they like.
    standing: BTreeMap<A, usize>,
}

impl<A> Message<A> {
    /// Number of the version in force.
    pub fn current(&self) -> u64 {
        self.versions.last().copied().unwrap_or(self.sequence)
    }

    /// Whether anything was said about it.
    pub const fn is_plain(&self) -> bool {
        self.acts.is_empty()
    }
}

/// What stands under a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Message(usize),
    /// Neither text nor mail.
    Other,
}

/// A conversation's messages with all that is about each. Takes items in the order of their numbers.
#[derive(Debug, Clone)]
pub struct History<A> {
    places: HashMap<Digest, Place>,
    messages: Vec<Message<A>>,
    /// Acts that belong to no message here.
    strays: Vec<Act>,
}

impl<A> Default for History<A> {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            messages: Vec::new(),
            strays: Vec::new(),
        }
    }
}

impl<A: Clone + Ord> History<A> {
    /// Takes the next item in. `elsewhere` says of a digest that nothing taken in has, whether an earlier item of the
    /// conversation has it, one whose content is not known here. Gives an act's verdict; none of what is no act.
    pub fn take(
        &mut self,
        said: &Said<'_, A>,
        elsewhere: impl FnOnce(&Digest) -> bool,
    ) -> Option<Result<(), Why>> {
        let kind = Kind::of(said.content).unwrap_or(Kind::Unknown(said.content.kind));
        if !kind.is_act() {
            self.item(said, kind);
            return None;
        }
        self.places.insert(said.envelope, Place::Other);
        let (verdict, about) = self.judge(said, kind, elsewhere);
        let act = Act {
            sequence: said.sequence,
            kind,
            verdict,
        };
        match about {
            Some(index) => self.messages[index].acts.push(act),
            None => self.strays.push(act),
        }
        Some(verdict)
    }

    fn item(&mut self, said: &Said<'_, A>, kind: Kind) {
        if !kind.is_message() {
            self.places.insert(said.envelope, Place::Other);
            return;
        }
        self.places
            .insert(said.envelope, Place::Message(self.messages.len()));
        self.messages.push(Message {
            sequence: said.sequence,
            author: said.author.clone(),
            versions: vec![said.sequence],
            retracted: None,
            reactions: BTreeMap::new(),
            acts: Vec::new(),
            standing: BTreeMap::new(),
        });
    }

    /// Whether an act has effect, which it then has, and the message it belongs to.
    fn judge(
        &mut self,
        said: &Said<'_, A>,
        kind: Kind,
        elsewhere: impl FnOnce(&Digest) -> bool,
    ) -> (Result<(), Why>, Option<usize>) {
        let Ok(target) = Digest::try_from(said.content.target.as_slice()) else {
            return (Err(Why::Malformed), None);
        };
        let index = match self.places.get(&target) {
            Some(Place::Message(index)) => *index,
            Some(Place::Other) => return (Err(Why::TargetNoMessage), None),
            None if elsewhere(&target) => return (Err(Why::TargetNotHere), None),
            None => return (Err(Why::TargetUnknown), None),
        };
        (self.messages[index].apply(said, kind), Some(index))
    }

    /// The text or mail of a digest.
    pub fn message(&self, envelope: &Digest) -> Option<&Message<A>> {
        match self.places.get(envelope)? {
            Place::Message(index) => self.messages.get(*index),
            Place::Other => None,
        }
    }

    /// Every text and mail in order.
    pub fn messages(&self) -> &[Message<A>] {
        &self.messages
    }

    /// Acts that belong to none of them, in order.
    pub fn strays(&self) -> &[Act] {
        &self.strays
    }
}

impl<A: Clone + Ord> Message<A> {
    fn apply(&mut self, said: &Said<'_, A>, kind: Kind) -> Result<(), Why> {
        content::check(said.content).map_err(|_| Why::Malformed)?;
        let own = said.author == self.author;
        if !own && matches!(kind, Kind::Edit | Kind::Retraction) {
            return Err(Why::NotTheAuthor);
        }
        if self.retracted.is_some() {
            return Err(Why::Retracted);
        }
        match kind {
            Kind::Edit => self.versions.push(said.sequence),
            Kind::Retraction => self.retracted = Some(said.sequence),
            Kind::Reaction => return self.react(said),
            Kind::ReactionRemoval => return self.unreact(said),
            Kind::Text | Kind::Mail | Kind::Unknown(_) => {}
        }
        Ok(())
    }

    fn react(&mut self, said: &Said<'_, A>) -> Result<(), Why> {
        let text = content::reaction(said.content).ok_or(Why::Malformed)?;
        if let Some(who) = self.reactions.get(text)
            && who.contains_key(&said.author)
        {
            return Err(Why::Repeated);
        }
        let standing = self.standing.entry(said.author.clone()).or_default();
        if *standing >= MAX_STANDING {
            return Err(Why::TooMany);
        }
        *standing += 1;
        let who = self.reactions.entry(text.to_owned()).or_default();
        who.insert(said.author.clone(), said.sequence);
        Ok(())
    }

    fn unreact(&mut self, said: &Said<'_, A>) -> Result<(), Why> {
        let text = content::reaction(said.content).ok_or(Why::Malformed)?;
        let who = self.reactions.get_mut(text).ok_or(Why::NothingToRemove)?;
        who.remove(&said.author).ok_or(Why::NothingToRemove)?;
        if let Some(standing) = self.standing.get_mut(&said.author) {
            *standing -= 1;
        }
        if who.is_empty() {
            self.reactions.remove(text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
