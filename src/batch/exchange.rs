//! One bulk write under way: read, decided, done, answered.

use std::{collections::HashSet, error::Error, future::poll_fn};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;

use super::{
    BatchCodec, Item, Verdicts,
    answer::{self, Read, refused_whole, unreadable},
    layer::{Mode, Settings},
};
use crate::{
    endpoint::Reading,
    lock::Lock,
    locks::{BulkWrite, Caller, Decided, Locks, Refusal, RefusalCode, RefusedWhole, Rest},
    middleware::{After, Handler, Inner, Lapsed, Options, RequestBody, under},
    request::{LockPreference, Preferences, RequestView},
    respond::{Format, ResponseBody, render_as},
    store::Admitted,
};

/// What is done with bulk writes.
pub(super) struct Bulk<C> {
    pub(super) locks: Locks,
    pub(super) options: Options,
    pub(super) settings: Settings<C>,
}

/// Why a bulk write goes no further.
enum Stop<B, E> {
    /// It is refused, not because of any item.
    Refused(Refusal),
    /// It is answered already.
    Answered(Response<ResponseBody<B>>),
    /// The service failed at it.
    Failed(E),
}

impl<B, E> From<Refusal> for Stop<B, E> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<B, E> From<Lapsed> for Stop<B, E> {
    fn from(_: Lapsed) -> Self {
        Self::Refused(Refusal::lease_lapsed())
    }
}

/// What comes of a bulk write.
type Answer<S, B> =
    Result<Response<ResponseBody<<S as Inner<B>>::ResBody>>, Stop<<S as Inner<B>>::ResBody, <S as Inner<B>>::Fault>>;

pub(super) async fn run<S, C, B>(
    bulk: Bulk<C>,
    mut handler: Handler<S>,
    request: Request<B>,
) -> Result<Response<ResponseBody<S::ResBody>>, S::Fault>
where
    S: Inner<B>,
    C: BatchCodec,
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    match bulk.answer(&parts, body, &mut handler).await {
        Ok(response) => Ok(response),
        Err(Stop::Answered(response)) => Ok(response),
        Err(Stop::Refused(refusal)) => {
            let mut refusal = bulk.locks.signed(refusal);
            bulk.locks.answered_with(Some(RequestView::from_parts(&parts)), &mut refusal);
            Ok(render_as(&refusal, Format::wanted(&parts.headers)))
        }
        Err(Stop::Failed(error)) => Err(error),
    }
}

