//! `Keeper`: the task that keeps the locks of a guard alive and watches them.
//!
//! A lock is refreshed at a third of its lifetime. Where the store fails it is asked again with growing pauses, until what
//! was left by our own reckoning is over: that counts from before a request was sent, so it never ends after the lock. A
//! break and any other end are heard of by watching; what may have been missed is looked up.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;

use super::{
    super::{Activity, ActivityKind, Origin},
    standing::{Standing, left},
};
use crate::{
    lock::{Lock, LockId, LockState, LockToken, LostCause, LostLock, Timestamp},
    store::{
        Authority, ClockSleep, FinalTerm, LockEvent, LockPage, LockQuery, Refresh, Refreshed, Span, StoreError, Watch, Which,
    },
};

/// The shortest pause before a store that failed is asked again.
const SHORTEST: Duration = Duration::from_millis(50);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(30);
/// After what time a watch that has ended is tried anew.
const REWATCH: Duration = Duration::from_secs(10);

/// Ready once every lock is lost.
pub(super) struct Keeper {
    kept: Vec<Kept>,
}

impl Keeper {
    /// Keeps the locks of `standing`, which have these tokens and were asked for at `asked`.
    pub(super) fn new(standing: &Arc<Standing>, locks: &[Lock], tokens: &[LockToken], asked: Timestamp) -> Self {
        let kept = locks.iter().zip(tokens).enumerate();
        Self { kept: kept.map(|(at, (lock, token))| Kept::new(standing.clone(), at, lock, *token, asked)).collect() }
    }
}

impl Future for Keeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.kept.retain_mut(|kept| kept.poll(cx).is_pending());
        if self.kept.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// One of the locks.
struct Kept {
    standing: Arc<Standing>,
    at: usize,
    id: LockId,
    token: LockToken,
    watch: Option<Watch>,
    /// When the watch is tried anew.
    rewatch: Option<Timestamp>,
    /// What the store is asked next, and when.
    due: Option<(Timestamp, Question)>,
    asking: Option<Asking>,
    /// Why the store would not refresh it, while we ask whether it is gone already or still being broken.
    refused: Option<LostLock>,
    pause: Duration,
    timer: Option<(Timestamp, ClockSleep)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// Let it live on.
    Refresh,
    /// Is it there?
    Look,
}

/// A question that the store has still to answer.
struct Asking {
    question: Question,
    sent: Timestamp,
    /// When it counts as failed: what hangs must not take all the time that is left.
    until: Timestamp,
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
}

enum Answer {
    Refreshed(Result<Refreshed, StoreError>),
    Found(Result<LockPage, StoreError>),
}

impl Kept {
    fn new(standing: Arc<Standing>, at: usize, lock: &Lock, token: LockToken, asked: Timestamp) -> Self {
        let watch = Some(standing.locks().store().watch(&LockQuery::id(lock.id())));
        let due = left(lock).map(|left| (asked.after(third(left)), Question::Refresh));
        Self {
            standing,
            at,
            id: lock.id(),
            token,
            watch,
            rewatch: None,
            due,
            asking: None,
            refused: None,
            pause: SHORTEST,
            timer: None,
        }
    }

