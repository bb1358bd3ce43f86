//! What becomes of a holder's locks once it has written under them: nothing, a lifetime anew, or their end.

use std::time::Duration;

use super::{Incident, Locks};
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
                    settle(locks, locks.store().refresh(&refresh)).map(Late::Refreshed)
                }
                LockPreference::Release => {
                    let release = Release::new(which, authority).covering(covering);
                    settle(locks, locks.store().release(&release)).map(Late::Released)
                }
            };
            late.extend(pending);
        }
        if late.is_empty() {
            return StoreFuture::ready(());
        }
        let locks = locks.clone();
        StoreFuture::new(async move {
            for pending in late {
                let answer = match pending {
                    Late::Refreshed(pending) => within(&locks, limit, pending).await,
                    Late::Released(pending) => within(&locks, limit, pending).await,
                };
                failed(&locks, answer.err());
            }
            Ok(())
        })
    }
}

/// An answer that the store has still to give.
enum Late {
    Refreshed(StoreFuture<Refreshed>),
    Released(StoreFuture<Released>),
}

/// Nothing, where the store has answered.
fn settle<T>(locks: &Locks, answer: StoreFuture<T>) -> Option<StoreFuture<T>> {
    match answer.into_ready() {
        Ok(answer) => {
            failed(locks, answer.err());
            None
        }
        Err(pending) => Some(pending),
    }
}

async fn within<T>(locks: &Locks, limit: Duration, pending: StoreFuture<T>) -> Result<(), StoreError> {
    locks.answered_within(limit, "renewing or ending a lock after its holder's write", pending).await.map(|_| ())
}

fn failed(locks: &Locks, error: Option<StoreError>) {
    if let Some(error) = error {
        locks.report(&Incident::NotAfterWrite { error: &error });
    }
}