impl<C: BatchCodec> Bulk<C> {
    async fn answer<S, B>(&self, parts: &Parts, body: B, handler: &mut Handler<S>) -> Answer<S, B>
    where
        S: Inner<B>,
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let view = RequestView::from_parts(parts);
        let codec = &*self.settings.codec;
        let body = self.read(&parts.headers, body, handler).await?;
        let items = codec.read(view, &body)?;
        let write = self.understand(view, &items)?;
        // Before anything is registered: no write in flight waits for that.
        handler.prepare().await.map_err(Stop::Failed)?;
        let rest = match self.settings.mode {
            Mode::RefuseWhole => Rest::Refused,
            Mode::ForwardUnlocked => Rest::Done,
            Mode::ForwardAll => Rest::Passed,
        };
        let verdicts = |refusals: Vec<Option<Refusal>>| {
            Verdicts::new(items.iter().map(|item| item.name().map(str::to_owned)).zip(refusals))
        };
        let Decided { admitted, refusals } = match write.decide(rest).await {
            Ok(decided) => decided,
            Err(whole) => {
                let RefusedWhole { refusal, refusals } = *whole;
                return Err(self.refuse(parts, &verdicts(refusals), refusal));
            }
        };
        let verdicts = verdicts(refusals);
        let Some(admitted) = admitted else { return Err(self.none_done(parts, &write, &verdicts)) };
        let request = self.request(parts, &body, &verdicts, &admitted)?;
        Doing { bulk: self, parts, write, verdicts, admitted }.answer(request, handler).await
    }

    /// Reads the body. The service is not kept ready for a client that takes its time.
    async fn read<S, B>(&self, headers: &HeaderMap, body: B, handler: &mut Handler<S>) -> Result<Bytes, Refusal>
    where
        S: Clone,
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let encoded = |coding: &HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
        if headers.get_all(header::CONTENT_ENCODING).iter().any(encoded) {
            let why = "Content-Encoding: bulk writes are read uncompressed.";
            return Err(Refusal::new(RefusalCode::UnsupportedMediaType, why));
        }
        let mut reading = Reading::new(body, headers, self.settings.body)?;
        poll_fn(|cx| {
            let read = reading.poll(cx);
            if read.is_pending() {
                handler.rest();
            }
            read
        })
        .await
    }

    /// What the items change.
    fn understand<'r>(&self, view: RequestView<'r>, items: &[Item]) -> Result<BulkWrite<'r>, Refusal> {
        let limit = self.locks.limits().items;
        if items.len() > limit {
            let why = format!("There are {} items; at most {limit} are taken at once.", items.len());
            return Err(Refusal::new(RefusalCode::ContentTooLarge, why));
        }
        let mut write = BulkWrite::of(&self.locks, view, self.options.demand)?;
        for item in items {
            write.add(&item.after);
            for change in &item.changes {
                let path = match write.below() {
                    Some(resource) => change.path_below(resource).into_owned(),
                    None if change.is_relative() => {
                        return Err(Refusal::bad_request("The resource that the items are members of cannot be told."));
                    }
                    None => change.path.clone(),
                };
                write.change(&path, change.effect, change.membership)?;
            }
        }
        write.check()?;
        Ok(write)
    }

    /// The answer to a request that is refused as a whole, in the codec's form where items are the reason.
    fn refuse<B, E>(&self, parts: &Parts, verdicts: &Verdicts, refusal: Refusal) -> Stop<B, E> {
        if verdicts.admit_all() {
            return Stop::Refused(refusal);
        }
        let mut refusal = self.locks.signed(refusal);
        self.locks.answered_with(Some(RequestView::from_parts(parts)), &mut refusal);
        Stop::Answered(refused_whole(&*self.settings.codec, verdicts, &refusal, &parts.headers))
    }

    /// The answer where every item is refused, each for itself.
    fn none_done<B, E>(&self, parts: &Parts, write: &BulkWrite<'_>, verdicts: &Verdicts) -> Stop<B, E> {
        self.tell(write.caller(), verdicts);
        Stop::Answered(match self.settings.codec.merge(verdicts, None) {
            Ok(response) => answer::merged(response).map(ResponseBody::own),
            Err(why) => unreadable(&self.locks, verdicts, &why.to_string(), &parts.headers),
        })
    }

    /// Refusals of items become part of an answer: counted and told, each.
    fn tell(&self, caller: &Caller, verdicts: &Verdicts) {
        for (_, refusal) in verdicts.refused() {
            self.locks.note_refusal(caller, &mut refusal.clone());
        }
    }

    /// What the service is sent.
    fn request<B>(
        &self,
        parts: &Parts,
        body: &Bytes,
        verdicts: &Verdicts,
        admitted: &Admitted,
    ) -> Result<Request<RequestBody<B>>, Refusal> {
        let some = self.settings.mode == Mode::ForwardUnlocked && !verdicts.admit_all();
        let body = if some {
            let kept: Vec<usize> = verdicts.admitted().collect();
            self.settings.codec.keep(RequestView::from_parts(parts), body, &kept)?
        } else {
            body.clone()
        };
        let length = body.len();
        let mut request = Request::from_parts(parts.clone(), RequestBody::own(body));
        if some {
            answer::remove_framing(request.headers_mut());
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        if self.settings.mode == Mode::ForwardAll {
            request.extensions_mut().insert(verdicts.clone());
        }
        self.options.announce(&mut request, admitted);
        Ok(request)
    }
}

/// A bulk write that the service is to do, some of it or all.
struct Doing<'b, C> {
    bulk: &'b Bulk<C>,
    parts: &'b Parts,
    write: BulkWrite<'b>,
    verdicts: Verdicts,
    admitted: Admitted,
}

