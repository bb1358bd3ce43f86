//! The locking API of Git LFS.

use std::time::Duration;

use axum::{
    Extension,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize};
use tower_lock::{
    Caller, Depth, LockId, LockRequest, LockScope, Locks, RefusalCode,
    lock::Timestamp,
    locks::{Listing, LockFilter, LockView, Named},
    store::Cursor,
};

use crate::{
    answer::{Asked, Failure, lfs, told},
    paths, people,
};

/// A lock as Git LFS shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Lock {
    id: LockId,
    path: String,
    /// To the second.
    locked_at: Timestamp,
    owner: Owner,
}

#[derive(Debug, Serialize)]
struct Owner {
    name: String,
}

impl Lock {
    pub(crate) fn of(lock: &LockView) -> Self {
        let name = lock.owner.as_ref().and_then(|owner| owner.display_name()).unwrap_or("somebody").to_owned();
        Self { id: lock.lock_id, path: paths::path(&lock.resource), locked_at: lock.created_at, owner: Owner { name } }
    }
}

/// The answer about one lock.
#[derive(Serialize)]
struct One {
    lock: Option<Lock>,
}

impl One {
    fn of(locks: &Locks, caller: &Caller, lock: &tower_lock::Lock) -> Self {
        Self { lock: locks.view(caller, lock).as_ref().map(Lock::of) }
    }
}

/// A branch.
#[derive(Deserialize)]
pub(crate) struct Ref {
    name: String,
}

// --- POST /locks ---------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
pub(crate) struct Wanted {
    path: String,
    r#ref: Option<Ref>,
}

/// 201 with the lock; 409 with the one in the way, be it the caller's own.
pub(crate) async fn create(
    State(locks): State<Locks>,
    Extension(caller): Extension<Caller>,
    Asked(wanted): Asked<Wanted>,
) -> Result<Response, Failure> {
    let key = paths::key(&wanted.path, caller.namespace())?;
    let mut request = LockRequest::on(LockScope::Exclusive, key).depth(Depth::Zero);
    if let Some(branch) = wanted.r#ref {
        request = request.client_ref(branch.name);
    }
    let granted = locks.acquire_for(&caller, request).await?;
    // The token stays here: nobody needs it where the user is the proof.
    Ok(lfs(StatusCode::CREATED, &One::of(&locks, &caller, granted.lock())))
}

// --- GET /locks, POST /locks/verify --------------------------------------------------------------------------------

#[derive(Deserialize)]
pub(crate) struct Filter {
    path: Option<String>,
    id: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    locks: Vec<Lock>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// The locks of the repository, or the one with this id or path; whose they are and on which branch they were set makes no
/// difference.
pub(crate) async fn list(
    State(locks): State<Locks>,
    Extension(caller): Extension<Caller>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(filter) = filter.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
    // The client sends empty what it does not want.
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (path, id) = (given(filter.path), given(filter.id));
    let limit = match given(filter.limit) {
        Some(limit) => limit.parse().map_err(|_| Failure::meaningless("limit: this is no number."))?,
        None => 0,
    };
    if path.is_none() && id.is_none() {
        let Listing { locks, next, .. } = page(&locks, &caller, limit, given(filter.cursor)).await?;
        let locks = locks.iter().map(Lock::of).collect();
        return Ok(lfs(StatusCode::OK, &Listed { locks, next_cursor: next.map(|next| next.to_string()) }));
    }
    let key = path.map(|path| paths::key(&path, caller.namespace())).transpose()?;
    let mut found = match (&id, &key) {
        (Some(id), _) => match id.parse() {
            Ok(id) => locks.inspect_id(&caller, id).await?.into_iter().collect(),
            // What is no id is the id of nothing.
            Err(_) => Vec::new(),
        },
        (None, Some(key)) => locks.inspect(&caller, key).await?,
        (None, None) => Vec::new(),
    };
    found.retain(|lock| key.as_ref().is_none_or(|key| key.path() == lock.resource));
    Ok(lfs(StatusCode::OK, &Listed { locks: found.iter().map(Lock::of).collect(), next_cursor: None }))
}

#[derive(Deserialize)]
pub(crate) struct Verify {
    cursor: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Verified {
    ours: Vec<Lock>,
    theirs: Vec<Lock>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What the client asks before a push, to refuse it by itself where it would change what is in `theirs`.
pub(crate) async fn verify(
    State(locks): State<Locks>,
    Extension(caller): Extension<Caller>,
    Asked(asked): Asked<Verify>,
) -> Result<Response, Failure> {
    if !people::may_push(caller.principal()) {
        return Err(Failure::new(StatusCode::FORBIDDEN, "You may not push."));
    }
    let cursor = asked.cursor.filter(|cursor| !cursor.is_empty());
    let Listing { locks, next, .. } = page(&locks, &caller, asked.limit.unwrap_or(0), cursor).await?;
    let (ours, theirs): (Vec<_>, Vec<_>) = locks.iter().partition(|lock| lock.mine);
    let told = |locks: Vec<&LockView>| locks.into_iter().map(Lock::of).collect();
    let verified = Verified { ours: told(ours), theirs: told(theirs), next_cursor: next.map(|next| next.to_string()) };
    Ok(lfs(StatusCode::OK, &verified))
}

/// One page of the locks in the caller's repository; as long as the server likes, where `limit` is 0.
async fn page(locks: &Locks, caller: &Caller, limit: usize, cursor: Option<String>) -> Result<Listing, Failure> {
    let mut filter = LockFilter::default();
    filter.limit = Some(limit).filter(|limit| *limit > 0);
    if let Some(cursor) = cursor {
        filter.after = Some(cursor.parse::<Cursor>().map_err(|error| Failure::meaningless(format!("cursor: {error}.")))?);
    }
    Ok(locks.list(caller, &filter).await?)
}

// --- POST /locks/{id}/unlock ---------------------------------------------------------------------------------------

#[derive(Deserialize)]
pub(crate) struct Unlock {
    #[serde(default)]
    force: bool,
}

/// 200 with the lock that was; 403 for somebody else's, without force or without the right to use it; 404 where there is
/// none.
pub(crate) async fn unlock(
    State(locks): State<Locks>,
    Extension(caller): Extension<Caller>,
    Path((_repository, id)): Path<(String, String)>,
    Asked(asked): Asked<Unlock>,
) -> Result<Response, Failure> {
    let id: LockId = id.parse().map_err(|_| Failure::no_such_lock())?;
    // An id of another repository is none of this one.
    let lock = locks.inspect_id(&caller, id).await?.ok_or_else(Failure::no_such_lock)?;
    // Who forces open what is theirs just unlocks it.
    let ended = if asked.force && !lock.mine {
        // The holder is told so, should anybody tell it.
        let reason = "unlocked by force";
        locks.break_for(&caller, Named::id(id), reason, Duration::ZERO).await.map(|broken| Some(broken.lock().clone()))
    } else {
        locks.release_for(&caller, Named::id(id)).await
    };
    match ended {
        Ok(Some(lock)) => Ok(lfs(StatusCode::OK, &One::of(&locks, &caller, &lock))),
        Ok(None) => Err(Failure::no_such_lock()),
        Err(refusal) if refusal.code() == RefusalCode::Forbidden => {
            let why = if asked.force { "you may not unlock it by force" } else { "and not by you" };
            Err(Failure::new(StatusCode::FORBIDDEN, format!("{}, {why}.", told(&lock))))
        }
        Err(refusal) => Err(refusal.into()),
    }
}
