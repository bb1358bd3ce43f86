//! An acquire over HTTP: repeated while nobody knows what became of it, and undone if that is never known.

use std::time::Duration;

use http::{Method, StatusCode, response::Parts};
use tokio::{runtime::Handle, time::Instant};

use super::{
    LockTerms, Refused, RemoteError, RemoteGuard, RemoteLocks,
    terms::whole_seconds,
    wire::{self, Ask, Name, is_passing, may_be_done},
};
use crate::lock::LockToken;

/// The pause where a server says that it made us wait, and did not.
const NOT_SO_FAST: Duration = Duration::from_secs(1);

pub(super) async fn acquire(locks: &RemoteLocks, terms: &LockTerms) -> Result<RemoteGuard, RemoteError> {
    let (method, uri) = match terms.resources() {
        [one] => (Method::PUT, locks.uri_of(one)?),
        _ => (Method::POST, locks.list_uri()?),
    };
    let begun = Instant::now();
    let mut undo = Undo::new(locks, terms);
    let mut attempt = 0;
    loop {
        let asked = Instant::now();
        let tokens: Vec<LockToken> = undo.names.iter().map(|name| name.token).collect();
        let mut ask = Ask::new(method.clone(), uri.clone()).saying(Some(terms.body(&tokens)));
        ask.wait = seconds_left(terms, begun);
        undo.may_be_granted = true;
        let error = match locks.ask(ask, locks.patience()).await {
            Ok(answer) if answer.0.status.is_success() => match wire::grants(terms, &undo.names, &answer) {
                Ok(grants) => {
                    let guard = RemoteGuard::new(locks.clone(), grants, terms.life(), asked);
                    undo.disarm();
                    return guard.assured().await;
                }
                Err(error) => error,
            },
            Ok((head, body)) if !is_passing(head.status) => {
                let refused = Refused::of(head.status, &head.headers, &body);
                if undo.unsure && head.status == StatusCode::PRECONDITION_FAILED && attempt + 1 < locks.most_attempts() {
                    // It had been granted, and was over before we heard of it. Its tokens are used up.
                    undo.disarm();
                    undo = Undo::new(locks, terms);
                    attempt += 1;
                    continue;
                }
                // This time it was not granted, unless something failed on the way; an earlier one may be under way still.
                undo.may_be_granted = undo.unsure || may_be_done(head.status);
                if head.status == StatusCode::LOCKED && made_us_wait(&head) && seconds_left(terms, begun) > 0 {
                    if asked.elapsed() < NOT_SO_FAST {
                        tokio::time::sleep(NOT_SO_FAST).await;
                    }
                    continue;
                }
                return Err(RemoteError::Refused(refused));
            }
            Ok((head, body)) => RemoteError::Refused(Refused::of(head.status, &head.headers, &body)),
            Err(error) => error,
        };
        undo.unsure = true;
        attempt += 1;
        if attempt >= locks.most_attempts() {
            return Err(error);
        }
        locks.pause(attempt - 1, &error).await;
    }
}

/// For how many whole seconds we would wait still.
fn seconds_left(terms: &LockTerms, begun: Instant) -> u64 {
    whole_seconds(terms.patience()).saturating_sub(begun.elapsed().as_secs())
}

/// Whether the server heeded `Prefer: wait` (RFC 7240 section 3).
fn made_us_wait(head: &Parts) -> bool {
    let applied = head.headers.get_all("preference-applied").iter().filter_map(|value| value.to_str().ok());
    applied.flat_map(|value| value.split(',')).any(|one| one.trim().to_ascii_lowercase().starts_with("wait"))
}

/// Ends what may have been granted, if nobody is told of it.
struct Undo {
    locks: RemoteLocks,
    names: Vec<Name>,
    may_be_granted: bool,
    /// Nobody knows what became of an earlier attempt.
    unsure: bool,
    runtime: Option<Handle>,
}

impl Undo {
    fn new(locks: &RemoteLocks, terms: &LockTerms) -> Self {
        let name = |resource: &String| Name { resource: resource.clone(), token: LockToken::random() };
        let names = terms.resources().iter().map(name).collect();
        Self { locks: locks.clone(), names, may_be_granted: false, unsure: false, runtime: Handle::try_current().ok() }
    }

    fn disarm(&mut self) {
        (self.may_be_granted, self.unsure) = (false, false);
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.may_be_granted {
            return;
        }
        if let Some(runtime) = Handle::try_current().ok().or_else(|| self.runtime.take()) {
            self.locks.end_behind(std::mem::take(&mut self.names), None, &runtime);
        }
    }
}