impl<C: BatchCodec> Doing<'_, C> {
    async fn answer<S, B>(self, mut request: Request<RequestBody<B>>, handler: &mut Handler<S>) -> Answer<S, B>
    where
        S: Inner<B>,
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let settings = &self.bulk.settings;
        let to_merge = settings.mode == Mode::ForwardUnlocked && !self.verdicts.admit_all();
        let to_read = to_merge || self.needs_to_know();
        if to_read {
            request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if settings.mode == Mode::ForwardAll {
            self.bulk.tell(self.write.caller(), &self.verdicts);
        }
        let permit = &self.admitted.permit;
        let response = handler.call_under(permit, request).await?.map_err(Stop::Failed)?;
        if to_merge && answer::leaves_no_room(response.status()) {
            let why =
                format!("the service's answer is {}, in which there is no room for results", response.status().as_u16());
            let response = self.unreadable(&why);
            return Ok(self.finish(response, None).await);
        }
        if !response.status().is_success() || !to_read {
            let done = response.status().is_success() && response.status() != StatusCode::ACCEPTED;
            return Ok(self.finish(response.map(ResponseBody::passed), done.then_some(Done::All)).await);
        }
        let (response, trailers) = match under(permit, answer::read(response, settings.answer)).await? {
            Read::Whole(response, trailers) => (response, trailers),
            // Nobody knows what was done: the locks of it expire.
            Read::Unread(response, _) if !to_merge => return Ok(self.finish(response, None).await),
            Read::Unread(_, why) | Read::Broken(why) => {
                let response = self.unreadable(why);
                return Ok(self.finish(response, None).await);
            }
        };
        let done = (response.status() != StatusCode::ACCEPTED)
            .then(|| Done::These(settings.codec.done(&self.sent(), &response).into_iter().collect()));
        let response = if !to_merge {
            answer::unchanged(response, trailers)
        } else {
            match settings.codec.merge(&self.verdicts, Some(response)) {
                Ok(response) => {
                    self.bulk.tell(self.write.caller(), &self.verdicts);
                    answer::merged(response).map(ResponseBody::own)
                }
                Err(why) => self.unreadable(&why.to_string()),
            }
        };
        Ok(self.finish(response, done).await)
    }

    /// The verdicts as far as the service's answer goes by them: where it was sent everything, it says something of everything.
    fn sent(&self) -> Verdicts {
        match self.bulk.settings.mode {
            Mode::ForwardAll => self.verdicts.without_refusals(),
            Mode::RefuseWhole | Mode::ForwardUnlocked => self.verdicts.clone(),
        }
    }

    /// The answer where that of the service cannot be passed on with the refusals in it.
    fn unreadable<B>(&self, why: &str) -> Response<ResponseBody<B>> {
        self.bulk.tell(self.write.caller(), &self.verdicts);
        unreadable(&self.bulk.locks, &self.verdicts, why, &self.parts.headers)
    }

    fn answered(&self) -> &[Lock] {
        self.admitted.answered.as_deref().unwrap_or_default()
    }

    /// What becomes of the writer's own locks.
    fn preference(&self) -> Option<LockPreference> {
        Preferences::of(&self.parts.headers).lock.or(self.bulk.options.own)
    }

    /// Whether locks may end with the items, so that it matters which of those were done.
    fn needs_to_know(&self) -> bool {
        let answered = self.answered();
        !answered.is_empty()
            && (self.preference() == Some(LockPreference::Release)
                || self.write.takes_any(self.verdicts.admitted(), answered))
    }

    /// Sees to the locks, now that the write has been answered; ends it.
    async fn finish<B>(self, mut response: Response<B>, done: Option<Done>) -> Response<B> {
        let is_done = |at: usize| match &done {
            None => false,
            Some(Done::All) => self.verdicts.refusal(at).is_none(),
            Some(Done::These(these)) => self.verdicts.refusal(at).is_none() && these.contains(&at),
        };
        let view = RequestView::from_parts(self.parts);
        let gone = self.write.gone((0..self.verdicts.len()).filter(|at| is_done(*at)));
        let is_free = |lock: &Lock| self.write.is_only_for(lock, is_done);
        let after = After::of(&self.bulk.locks, view, self.answered(), gone, self.bulk.options.own, is_free);
        let outcome = if done.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
        if let Some(after) = after {
            after.carry_out(outcome, self.admitted.permit).await;
            after.mark(outcome, response.headers_mut());
        }
        response
    }
}

/// Which items the service has done.
enum Done {
    /// All that it was sent, as far as it matters.
    All,
    /// Those at these positions.
    These(HashSet<usize>),
}
