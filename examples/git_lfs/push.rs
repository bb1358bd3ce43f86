//! What a server can add: a push is refused by the repository itself, whatever the client thinks of locks.
//!
//! Git knows which paths a push changes once it has received it, in the `pre-receive` hook; the locks are here. So the hook
//! (`pre-receive`, beside this file) asks. It asks before the branch moves, not while it does: a lock that is granted in
//! between is overtaken by that push. And it asks in the name that authentication gave it: a hook that believes what the
//! pusher says of itself would be no better than the client's own check.

use axum::{
    Extension,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
};
use tower_lock::{Caller, Locks};

use crate::{
    answer::{Failure, told},
    paths,
};

/// How many paths one push may change, where they are looked at one by one.
const MOST: usize = 10_000;

/// How many of them one check is about, as many as [`Limits::items`](tower_lock::Limits) allows.
const AT_ONCE: usize = 1_000;

/// 200 when `paths`, with a NUL after each, may be pushed by the caller; 409 with a line for each that may not. Where the
/// locks cannot be asked nothing may.
pub(crate) async fn check(
    State(locks): State<Locks>,
    Extension(caller): Extension<Caller>,
    paths: Result<Bytes, BytesRejection>,
) -> Result<&'static str, (StatusCode, String)> {
    let refused = |failure: Failure| (failure.status(), format!("{}\n", failure.message()));
    let paths = paths.map_err(|rejection| (rejection.status(), format!("{}\n", rejection.body_text())))?;
    let mut blocked = String::new();
    let mut paths: Vec<&[u8]> = paths.split(|byte| *byte == 0).filter(|path| !path.is_empty()).collect();
    paths.sort_unstable();
    paths.dedup();
    if paths.len() > MOST {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, format!("At most {MOST} paths at once.\n")));
    }
    // A path is octets to git. What is not UTF-8 cannot have been locked, for JSON has no words for it.
    let paths = paths.into_iter().filter_map(|path| std::str::from_utf8(path).ok());
    let keys: Vec<_> = paths.map(|path| paths::key(path, caller.namespace())).collect::<Result<_, _>>().map_err(refused)?;
    for some in keys.chunks(AT_ONCE) {
        // Those of the application on a whole folder are found too, if there are any.
        for checked in locks.check_for(&caller, some).await.map_err(|refusal| refused(refusal.into()))? {
            for lock in checked.locks.iter().filter(|lock| !lock.mine) {
                blocked.push_str(&told(lock));
                blocked.push('\n');
            }
        }
    }
    if blocked.is_empty() { Ok("") } else { Err((StatusCode::CONFLICT, blocked)) }
}
