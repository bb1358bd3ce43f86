//! `RetryLocked`: which refusals are worth another try, and when.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower::retry::Policy;

use super::{Jitter, Refused, RefusedCode, hint::retry_after};

/// The shortest pause before a second try; each one after that is twice as long, up to [`SHORTEST_LATER`].
const SHORTEST: Duration = Duration::from_millis(100);
/// What the shortest pause grows to: somebody who always says that it is worth trying at once is not believed for ever.
const SHORTEST_LATER: Duration = Duration::from_secs(5);
/// Longer than anybody waits, and short enough to be reckoned with.
const EVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Pauses are spread over this part of their own length, at least over [`SPREAD`].
const SPREAD_PART: u32 = 4;
const SPREAD: Duration = Duration::from_millis(250);

/// A [`tower::retry::Policy`] for requests that meet a lock: tries again when the way should be free. See the
/// [module docs](super).
///
/// # What is tried again
///
/// - 423, and 409 `write_in_progress`: nothing was done, so any method is safe to repeat.
/// - Never a 412: what the request relied on is gone (`lock_lost`), and no pause brings it back. Nor anything else: a
///   503 may come after a write that is half done, and an error of the service says nothing of what was done.
/// - A lock whose end nobody knows (endless, or the server does not say) and a `frozen` resource only with
///   [`probe_every`](Self::probe_every).
///
/// A lock of the caller's own is waited for as any other: it may be held elsewhere. Whoever holds it here sends its token
/// ([`RemoteGuard::authorize`](super::RemoteGuard::authorize)), or waits for itself.
///
/// # When
///
/// After what [`Refused::free_in`] or the header `Retry-After` says, and up to a quarter more, so that those who were
/// turned away together do not come back together; at most after the [cap](Self::cap), as many locks go early; and no
/// sooner than after 100 ms, twice that the next time, up to 5 s. A pause that would not end within the
/// [patience](Self::patience) is not begun: the refusal is the answer then.
///
/// # The request is cloned
///
/// So its body must be a `Clone`: bytes, not a stream. Bytes that were on their way when the refusal came are sent
/// again. A server that refuses without reading the body may close the connection under a client that still writes;
/// that is an error of the service and not tried again. `Expect: 100-continue` avoids it.
#[derive(Clone, Debug)]
#[must_use]
pub struct RetryLocked {
    most: usize,
    patience: Duration,
    cap: Duration,
    probe: Option<Duration>,
    jitter: Jitter,
    /// How often this request was refused.
    refused: usize,
    started: Option<Instant>,
}

impl RetryLocked {
    /// Up to 10 tries within two minutes, with pauses of at most 30 seconds.
    pub const fn new() -> Self {
        Self {
            most: 10,
            patience: Duration::from_secs(120),
            cap: Duration::from_secs(30),
            probe: None,
            jitter: Jitter::random(),
            refused: 0,
            started: None,
        }
    }

    /// Sends a request so often at most, the first time included.
    pub const fn attempts(mut self, most: usize) -> Self {
        self.most = most;
        self
    }

    /// Begins no try later than so long after the first one.
    pub fn patience(mut self, span: Duration) -> Self {
        self.patience = span.min(EVER);
        self
    }

    /// Waits no longer than that between two tries, whatever the server says: a lock is often released before it expires.
    pub fn cap(mut self, span: Duration) -> Self {
        self.cap = span.min(EVER);
        self
    }

    /// Tries again after that, too, where no end is known: the resource is frozen, the lock is endless, or the server
    /// does not say until when it lasts.
    pub fn probe_every(mut self, span: Duration) -> Self {
        self.probe = Some(span.min(EVER));
        self
    }

    /// Spreads pauses by this. For tests.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// In how long the way should be free, if such an answer is one to try again.
    fn hint<B>(&self, answer: &Response<B>) -> Option<Duration> {
        let refused = answer.extensions().get::<Refused>();
        let code = refused.map_or(&RefusedCode::Unsaid, Refused::code);
        match (answer.status(), code) {
            (_, RefusedCode::LockLost) => None,
            (StatusCode::LOCKED, RefusedCode::Frozen) => self.probe,
            (StatusCode::LOCKED, _) | (StatusCode::CONFLICT, RefusedCode::WriteInProgress) => {
                refused.and_then(Refused::free_in).or_else(|| retry_after(answer.headers())).or(self.probe)
            }
            _ => None,
        }
    }

    /// How long to wait, if the way should be free in `hint`.
    fn pause(&self, hint: Duration) -> Duration {
        let doublings = u32::try_from(self.refused).unwrap_or(u32::MAX).min(16);
        let shortest = SHORTEST.saturating_mul(1 << doublings).min(SHORTEST_LATER);
        let pause = hint.max(shortest).min(self.cap);
        let spread = (pause / SPREAD_PART).max(SPREAD);
        if pause + spread <= self.cap {
            // Not before: until then it is not free.
            pause + self.jitter.of(spread)
        } else {
            // All of them would end at the cap, so they are spread before it.
            self.cap - self.jitter.of(self.cap / SPREAD_PART)
        }
    }
}

impl Default for RetryLocked {
    fn default() -> Self {
        Self::new()
    }
}

impl<Q: Clone, B, E> Policy<Request<Q>, Response<B>, E> for RetryLocked {
    type Future = Pause;

    fn retry(&mut self, _: &mut Request<Q>, result: &mut Result<Response<B>, E>) -> Option<Pause> {
        let hint = self.hint(result.as_ref().ok()?)?;
        let now = Instant::now();
        let started = *self.started.get_or_insert(now);
        if self.refused + 1 >= self.most {
            return None;
        }
        let pause = self.pause(hint);
        if now.duration_since(started) + pause > self.patience {
            return None;
        }
        self.refused += 1;
        Some(Pause { sleep: tokio::time::sleep(pause) })
    }

    fn clone_request(&mut self, request: &Request<Q>) -> Option<Request<Q>> {
        // Asked before the policy itself is cloned for the request, so that the time on the way counts as well.
        if self.refused == 0 {
            self.started = Some(Instant::now());
        }
        Some(request.clone())
    }
}

pin_project! {
    /// The pause before another try.
    #[derive(Debug)]
    #[must_use = "a future does nothing unless it is awaited"]
    pub struct Pause {
        #[pin]
        sleep: Sleep,
    }
}

impl Future for Pause {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().sleep.poll(cx)
    }
}
