//! What a refusal says in one sentence, to whatever takes sentences: a formatter, or a document that is being written.

use std::fmt;

use super::{LostView, Refusal, RefusalCode, view::Shown, visible::Visible};
use crate::lock::{LockKind, LockState, LostCause, Timestamp, is_below};

/// What takes a sentence, piece by piece.
pub(crate) trait Words {
    /// Words of our own: printable ASCII without quotation marks and backslashes.
    fn words(&mut self, words: &'static str) -> fmt::Result;

    /// What somebody has written, to be shown as [`Visible`] has it.
    fn text(&mut self, text: &str) -> fmt::Result;

    fn number(&mut self, number: usize) -> fmt::Result;

    fn time(&mut self, time: Timestamp) -> fmt::Result;
}

impl Words for fmt::Formatter<'_> {
    fn words(&mut self, words: &'static str) -> fmt::Result {
        self.write_str(words)
    }

    fn text(&mut self, text: &str) -> fmt::Result {
        fmt::Display::fmt(&Visible(text), self)
    }

    fn number(&mut self, number: usize) -> fmt::Result {
        write!(self, "{number}")
    }

    fn time(&mut self, time: Timestamp) -> fmt::Result {
        fmt::Display::fmt(&time, self)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f)
    }
}

impl Refusal {
    /// Says it to `to`.
    pub(crate) fn tell<W: Words>(&self, to: &mut W) -> fmt::Result {
        if let Some(detail) = self.detail() {
            return to.text(detail);
        }
        match self.code() {
            RefusalCode::Locked | RefusalCode::Frozen => self.tell_locked(to),
            RefusalCode::LockLost => {
                match self.lost().first() {
                    None => to.words("A condition of the request is false: the locks are not as it expects.")?,
                    Some(lost) => tell_lost(lost, to)?,
                }
                self.tell_further(to)
            }
            RefusalCode::WriteInProgress => {
                to.text(self.name())?;
                to.words(" is being written; the lock could not wait for that to end.")
            }
            RefusalCode::ProposalConflict => to.words("The proposed token or id is in use."),
            RefusalCode::LockRequired => {
                to.text(self.name())?;
                to.words(" can only be written by the holder of a lock on it.")?;
                self.tell_further(to)
            }
            RefusalCode::LockQuota => to.words("You hold as many locks as one may; release one first."),
            RefusalCode::TooManyWaiting => to.words("As many are waiting as may; try again later."),
            RefusalCode::StoreFull => to.words("There are as many locks as the store takes."),
            RefusalCode::StoreUnavailable => {
                to.words("The lock store cannot be asked at the moment, so nothing is written.")
            }
            code => {
                to.words(code.title())?;
                to.words(".")
            }
        }
    }

    fn name(&self) -> &str {
        self.resource().unwrap_or("This resource")
    }

    /// After the first sentence, the locks that are in the way as well.
    fn tell_further<W: Words>(&self, to: &mut W) -> fmt::Result {
        if self.shown().next().is_none() {
            return Ok(());
        }
        to.words(" ")?;
        self.tell_locked(to)
    }

    fn tell_locked<W: Words>(&self, to: &mut W) -> fmt::Result {
        let mut shown = self.shown();
        let Some(lock) = shown.next() else {
            to.text(self.name())?;
            return to.words(" is locked.");
        };
        self.tell_where(lock, to)?;
        if let Some(name) = lock.owner().and_then(|owner| owner.display_name()) {
            to.words(" by ")?;
            to.text(name)?;
        } else if lock.is_mine() {
            to.words(" by you")?;
        }
        if let Some(reason) = lock.reason() {
            to.words(" (")?;
            to.text(reason)?;
            to.words(")")?;
        }
        match lock.lock.expires_at() {
            _ if lock.lock.state() == LockState::Pending => {}
            Some(time) => {
                to.words(" until ")?;
                to.time(time)?;
            }
            None => to.words(" until further notice")?,
        }
        match shown.count() {
            0 if self.is_truncated() => to.words(", and more locks are in the way."),
            0 => to.words("."),
            1 if !self.is_truncated() => to.words(", and another lock is in the way."),
            more => {
                to.words(if self.is_truncated() { ", and more than " } else { ", and " })?;
                to.number(more)?;
                to.words(" other locks are in the way.")
            }
        }
    }

    fn tell_where<W: Words>(&self, shown: Shown<'_>, to: &mut W) -> fmt::Result {
        let root = shown.lock.root().path();
        let verb = match (shown.lock.kind(), shown.lock.state()) {
            (_, LockState::Pending) => " is about to be locked",
            (LockKind::Freeze, _) => " is frozen",
            _ => " is locked",
        };
        match self.resource() {
            Some(resource) if is_below(resource, root) => {
                to.text(resource)?;
                to.words(verb)?;
                to.words(" through ")?;
                to.text(root)
            }
            Some(resource) if is_below(root, resource) => {
                to.text(resource)?;
                to.words(" holds ")?;
                to.text(root)?;
                to.words(", which")?;
                to.words(verb)
            }
            // The resource itself, or another one that the request changes: a destination.
            _ => {
                to.text(root)?;
                to.words(verb)
            }
        }
    }
}

fn tell_lost<W: Words>(lost: &LostView, to: &mut W) -> fmt::Result {
    match &lost.resource {
        Some(resource) => {
            to.words("Your lock on ")?;
            to.text(resource)?;
        }
        None => to.words("The lock that the request relies on")?,
    }
    to.words(match lost.cause {
        LostCause::Expired => " has expired",
        LostCause::Released => " was released",
        LostCause::Broken => " was broken",
        LostCause::Replaced => " was replaced",
        LostCause::ResourceGone => " went with its resource",
        LostCause::OutOfScope => " does not cover this",
        LostCause::Unknown => " is not known here",
    })?;
    if let Some(actor) = &lost.by {
        to.words(" by ")?;
        to.text(actor)?;
    }
    if let Some(reason) = &lost.reason {
        to.words(" (")?;
        to.text(reason)?;
        to.words(")")?;
    }
    if let Some(time) = lost.at {
        to.words(" at ")?;
        to.time(time)?;
    }
    to.words(".")
}
