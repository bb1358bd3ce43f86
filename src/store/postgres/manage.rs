//! Refreshing, ending and clearing locks.

use std::sync::Arc;

use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{
    admit::proof,
    core::{Core, Failed},
    error::unreadable,
    finish::Finish,
    keys::{Below, bytes, digest, namespace, token_key},
    statements::Call,
    wire::{Answer, Answers, column, micros},
};
use crate::{
    lock::{Gone, HolderClaim, HolderProof, Lock, LostCause, LostLock, Principal, Reach, ResourceKey},
    store::{
        Authority, FinalTerm, Refresh, Refreshed, Release, Released, Span, StoreError, StoreFuture, Which,
        remote::deadline::within,
    },
};

const REFRESHING: &str = "refreshing a lock";
const RELEASING: &str = "ending a lock";

/// By what right, as the functions have it.
const PRINCIPAL: i32 = 3;
const GUARD: i32 = 4;
const BREAK: i32 = 5;
/// Only look: a function of the caller's decides.
const LOOK: i32 = 6;
/// It has decided.
const DECIDED: i32 = 7;

/// Which lock is meant and by whom.
struct Asked {
    token: Option<Uuid>,
    key: i64,
    id: Option<Uuid>,
    by: i32,
    principal: Option<Principal>,
    who: Option<Vec<u8>>,
    proof: HolderProof,
    namespace: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
}

impl Asked {
    fn of(core: &Core, which: Which<'_>, authority: &Authority<'_>, covering: Option<&ResourceKey<'_>>) -> Self {
        let (token, id) = match which {
            Which::Token(token) => (Some(digest(&core.key.digest(token))), None),
            Which::Id(id) => (None, Some(id.as_uuid())),
        };
        let (by, principal, proof) = match *authority {
            Authority::Holder { principal, proof: HolderProof::Custom(custom) } => {
                (LOOK, principal, HolderProof::Custom(custom.clone()))
            }
            Authority::Holder { principal, proof: by } => (proof(by), principal, by.clone()),
            Authority::Principal(principal) => (PRINCIPAL, Some(principal), HolderProof::Principal),
            Authority::Guard => (GUARD, None, HolderProof::Token),
            Authority::Break { actor, .. } => (BREAK, actor, HolderProof::Token),
        };
        Self {
            token,
            key: token.map_or(0, token_key),
            id,
            by,
            principal: principal.cloned(),
            who: bytes(principal),
            proof,
            namespace: covering.map(namespace),
            path: covering.map(|key| key.path().as_bytes().to_vec()),
        }
    }

    /// Whether what became of a lock is told to this caller.
    fn told(&self, holder: Option<&Principal>) -> bool {
        self.by == GUARD || self.principal.as_ref() == holder
    }
}

impl Core {
    pub(super) fn refresh(self: &Arc<Self>, refresh: &Refresh<'_>) -> StoreFuture<Refreshed> {
        if matches!(refresh.authority, Authority::Break { .. }) {
            return StoreFuture::ready(Refreshed::NotHolder);
        }
        let asked = Asked::of(self, refresh.which, &refresh.authority, refresh.covering);
        let (kind, span) = match refresh.span {
            Span::Same => (0, None),
            Span::For(span) => (1, Some(micros(span))),
            Span::Endless => (2, None),
        };
        let core = self.clone();
        StoreFuture::new(async move {
            let work = async {
                let answers = core.manage(Call::Refresh, REFRESHING, &asked, &[&kind, &span]).await?;
                core.refreshed(&asked, &answers)
            };
            within(core.limit, REFRESHING, work).await
        })
    }

    pub(super) fn release(self: &Arc<Self>, release: &Release<'_>) -> StoreFuture<Released> {
        let asked = Asked::of(self, release.which, &release.authority, release.covering);
        let (grace, reason) = match release.authority {
            Authority::Break { reason, grace, .. } => (micros(grace), Some(reason.as_bytes().to_vec())),
            _ => (0, None),
        };
        let core = self.clone();
        StoreFuture::new(Finish::new(async move {
            let work = async {
                let answers = core.manage(Call::Release, RELEASING, &asked, &[&grace, &reason]).await?;
                core.released(&asked, &answers)
            };
            within(core.limit, RELEASING, work).await
        }))
    }

