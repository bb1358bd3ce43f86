//! POST to the list with `"action": "check"`: which of many resources are locked, before a bulk write is tried.

use http::{Response, StatusCode};
use serde::Serialize;

use super::{
    EndpointBody,
    call::Call,
    input::{self, CheckAction, ListAction},
    reply,
    route::{self, Verb},
};
use crate::{
    lock::ResourceKey,
    locks::{Checked, Refusal},
};

/// What a POST to the list wants: without an action, locks.
pub(super) fn verb(body: &[u8]) -> Result<Verb, Refusal> {
    match input::read::<ListAction>(body)?.action.as_deref() {
        None => Ok(Verb::AcquireAll),
        Some("check") => Ok(Verb::Check),
        Some(_) => {
            Err(Refusal::bad_request("action: unknown here; known is `check`, and without an action locks are acquired"))
        }
    }
}

/// Which resources are locked, by whom, until when, as far as the caller may see.
pub(super) async fn check(call: &Call, body: &[u8]) -> Result<Response<EndpointBody>, Refusal> {
    #[derive(Serialize)]
    struct All {
        /// Whether any of them is.
        locked: bool,
        resources: Vec<Checked>,
    }

    call.expect_no_conditions("a check relies on no lock of one's own")?;
    let CheckAction { resources, .. } = input::read(body)?;
    let most = call.locks.limits().items;
    if resources.len() > most {
        return Err(Refusal::bad_request(format!("resources: a list of paths, at most {most}")));
    }
    let caller = call.caller()?;
    let key = |(at, path): (usize, &String)| {
        let key = route::named("resources", path).and_then(|path| call.key(&caller, path));
        // Of many, which one.
        key.map_err(|refusal| Refusal::new(refusal.code(), format!("{refusal} (resources: {at})")))
    };
    let keys = resources.iter().enumerate().map(key).collect::<Result<Vec<ResourceKey<'static>>, Refusal>>()?;
    let resources = call.locks.check_for(&caller, &keys).await?;
    Ok(reply::json(StatusCode::OK, &All { locked: resources.iter().any(Checked::is_locked), resources }))
}
