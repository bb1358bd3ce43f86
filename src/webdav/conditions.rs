//! The conditions of a request, in two halves: entity tags, which the handler is asked for, and lock tokens, which the
//! store knows (RFC 4918 section 10.4).

use http::HeaderValue;

use super::{
    exchange::Exchange,
    handler::{Handler, Inner, Place},
    look::{Look, Mapped, Need},
    refusal::Stop,
};
use crate::{
    lock::ResourceKey,
    locks::{Demand, Refusal, RefusalCode},
    request::{Conditions, List, RequestError, reference_path},
    store::Admitted,
};

/// The most resources whose entity tags one request may ask for: each is a request to the handler.
const MOST_RESOURCES: usize = 16;

/// The conditions of a request, with those on entity tags decided.
pub(super) struct Decided<'c> {
    pub(super) conditions: Conditions<'c>,
    /// What the target must have for the rest to hold: an `If-Match` for the handler.
    pub(super) if_match: Option<HeaderValue>,
}

impl Exchange {
    /// The conditions of the request. Where they speak of entity tags, the handler is asked for those.
    pub(super) async fn decided<S, B>(&self, handler: &mut Handler<S>) -> Result<Decided<'_>, Stop<S::Fault>>
    where
        S: Inner<B>,
    {
        let conditions = self.locks.conditions(self.view(), self.caller.namespace().map(Into::into).as_ref())?;
        if !conditions.has_entity_tags() {
            return Ok(Decided { conditions, if_match: None });
        }
        let mut known: Vec<(Option<&[u8]>, Look)> = Vec::new();
        for list in conditions.lists().iter().filter(|list| list.has_entity_tags()) {
            if known.iter().any(|(tag, _)| *tag == list.tag()) {
                continue;
            }
            if known.len() == MOST_RESOURCES {
                let what = "resources in If whose entity tags matter";
                return Err(Refusal::from(RequestError::TooMany { what, limit: MOST_RESOURCES }).into());
            }
            let path = list.tag().map(|tag| reference_path("If", tag)).transpose().map_err(Refusal::from)?;
            let place = path.as_deref().map_or(Place::Target, |path| Place::Path(self.inside(path)));
            known.push((list.tag(), handler.look(&self.parts, place, Need::EntityTag).await.map_err(Stop::Failed)?));
        }
        let sole = match conditions.lists() {
            [list] if self.is_about_target(list) => list.strong_entity_tag(),
            _ => None,
        };
        let if_match = sole.and_then(|tag| HeaderValue::from_bytes(tag.as_bytes()).ok());
        let decided = conditions.decide_entity_tags(|list, tag| {
            let (_, look) = known.iter().find(|(about, _)| *about == list.tag())?;
            match (look.mapped, &look.entity_tag) {
                (Mapped::Unknown(_), _) => None,
                // What is not there has no state (section 10.4.4), and what does not tell has none either.
                (_, known) => Some(known.as_ref().is_some_and(|known| tag.matches(known.as_bytes()))),
            }
        });
        match decided {
            Ok(conditions) => Ok(Decided { conditions, if_match }),
            Err(_) => {
                let why = "The resource does not have the entity tag that `If` asks for (RFC 4918 section 10.4).";
                Err(Refusal::new(RefusalCode::ConditionFailed, why).into())
            }
        }
    }

    /// Whether a list is about the target, which clients name there too. What has one key may have several entity tags, so
    /// the paths are compared.
    fn is_about_target(&self, list: &List<'_>) -> bool {
        let Some(tag) = list.tag() else { return true };
        let target = &self.parts.uri;
        let same = |path: &str| {
            ResourceKey::parse(self.inside(path)).is_ok_and(|tagged| ResourceKey::parse(target.path()) == Ok(tagged))
        };
        target.query().is_none() && reference_path("If", tag).is_ok_and(|path| same(&path))
    }

    /// Decides the conditions of a request that changes nothing, or whose change is decided elsewhere.
    pub(super) async fn pass<S, B>(&self, handler: &mut Handler<S>, decided: Decided<'_>) -> Result<(), Stop<S::Fault>>
    where
        S: Inner<B>,
    {
        let conditions = decided.conditions.without_lock_token();
        // A list that its entity tags alone make true needs no store, which may be down.
        let lists = conditions.lists();
        if lists.is_empty() || lists.iter().any(|list| list.conditions().is_empty()) {
            return Ok(());
        }
        handler.rest();
        // What a refusal is about: the conditions know their own resources.
        let resource = self.keys()?.into_iter().next().unwrap_or(ResourceKey::from_canonical("/"));
        let verdict = self.locks.judge_write(self.view(), &resource, &[], &conditions, Demand::None).settled();
        let Admitted { permit, .. } = verdict.await?;
        drop(permit);
        Ok(())
    }
}
