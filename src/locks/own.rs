//! What becomes of a holder's locks once it has written under them: nothing, a lifetime anew, or their end.

use super::{Activity, ActivityKind, Incident, Locks, Origin};
use crate::{
    lock::{HolderProof, Lock, LockId, LockScope, LockToken, Principal, ResourceKey},
    request::{LockPreference, RequestView},
    store::{Authority, Refresh, Refreshed, Release, Released, Span, StoreError, StoreFuture, Which},
};

/// The locks that a write answered for with proofs of its own, not those that other holders of shared locks have.
#[derive(Debug)]
pub(crate) struct OwnLocks {
    each: Vec<Own>,
    principal: Option<Principal>,
    proof: HolderProof,
}

#[derive(Debug)]
enum Own {
    /// Nobody else can have answered for it.
    Exclusive(LockId),
    /// The one with this token, if it covers what was answered for. Others hold shared locks there as well.
    Shared(LockToken, ResourceKey<'static>),
    /// This one, if it is the caller's: no token came with the request.
    Tokenless(LockId),
}

impl OwnLocks {
    /// Those among `answered`, for the request that they were answered for by.
    pub(crate) fn of(locks: &Locks, request: RequestView<'_>, answered: &[Lock]) -> Self {
        let policy = locks.policy();
        let principal = policy.principal.as_ref().and_then(|principal| principal(&request));
        // What could not be read was refused before.
        let namespace = policy.namespace(&request).ok().flatten().map(std::borrow::Cow::Owned);
        let conditions = locks.conditions(request, namespace.as_ref());
        let tokens = conditions.as_ref().map_or(&[][..], |conditions| conditions.tokens());
        let mut each = Vec::new();
        for lock in answered {
            match (lock.scope(), tokens) {
                (LockScope::Exclusive, _) => each.push(Own::Exclusive(lock.id())),
                (LockScope::Shared, []) => each.push(Own::Tokenless(lock.id())),
                (LockScope::Shared, tokens) => {
                    each.extend(tokens.iter().map(|token| Own::Shared(*token, lock.root().clone())));
                }
            }
        }
        Self { each, principal, proof: policy.proof.clone() }
    }

    /// Does with them what is wanted. What has ended meanwhile is left alone; a store that fails is told of, and the locks
    /// then end when they expire.
    pub(crate) fn apply(&self, locks: &Locks, wanted: LockPreference) -> StoreFuture<()> {
        let limit = locks.limits().answer_within;
        let mut late = Vec::new();
        for own in &self.each {
            let holder = Authority::Holder { principal: self.principal.as_ref(), proof: &self.proof };
            let (which, authority, covering) = match own {
                // It answered for a write a moment ago, so whoever sent that may do so.
                Own::Exclusive(id) => (Which::Id(*id), Authority::Guard, None),
                Own::Shared(token, root) => (Which::Token(token), holder, Some(root)),
                Own::Tokenless(id) => (Which::Id(*id), holder, None),
            };
            let pending = match wanted {
                LockPreference::Keep => continue,
                LockPreference::Renew => {
                    let refresh = Refresh::new(which, authority, Span::Same).covering(covering);
                    self.settle(locks, locks.store().refresh(&refresh)).map(Late::Refreshed)
                }
                LockPreference::Release => {
                    let release = Release::new(which, authority).covering(covering);
                    self.settle(locks, locks.store().release(&release)).map(Late::Released)
                }
            };
            late.extend(pending);
        }
        if late.is_empty() {
            return StoreFuture::ready(());
        }
        let (locks, actor) = (locks.clone(), self.principal.clone());
        StoreFuture::new(async move {
            let what = "renewing or ending a lock after its holder's write";
            for pending in late {
                match pending {
                    Late::Refreshed(pending) => {
                        tell(&locks, actor.as_ref(), locks.answered_within(limit, what, pending).await);
                    }
                    Late::Released(pending) => {
                        tell(&locks, actor.as_ref(), locks.answered_within(limit, what, pending).await);
                    }
                }
            }
            Ok(())
        })
    }

    /// Nothing, where the store has answered.
    fn settle<T: Happened>(&self, locks: &Locks, answer: StoreFuture<T>) -> Option<StoreFuture<T>> {
        match answer.into_ready() {
            Ok(answer) => {
                tell(locks, self.principal.as_ref(), answer);
                None
            }
            Err(pending) => Some(pending.into()),
        }
    }
}

/// An answer that the store has still to give.
enum Late {
    Refreshed(StoreFuture<Refreshed>),
    Released(StoreFuture<Released>),
}

/// What has happened to a lock, if anything.
trait Happened {
    fn happened(&self) -> Option<(ActivityKind, &Lock)>;
}

impl Happened for Refreshed {
    fn happened(&self) -> Option<(ActivityKind, &Lock)> {
        match self {
            Self::Refreshed(lock, _) => Some((ActivityKind::Refreshed, lock)),
            _ => None,
        }
    }
}

impl Happened for Released {
    fn happened(&self) -> Option<(ActivityKind, &Lock)> {
        match self {
            Self::Released(lock) => Some((ActivityKind::Released, lock)),
            _ => None,
        }
    }
}

fn tell<T: Happened>(locks: &Locks, actor: Option<&Principal>, answer: Result<T, StoreError>) {
    match answer {
        Ok(answer) => {
            if let Some((kind, lock)) = answer.happened() {
                locks.note(&Activity::by(kind, Origin::Remote, actor).of(lock));
            }
        }
        Err(error) => locks.report(&Incident::NotAfterWrite { error: &error }),
    }
}
