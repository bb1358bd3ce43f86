//! `Refused`: a refusal with the precondition that WebDAV has for it, and `Stop`, why a request ends early.

use http::Response;

use super::exchange::Exchange;
use crate::{
    locks::Refusal,
    respond::{DavView, Format, Precondition, ResponseBody, document, render_as, written},
};

/// Why a request goes no further.
pub(super) enum Stop<E> {
    /// The layer refuses it.
    Refused(Box<Refused>),
    /// The handler failed at it.
    Failed(E),
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

    /// Where locks are in the way (423): `precondition` failed for the roots of all of them, or, for who may not see them,
    /// for the target. Other refusals stay as they are.
    pub(super) fn blocked(refusal: Refusal, precondition: Precondition, exchange: &Exchange) -> Self {
        if refusal.status() != http::StatusCode::LOCKED {
            return Self::plain(refusal);
        }
        let mut hrefs: Vec<String> = refusal.locks().iter().map(|lock| exchange.href(lock)).collect();
        hrefs.dedup();
        if hrefs.is_empty() {
            hrefs.push(exchange.parts.uri.path().to_owned());
        }
        Self { refusal, precondition: Some(precondition), hrefs }
    }

    pub(super) fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// The answer, in the form that the client prefers.
    pub(super) fn respond<B>(&self, format: Format, view: &impl DavView) -> Response<ResponseBody<B>> {
        match format {
            Format::Xml => written(&self.refusal, format, document(&self.refusal, self.precondition, &self.hrefs, view)),
            format => render_as(&self.refusal, format),
        }
    }
}