    /// Ready once it is lost.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.standing.is_lost(self.at) {
                return Poll::Ready(());
            }
            if self.poll_news(cx).is_ready() || self.poll_answer(cx).is_ready() || self.poll_time(cx).is_ready() {
                continue;
            }
            return Poll::Pending;
        }
    }

    fn now(&self) -> Timestamp {
        self.standing.locks().clock().now()
    }

    /// How long it has to live, by what is known.
    fn left(&self, now: Timestamp) -> Duration {
        self.standing.deadline_of(self.at).map_or(Duration::MAX, |deadline| deadline.since(now))
    }

    fn poll_news(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(watch) = &mut self.watch else { return Poll::Pending };
        let event = std::task::ready!(Pin::new(watch).poll_next(cx));
        let now = self.now();
        match event {
            None => {
                self.watch = None;
                self.rewatch = Some(now.after(REWATCH));
            }
            // The state is read at once, also the first time: it may have been broken before we watched.
            Some(Ok(LockEvent::Synced)) => self.due = Some((now, Question::Look)),
            Some(Ok(LockEvent::Breaking { lock, actor, reason })) => {
                self.breaks(&lock, LostLock { actor, reason, ..Standing::about(&lock, LostCause::Broken) }, now);
                // Some time has passed since the store said so: how long it has to live is asked for exactly.
                self.due = Some((now, Question::Look));
            }
            Some(Ok(LockEvent::Ended { lock, cause, actor, reason })) => {
                let at = Some(lock.life().seen_at);
                self.standing.lose(self.at, LostLock { at, actor, reason, ..Standing::about(&lock, cause) });
            }
            // By somebody else who has the token, and maybe for a shorter time.
            Some(Ok(LockEvent::Refreshed(lock))) => {
                self.standing.ends_by(self.at, &lock, now);
                if let (Some((due, Question::Refresh)), Some(left)) = (self.due, left(&lock)) {
                    self.due = Some((due.min(now.after(third(left))), Question::Refresh));
                }
            }
            Some(Ok(_) | Err(_)) => {}
        }
        Poll::Ready(())
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(asking) = &mut self.asking else { return Poll::Pending };
        let answer = std::task::ready!(asking.answer.as_mut().poll(cx));
        let sent = asking.sent;
        self.asking = None;
        match answer {
            Answer::Refreshed(Ok(Refreshed::Refreshed(lock, term))) => self.refreshed(&lock, term, sent),
            // Either it is gone, or somebody breaks it and it has a little time left.
            Answer::Refreshed(Ok(Refreshed::Lost(lost))) if lost.cause == LostCause::Broken => {
                self.standing.breaks(self.at, lost.clone());
                self.refused = Some(lost);
                self.due = Some((self.now(), Question::Look));
            }
            Answer::Refreshed(Ok(Refreshed::Lost(lost))) => self.standing.lose(self.at, lost),
            Answer::Refreshed(Ok(_)) => self.standing.lose(self.at, LostLock::new(LostCause::Unknown)),
            Answer::Found(Ok(page)) => self.found(page.locks.first(), sent),
            Answer::Refreshed(Err(_)) => self.failed(Question::Refresh),
            Answer::Found(Err(_)) => self.failed(Question::Look),
        }
        Poll::Ready(())
    }

    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.due.filter(|_| self.asking.is_none());
        let until = self.asking.as_ref().map(|asking| asking.until);
        let next = [self.standing.deadline_of(self.at), due.map(|(time, _)| time), self.rewatch, until];
        let Some(next) = next.into_iter().flatten().min() else { return Poll::Pending };
        if self.timer.as_ref().is_none_or(|(time, _)| *time != next) {
            self.timer = Some((next, self.standing.locks().clock().sleep_until(next)));
        }
        let Some((_, timer)) = &mut self.timer else { return Poll::Pending };
        if next > self.standing.locks().clock().now() {
            std::task::ready!(Pin::new(timer).poll(cx));
        }
        self.timer = None;
        let now = self.now().max(next);
        // By our own reckoning it may be over, whatever the store would say.
        if self.standing.check().is_some() && self.standing.is_lost(self.at) {
            return Poll::Ready(());
        }
        if self.rewatch.is_some_and(|time| time <= now) {
            self.rewatch = None;
            self.watch = Some(self.standing.locks().store().watch(&LockQuery::id(self.id)));
        }
        if let Some(asking) = self.asking.take_if(|asking| asking.until <= now) {
            self.failed(asking.question);
        }
        if let Some((_, question)) = due.filter(|(time, _)| *time <= now) {
            self.due = None;
            self.ask(question);
        }
        Poll::Ready(())
    }

    fn ask(&mut self, question: Question) {
        let locks = self.standing.locks().clone();
        let limit = locks.limits().answer_within;
        let sent = self.now();
        let answer: Pin<Box<dyn Future<Output = Answer> + Send>> = match question {
            Question::Refresh => {
                let refresh = Refresh::new(Which::Token(&self.token), Authority::Guard, Span::Same);
                let answer = locks.store().refresh(&refresh);
                Box::pin(
                    async move { Answer::Refreshed(locks.answered_within(limit, "keeping a lock alive", answer).await) },
                )
            }
            Question::Look => {
                let answer = locks.store().find(&LockQuery::id(self.id).limit(1));
                Box::pin(async move { Answer::Found(locks.answered_within(limit, "looking for a lock", answer).await) })
            }
        };
        let patience = (self.left(sent) / 4).max(SHORTEST).min(limit);
        self.asking = Some(Asking { question, sent, until: sent.after(patience), answer });
    }

    fn refreshed(&mut self, lock: &Lock, term: FinalTerm, sent: Timestamp) {
        self.standing.lives_on(self.at, lock, sent);
        self.pause = SHORTEST;
        self.refused = None;
        self.plan(lock, sent);
        if term == FinalTerm::Yes {
            self.due = None;
        }
        let locks = self.standing.locks();
        let activity = Activity::by(ActivityKind::Refreshed, Origin::InProcess, lock.principal());
        locks.note(&activity.of(lock).under(&self.token));
    }

    fn found(&mut self, lock: Option<&Lock>, sent: Timestamp) {
        self.pause = SHORTEST;
        match (lock, self.refused.take()) {
            (None, Some(lost)) => self.standing.lose(self.at, lost),
            // It is gone, so it will not be refreshed; the store tells why.
            (None, None) => self.due = Some((self.now(), Question::Refresh)),
            (Some(lock), refused) if lock.state() == LockState::Breaking => {
                if let Some(why) = refused {
                    self.breaks(lock, why, sent);
                } else if self.standing.is_breaking(self.at) {
                    self.standing.ends_by(self.at, lock, sent);
                } else {
                    let why = LostLock { at: lock.expires_at(), ..Standing::about(lock, LostCause::Broken) };
                    self.standing.ends_by(self.at, lock, sent);
                    self.standing.is_said_to_break(self.at, why);
                    // Who and why is told to whoever tries to refresh it.
                    self.due = Some((self.now(), Question::Refresh));
                }
            }
            (Some(lock), _) => {
                if self.due.is_none() {
                    self.plan(lock, sent);
                }
            }
        }
    }

    /// When it is refreshed next, if it was so alive at `seen`.
    fn plan(&mut self, lock: &Lock, seen: Timestamp) {
        self.due = left(lock).map(|left| (seen.after(third(left)), Question::Refresh));
    }

    fn breaks(&mut self, lock: &Lock, why: LostLock, seen: Timestamp) {
        self.standing.ends_by(self.at, lock, seen);
        self.standing.breaks(self.at, LostLock { at: lock.expires_at(), ..why });
    }

    /// The store could not answer: it is asked again after a pause, longer each time, but ever sooner towards the end.
    fn failed(&mut self, question: Question) {
        let now = self.now();
        let pause = jittered(self.pause).min(self.left(now) / 4).max(SHORTEST);
        self.pause = (self.pause * 2).min(LONGEST);
        self.due = Some((now.after(pause), question));
    }
}

/// A third of `span`, ten per cent more or less: so that locks taken at one moment are not refreshed at one moment.
fn third(span: Duration) -> Duration {
    jittered(span / 3)
}

fn jittered(span: Duration) -> Duration {
    let random = u32::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..4].try_into().unwrap_or_default());
    span.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX))
}
