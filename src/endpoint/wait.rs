//! GET with `Prefer: wait=n` (RFC 7240 section 4.3): the answer is held until the locks are other than the client knows them.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use http::header;

use super::{call::Call, known::is_known};
use crate::locks::{Caller, LockView, News, Refusal};

/// Waits as long as `locks` are what the client does not want to be told, and it would wait; the locks then. Nothing where
/// the present ones are to be told at once.
pub(super) async fn beyond(call: &Call, caller: &Caller, locks: &[LockView]) -> Result<Option<Vec<LockView>>, Refusal> {
    let Some(patience) = call.locks.patience(&call.parts.headers) else { return Ok(None) };
    let id = call.lock_id();
    let resource = match id {
        // One of those that the caller may see, so its root is no secret.
        Some(id) => call.locks.root_of(caller, id).await?,
        None => Some(call.resource(caller)?),
    };
    // It went meanwhile.
    let Some(resource) = resource else { return Ok(Some(Vec::new())) };
    let subject = if id.is_some() { "" } else { resource.path() };
    let conditional = call.parts.headers.contains_key(header::IF_NONE_MATCH);
    let holds = |locks: &[LockView]| match conditional {
        true => is_known(&call.parts.headers, &LockView::tag(subject, locks)),
        false => !locks.is_empty(),
    };
    if !holds(locks) {
        return Ok(None);
    }
    let _place = call.locks.place_to_wait(&resource)?;
    let mut counted = call.locks.counted_wait();
    let mut news = match id {
        Some(id) => call.locks.news_of_lock(caller, id),
        None => call.locks.news_of(caller, &resource),
    };
    let mut time_up = pin!(call.locks.clock().sleep_until(patience.until()));
    loop {
        let told = {
            let mut next = pin!(news.next());
            poll_fn(|cx| match next.as_mut().poll(cx) {
                Poll::Ready(told) => Poll::Ready(told),
                Poll::Pending => time_up.as_mut().poll(cx).map(|()| None),
            })
            .await
        };
        match told {
            // Nobody knows; it may be known again before the time is up.
            Some(News::Unavailable(_)) => {}
            Some(_) => {
                let locks = news.locks();
                if !holds(&locks) {
                    counted.served();
                    return Ok(Some(locks));
                }
            }
            // The time is up, or the one lock is gone. What there is left to live is to be told as of now.
            None => {
                return Ok(Some(match id {
                    Some(id) => call.locks.inspect_id(caller, id).await?.into_iter().collect(),
                    None => call.locks.inspect(caller, &resource).await?,
                }));
            }
        }
    }
}
