//! `Refused`: a refusal with the precondition that WebDAV has for it; `Stop`, why a request ends early; `Answer`, what comes of
//! one.

use http::Response;

use super::{handler::Inner, xml::XmlError};
use crate::{
    locks::{Caller, Locks, Refusal, RefusalCode},
    respond::{DavView, Format, Precondition, ResponseBody, document, render_as, written},
};

/// What comes of a request inside the layer.
pub(super) type Answer<S, B> = Result<Response<ResponseBody<<S as Inner<B>>::ResBody>>, Stop<<S as Inner<B>>::Fault>>;

/// Why a request goes no further.
pub(super) enum Stop<E> {
    /// The layer refuses it.
    Refused(Box<Refused>),
    /// The handler failed at it.
    Failed(E),
}

impl<E> Stop<E> {
    /// The same, where the token of a lock should have covered the target: whichever check found that it does not.
    pub(super) fn unmatched(self) -> Self {
        match self {
            Self::Refused(refused) if matches!(refused.refusal.code(), RefusalCode::LockLost | RefusalCode::NotCovered) => {
                Refused::over(refused.refusal, Precondition::LockTokenMatchesRequestUri).into()
            }
            stop => stop,
        }
    }
}

impl<E> From<Refusal> for Stop<E> {
    fn from(refusal: Refusal) -> Self {
        Refused::plain(refusal).into()
    }
}

impl<E> From<Refused> for Stop<E> {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}

/// A refusal, and what was not as it has to be.
pub(super) struct Refused {
    refusal: Refusal,
    precondition: Option<Precondition>,
    hrefs: Vec<String>,
}

impl Refused {
    /// One that no precondition stands for.
    pub(super) fn plain(refusal: Refusal) -> Self {
        Self { refusal, precondition: None, hrefs: Vec::new() }
    }

    /// One over `precondition`, which failed for no resource in particular.
    pub(super) fn over(refusal: Refusal, precondition: Precondition) -> Self {
        Self { refusal, precondition: Some(precondition), hrefs: Vec::new() }
    }

    /// One over `precondition`, which failed for these resources.
    pub(super) fn for_all(refusal: Refusal, precondition: Precondition, hrefs: Vec<String>) -> Self {
        Self { refusal, precondition: Some(precondition), hrefs }
    }

    /// Why, without what WebDAV calls it.
    pub(super) fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// Counts it and tells the hook of it, as it becomes the answer to `caller`.
    pub(super) fn tell(&mut self, locks: &Locks, caller: &Caller) {
        locks.note_refusal(caller, &mut self.refusal);
    }

    /// The answer, in the form that the client prefers.
    pub(super) fn respond<B>(&self, format: Format, view: &impl DavView) -> Response<ResponseBody<B>> {
        match format {
            Format::Xml => written(&self.refusal, format, document(&self.refusal, self.precondition, &self.hrefs, view)),
            format => render_as(&self.refusal, format),
        }
    }
}

/// A body that is not read: malformed, or with a DTD.
pub(super) fn refuse_xml(error: &XmlError) -> Refused {
    match error {
        XmlError::ExternalEntity => Refused::over(Refusal::forbidden(error.to_string()), Precondition::NoExternalEntities),
        _ => Refused::plain(Refusal::bad_request(error.to_string())),
    }
}
