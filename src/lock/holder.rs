//! Who holds a lock: the `Principal` that must be shown again, the `Owner` that others see, and what counts as proof.

use std::{fmt, sync::Arc};

use serde::Serialize;

use super::{Lock, LockKind};

/// Who the caller is, as the authentication outside the layer says. No principal is the anonymous caller, and two
/// anonymous callers are the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// A principal from its stable name: a user id, a client id, a subject.
    #[must_use]
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(name.as_ref().into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({:?})", self.0)
    }
}

impl From<&str> for Principal {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Principal {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

/// What is shown of a lock's holder to those who may see it. At most 8 KiB of text in all, by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Owner {
    /// An id that a program can use, normally the principal's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Arc<str>>,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// A whole WebDAV `owner` element that declares its own namespaces, its content exactly as it was sent (RFC 4918
    /// section 14.17).
    #[serde(skip)]
    pub xml: Option<Arc<str>>,
}

impl Owner {
    /// An owner by id.
    #[must_use]
    pub fn id(id: impl AsRef<str>) -> Self {
        Self { id: Some(id.as_ref().into()), ..Self::default() }
    }

    /// The same owner, with a name for people.
    #[must_use]
    pub fn named(mut self, name: impl AsRef<str>) -> Self {
        self.name = Some(name.as_ref().into());
        self
    }

    /// The same owner, with a whole WebDAV `owner` element, which declares its own namespaces. One that is not well-formed
    /// is shown to nobody.
    #[must_use]
    pub fn xml(mut self, xml: impl AsRef<str>) -> Self {
        self.xml = Some(xml.as_ref().into());
        self
    }

    /// What to call the owner in a sentence: the name, else the id.
    #[must_use]
    pub fn display_name(&self) -> Option<&str> {
        self.name.as_deref().or(self.id.as_deref())
    }

    /// How many bytes of text this is.
    #[must_use]
    pub fn text_len(&self) -> usize {
        [&self.id, &self.name, &self.xml].into_iter().flatten().map(|text| text.len()).sum()
    }
}

impl From<&Principal> for Owner {
    fn from(principal: &Principal) -> Self {
        Self { id: Some(principal.0.clone()), ..Self::default() }
    }
}

/// What a caller shows for one lock.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HolderClaim<'a> {
    /// The lock in question.
    pub lock: &'a Lock,
    /// Whether the lock's own token was among those submitted.
    pub token_submitted: bool,
    /// Who the caller is.
    pub principal: Option<&'a Principal>,
}

impl<'a> HolderClaim<'a> {
    /// A claim on `lock`.
    #[must_use]
    pub fn new(lock: &'a Lock, token_submitted: bool, principal: Option<&'a Principal>) -> Self {
        Self { lock, token_submitted, principal }
    }
}

/// What proves that a caller holds a lock.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum HolderProof {
    /// The lock's token, submitted by the principal that acquired it (RFC 4918 section 6.4). The default.
    #[default]
    TokenAndPrincipal,
    /// The token alone, whoever submits it: for protocols whose lock string is the only credential.
    Token,
    /// The principal alone, for services whose clients cannot send a token. All anonymous callers are then one holder.
    Principal,
    /// A function of the application's own.
    Custom(Arc<dyn Fn(&HolderClaim<'_>) -> bool + Send + Sync>),
}

impl HolderProof {
    /// Proof by a function of the application's own. It runs in the middle of a store's step, so it must be quick, and
    /// must not ask the locks for anything: that would wait for the step to end.
    #[must_use]
    pub fn by<F>(proof: F) -> Self
    where
        F: Fn(&HolderClaim<'_>) -> bool + Send + Sync + 'static,
    {
        Self::Custom(Arc::new(proof))
    }

    /// Whether `claim` proves that the caller holds the lock, whatever its kind.
    #[must_use]
    pub fn holds(&self, claim: &HolderClaim<'_>) -> bool {
        match self {
            Self::Custom(proof) => proof(claim),
            plain => plain.holds_plainly(claim.lock.principal(), claim.token_submitted, claim.principal) == Some(true),
        }
    }

    /// What [`holds`](Self::holds) says of `principal`'s claim on a lock of `holder`'s, where no function of the application's
    /// own has to see the lock.
    pub(crate) fn holds_plainly(
        &self,
        holder: Option<&Principal>,
        token_submitted: bool,
        principal: Option<&Principal>,
    ) -> Option<bool> {
        match self {
            Self::TokenAndPrincipal => Some(token_submitted && holder == principal),
            Self::Token => Some(token_submitted),
            Self::Principal => Some(holder == principal),
            Self::Custom(_) => None,
        }
    }

    /// Whether `claim` answers for the lock on a write: it proves the holder, and the lock is no
    /// [`LockKind::Freeze`], for which nobody answers.
    #[must_use]
    pub fn answers(&self, claim: &HolderClaim<'_>) -> bool {
        *claim.lock.kind() != LockKind::Freeze && self.holds(claim)
    }
}

impl fmt::Debug for HolderProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TokenAndPrincipal => "TokenAndPrincipal",
            Self::Token => "Token",
            Self::Principal => "Principal",
            Self::Custom(_) => "Custom(…)",
        })
    }
}