    /// One trip; two where a function of the caller's decides who holds a lock.
    async fn manage(
        &self,
        call: Call,
        doing: &'static str,
        asked: &Asked,
        more: &[&(dyn ToSql + Sync)],
    ) -> Result<Answers, StoreError> {
        let mut by = asked.by;
        loop {
            let answers = self.step(call, doing, |params| {
                params.extend_from_slice(&[
                    &asked.token,
                    &asked.key,
                    &asked.id,
                    &by,
                    &asked.who,
                    &asked.namespace,
                    &asked.path,
                ]);
                params.extend_from_slice(more);
            });
            let mut answers = answers.await?;
            if by != LOOK || answers.code == 1 {
                return Ok(answers);
            }
            let lock = self.lock_of_outcome(&answers)?;
            if !asked.proof.answers(&HolderClaim::new(&lock, asked.token.is_some(), asked.principal.as_ref())) {
                answers.code = 2;
                return Ok(answers);
            }
            by = DECIDED;
        }
    }

    fn lock_of_outcome(&self, answers: &Answers) -> Result<Lock, StoreError> {
        answers.head.lock(answers.now, self.lease)
    }

    /// Why the lock is not there for whoever asks.
    fn absent(&self, asked: &Asked, answers: &Answers) -> Result<LostLock, StoreError> {
        match asked.token {
            Some(token) => self.lost(token, answers, |holder| asked.told(holder)),
            None => Ok(LostLock::new(LostCause::Unknown)),
        }
    }

    fn refreshed(&self, asked: &Asked, answers: &Answers) -> Result<Refreshed, StoreError> {
        let head: &Answer = &answers.head;
        Ok(match answers.code {
            0 => {
                let capped = head.life_end.is_some() && head.expires == head.life_end;
                Refreshed::Refreshed(self.lock_of_outcome(answers)?, if capped { FinalTerm::Yes } else { FinalTerm::No })
            }
            1 => Refreshed::Lost(self.absent(asked, answers)?),
            2 => Refreshed::NotHolder,
            3 => Refreshed::Lost(LostLock::out_of_scope(&self.lock_of_outcome(answers)?)),
            4 => Refreshed::Lost(head.end_by_itself(&self.lock_of_outcome(answers)?)?),
            // The token of a mark answers for nothing.
            5 => Refreshed::Lost(LostLock::new(LostCause::Unknown)),
            other => return Err(unreadable(format!("a refresh came to {other}"))),
        })
    }

    fn released(&self, asked: &Asked, answers: &Answers) -> Result<Released, StoreError> {
        Ok(match answers.code {
            0 => Released::Released(self.lock_of_outcome(answers)?),
            1 => Released::Lost(self.absent(asked, answers)?),
            2 => Released::NotHolder,
            3 => Released::Lost(LostLock::out_of_scope(&self.lock_of_outcome(answers)?)),
            4 => Released::Breaking(self.lock_of_outcome(answers)?),
            other => return Err(unreadable(format!("a release came to {other}"))),
        })
    }

    pub(super) fn clear(self: &Arc<Self>, gone: &[Gone<'_>]) -> StoreFuture<usize> {
        const DOING: &str = "clearing locks";
        let count = gone.len();
        let mut places = Vec::with_capacity(count);
        let (mut realms, mut namespaces, mut paths, mut reaches) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut lows, mut highs, mut froms, mut tos) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for gone in gone {
            let (placed, below) = (self.space.placed(&gone.key), Below::of(gone.key.path()));
            places.push(placed.place);
            realms.push(placed.realm());
            namespaces.push(namespace(&gone.key));
            paths.push(gone.key.path().as_bytes().to_vec());
            reaches.push(match gone.reach {
                Reach::At => 0,
                Reach::AtOrBelow => 1,
                Reach::Below => 2,
            });
            lows.push(below.low);
            highs.push(below.high);
            froms.push(below.from);
            tos.push(below.to);
        }
        let core = self.clone();
        StoreFuture::new(async move {
            let work = async {
                let rows = core.rows(Call::Clear, DOING, |params| {
                    params.extend_from_slice(&[
                        &places,
                        &realms,
                        &namespaces,
                        &paths,
                        &reaches,
                        &lows,
                        &highs,
                        &froms,
                        &tos,
                    ]);
                });
                match rows.await {
                    Ok(rows) => {
                        let row = rows.first().ok_or_else(|| unreadable("no count"))?;
                        Ok(usize::try_from(column::<i64>(row, 0)?).unwrap_or_default())
                    }
                    Err(Failed::Error(error)) => Err(error),
                    Err(Failed::Count) => Err(unreadable("asked to count")),
                }
            };
            within(core.limit, DOING, work).await
        })
    }
}
