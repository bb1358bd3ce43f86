//! `Conditions`: what a request's `If` and `Lock-Token` headers say (RFC 4918 sections 10.4 and 10.5).

mod entity_tags;
mod few;
mod parse;

use std::{borrow::Cow, fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};

use self::{
    few::Few,
    parse::{Item, Parser},
};
use super::{
    RequestError, RequestView, ResolveTargets, Role,
    destination::{is_absolute_uri, reference_path},
    resolve::resolve_in,
};
use crate::lock::{LockToken, ResourceKey};

/// The most lock tokens a request may submit.
pub const MAX_TOKENS: usize = 64;

/// The most conditions an `If` header may have, in all its lists.
pub const MAX_CONDITIONS: usize = 256;

/// Header fields of which each is looked at for its name, rather than that looked up.
const FEW: usize = 24;

const IF: &str = "If";
const LOCK_TOKEN: &str = "Lock-Token";

// Made once: as texts they would be parsed again on every write.
static IF_NAME: HeaderName = HeaderName::from_static("if");
static LOCK_TOKEN_NAME: HeaderName = HeaderName::from_static("lock-token");

/// The conditions of a request, and the lock tokens that it submits.
///
/// A token counts as submitted wherever it stands in `If`, in a list that is false or behind `Not` too (RFC 4918
/// section 10.4.1), and as the `Lock-Token`. `DAV:no-lock` and URIs of other kinds are never lock tokens.
#[derive(Clone, Debug)]
pub struct Conditions<'r> {
    lists: Few<List<'r>>,
    tokens: Few<LockToken>,
    lock_token: Option<StateToken>,
}

/// One list of the `If` header: true when each of its conditions is.
#[derive(Clone, Debug)]
pub struct List<'r> {
    tag: Option<&'r [u8]>,
    resources: Resources<'r>,
    conditions: Few<Condition<'r>>,
}

/// The resources that a list is about.
#[derive(Clone, Debug)]
enum Resources<'r> {
    /// Mostly one, that of the only list.
    One(ResourceKey<'r>),
    /// None or several, or those of several lists.
    Shared(Arc<[ResourceKey<'r>]>),
}

/// One condition of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition<'r> {
    /// Whether the resource has this state.
    State(Expected, StateToken),
    /// Whether the resource has this entity tag.
    EntityTag(Expected, EntityTag<'r>),
}

/// Whether a condition stands behind `Not`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is to match.
    Match,
    /// It is not to match: `Not`.
    NoMatch,
}

/// What a state token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StateToken {
    /// A lock, by its token.
    Lock(LockToken),
    /// `DAV:no-lock`, which matches nothing (RFC 4918 section 10.4.8).
    NoLock,
    /// A URI that is no lock token of this crate's; it matches nothing.
    Foreign,
}

/// An entity tag as it stands in `If` (RFC 9110 section 8.8.3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EntityTag<'r> {
    text: &'r [u8],
}

/// Whether an `If` header is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is, or there is none.
    True,
    /// Every list has a false condition.
    False {
        /// The tokens that were to match and did not, in order, each once. Empty when the header is false for another
        /// reason: `DAV:no-lock`, a URI that is no lock token, a lock that there was not to be.
        failed: Vec<LockToken>,
    },
}

impl<'r> Conditions<'r> {
    /// No conditions, no tokens.
    pub const NONE: Self = Self { lists: Few::NONE, tokens: Few::NONE, lock_token: None };

    /// The conditions of `request`. Lists without a tag are about the request target. Without either header this
    /// allocates nothing and does not ask the resolver.
    ///
    /// # Errors
    /// A header that is not what RFC 4918 says, or that comes twice; a tag that has no key; more than [`MAX_TOKENS`] lock
    /// tokens or [`MAX_CONDITIONS`] conditions. Answered 400.
    pub fn parse(
        request: RequestView<'r>,
        resolver: &dyn ResolveTargets,
        namespace: Option<&Cow<'r, str>>,
    ) -> Result<Self, RequestError> {
        let mut conditions = Self::NONE;
        if let Some(fields) = ConditionFields::of(request.headers) {
            conditions.read(&fields, request, resolver, namespace, None)?;
        }
        Ok(conditions)
    }

    /// What `fields` say, where that is what they mostly say: one lock token, in an `If` that is about `target`, what the request
    /// target means, or as the `Lock-Token`, or in both.
    #[inline]
    pub(crate) fn of_one_token(fields: &ConditionFields<'r>, target: &ResourceKey<'r>) -> Option<Self> {
        let matched = match fields.conditions {
            Field::Absent => None,
            Field::Once(header) => Some(sole_token(header)?),
            Field::Several => return None,
        };
        let demanded = match fields.lock_token {
            Field::Absent => None,
            Field::Once(header) => Some(LockToken::of_urn(header.strip_prefix(b"<")?.strip_suffix(b">")?)?),
            Field::Several => return None,
        };
        let token = match (matched, demanded) {
            (Some(token), None) | (None, Some(token)) => token,
            (Some(token), Some(other)) if token == other => token,
            _ => return None,
        };
        let lists = match matched {
            Some(_) => Few::One(List {
                tag: None,
                resources: Resources::One(target.clone()),
                conditions: Few::One(Condition::State(Expected::Match, StateToken::Lock(token))),
            }),
            None => Few::NONE,
        };
        Some(Self { lists, tokens: Few::One(token), lock_token: demanded.map(StateToken::Lock) })
    }

    /// Reads `fields` of `request`, whose target means `target` alone, if that is known.
    pub(crate) fn read(
        &mut self,
        fields: &ConditionFields<'r>,
        request: RequestView<'r>,
        resolver: &dyn ResolveTargets,
        namespace: Option<&Cow<'r, str>>,
        target: Option<&ResourceKey<'r>>,
    ) -> Result<(), RequestError> {
        if let Some(header) = fields.conditions.only(IF)? {
            self.read_if(header, |tag| {
                let (role, path) = match (tag, target) {
                    (None, Some(target)) => return Ok(Resources::One(target.clone())),
                    (None, None) => (Role::Target, Cow::Borrowed(request.uri.path())),
                    (Some(tag), _) => (Role::Tag, reference_path(IF, tag)?),
                };
                Ok(match resolve_in(request, role, path, resolver, namespace)?.single() {
                    Ok(key) => Resources::One(key),
                    Err(keys) => Resources::Shared(keys.into()),
                })
            })?;
        }
        if let Some(header) = fields.lock_token.only(LOCK_TOKEN)? {
            let state = coded_url(header)?;
            if let StateToken::Lock(token) = state {
                self.submit(token)?;
            }
            self.lock_token = Some(state);
        }
        Ok(())
    }

    fn read_if(
        &mut self,
        header: &'r [u8],
        mut resources_of: impl FnMut(Option<&'r [u8]>) -> Result<Resources<'r>, RequestError>,
    ) -> Result<(), RequestError> {
        if let Some(token) = sole_token(header) {
            let condition = Condition::State(Expected::Match, StateToken::Lock(token));
            self.lists = Few::One(List { tag: None, resources: resources_of(None)?, conditions: Few::One(condition) });
            if self.tokens().is_empty() {
                // As always, but where somebody submitted one before.
                self.tokens = Few::One(token);
                return Ok(());
            }
            return self.submit(token);
        }
        let mut coming = None;
        let mut about = None;
        let mut count = 0;
        for item in Parser::new(header) {
            match item.map_err(|why| RequestError::malformed(IF, why))? {
                Item::Tag(tag) => {
                    about = Some(tag);
                    coming = Some(resources_of(about)?);
                }
                Item::List => {
                    let resources = match (coming.take(), self.lists.as_mut_slice()) {
                        (Some(resources), _) => resources,
                        (None, [.., last]) => last.resources.share(),
                        (None, []) => resources_of(None)?,
                    };
                    self.lists.push(List { tag: about, resources, conditions: Few::NONE });
                }
                Item::State(expected, uri) => {
                    let state = StateToken::of(uri).ok_or_else(|| {
                        RequestError::malformed(IF, "a state token is an absolute URI (RFC 4918 section 10.4.2)")
                    })?;
                    if let StateToken::Lock(token) = state {
                        self.submit(token)?;
                    }
                    self.add(Condition::State(expected, state), &mut count)?;
                }
                Item::EntityTag(expected, text) => {
                    self.add(Condition::EntityTag(expected, EntityTag { text }), &mut count)?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, condition: Condition<'r>, count: &mut usize) -> Result<(), RequestError> {
        if *count == MAX_CONDITIONS {
            return Err(RequestError::TooMany { what: "conditions in If", limit: MAX_CONDITIONS });
        }
        *count += 1;
        if let Some(list) = self.lists.as_mut_slice().last_mut() {
            list.conditions.push(condition);
        }
        Ok(())
    }

    /// Whether there are neither conditions nor tokens.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty() & self.tokens.is_empty() & self.lock_token.is_none()
    }

    /// The lock tokens that the request submits, each once; at most [`MAX_TOKENS`].
    #[must_use]
    pub fn tokens(&self) -> &[LockToken] {
        self.tokens.as_slice()
    }

    /// Submit a token that came another way: in a query, in a body.
    ///
    /// # Errors
    /// [`RequestError::TooMany`] past [`MAX_TOKENS`].
    pub fn submit(&mut self, token: LockToken) -> Result<(), RequestError> {
        if self.tokens().contains(&token) {
            return Ok(());
        }
        if self.tokens().len() == MAX_TOKENS {
            return Err(RequestError::TooMany { what: "lock tokens", limit: MAX_TOKENS });
        }
        self.tokens.push(token);
        Ok(())
    }

    /// Submit a token that came another way, and count it as the `Lock-Token` unless that header was there.
    ///
    /// # Errors
    /// [`RequestError::TooMany`] past [`MAX_TOKENS`].
    pub fn demand(&mut self, token: LockToken) -> Result<(), RequestError> {
        self.submit(token)?;
        self.lock_token.get_or_insert(StateToken::Lock(token));
        Ok(())
    }

    /// What the `Lock-Token` header names. On a write it is one more condition, which [`Conditions::holds`] does not
    /// look at: that token is live, the caller's, and covers something that the write changes.
    #[must_use]
    pub fn lock_token(&self) -> Option<StateToken> {
        self.lock_token
    }

    /// The lists of `If`; one of them has to be true.
    #[must_use]
    pub fn lists(&self) -> &[List<'r>] {
        self.lists.as_slice()
    }

    /// Whether `If` is true, given which lock tokens match which resources: a token matches a resource that its lock
    /// covers (RFC 4918 section 10.4.4). Of a tag that means several resources, one is enough.
    ///
    /// What entity tags a resource has is not known here, so a condition on one is counted true, behind `Not` as well:
    /// it never makes a list fail. Whoever knows the entity tags asks [`Conditions::decide_entity_tags`] first.
    pub fn holds(&self, mut matches: impl FnMut(&LockToken, &ResourceKey<'_>) -> bool) -> Held {
        if self.lists().is_empty() {
            return Held::True;
        }
        let mut failed = Vec::new();
        for list in self.lists() {
            let mut holds = true;
            for condition in list.conditions() {
                let Condition::State(expected, state) = condition else { continue };
                let matched = match state {
                    StateToken::Lock(token) => list.resources().iter().any(|resource| matches(token, resource)),
                    StateToken::NoLock | StateToken::Foreign => false,
                };
                if matched == (*expected == Expected::Match) {
                    continue;
                }
                holds = false;
                match state {
                    StateToken::Lock(token) if *expected == Expected::Match && !failed.contains(token) => {
                        failed.push(*token);
                    }
                    _ => {}
                }
            }
            if holds {
                return Held::True;
            }
        }
        Held::False { failed }
    }
}

#[cfg(feature = "webdav")]
impl<'r> Conditions<'r> {
    /// That the lock with this token covers `resource`.
    pub(crate) fn covering(token: LockToken, resource: ResourceKey<'r>) -> Self {
        let state = Condition::State(Expected::Match, StateToken::Lock(token));
        let list = List { tag: None, resources: Resources::One(resource), conditions: Few::One(state) };
        Self { lists: Few::One(list), tokens: Few::One(token), lock_token: None }
    }
}

impl<'r> Conditions<'r> {
    /// The one token that all of them are about, where they say no more than most that say anything: that it is the lock's on
    /// some resource (`If: (<…>)`), that it is one of the writer's (`Lock-Token`), or both; and what the resource is, where one
    /// is named.
    #[inline]
    pub(crate) fn sole(&self) -> Option<Sole<'_, 'r>> {
        let Few::One(token) = &self.tokens else { return None };
        let resource = match &self.lists {
            Few::None => None,
            Few::One(List { resources: Resources::One(resource), conditions: Few::One(condition), .. })
                if *condition == Condition::State(Expected::Match, StateToken::Lock(*token)) =>
            {
                Some(resource)
            }
            _ => return None,
        };
        let demanded = match &self.lock_token {
            None => false,
            Some(StateToken::Lock(demanded)) if demanded == token => true,
            Some(_) => return None,
        };
        Some(Sole { resource, demanded })
    }
}

/// Conditions about one token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sole<'c, 'r> {
    /// What its lock is to cover, if anything.
    pub(crate) resource: Option<&'c ResourceKey<'r>>,
    /// Whether it is to be the writer's, and to cover something that is written.
    pub(crate) demanded: bool,
}

impl Conditions<'_> {
    /// What stands in the way of a write: the tokens that were to match and did not, `Lock-Token` included; none when
    /// every condition is true. `matches` is as for [`Conditions::holds`]; `its_own` says of a token whether its lock is
    /// live, the caller's, and covers something that the write changes.
    pub(crate) fn failed_on_write(
        &self,
        matches: impl FnMut(&LockToken, &ResourceKey<'_>) -> bool,
        its_own: impl FnOnce(&LockToken) -> bool,
    ) -> Option<Vec<LockToken>> {
        let mut failed = match self.holds(matches) {
            Held::True => None,
            Held::False { failed } => Some(failed),
        };
        match self.lock_token {
            None => {}
            Some(StateToken::Lock(token)) if its_own(&token) => {}
            Some(StateToken::Lock(token)) => {
                let failed = failed.get_or_insert_default();
                if !failed.contains(&token) {
                    failed.push(token);
                }
            }
            Some(_) => drop(failed.get_or_insert_default()),
        }
        failed
    }

    /// The same conditions for somebody who evaluates them later. Those on entity tags are left out: they count true.
    #[cfg(any(feature = "redis", feature = "postgres"))]
    pub(crate) fn to_owned_without_tags(&self) -> Conditions<'static> {
        let lists = self.lists().iter().map(|list| List {
            tag: None,
            resources: Resources::Shared(list.resources().iter().map(|key| key.clone().into_owned()).collect()),
            conditions: list.conditions().iter().filter_map(Condition::state).collect(),
        });
        Conditions { lists: lists.collect(), tokens: self.tokens.clone(), lock_token: self.lock_token }
    }
}

#[cfg(any(feature = "redis", feature = "postgres"))]
impl Condition<'_> {
    fn state(&self) -> Option<Condition<'static>> {
        match *self {
            Self::State(expected, token) => Some(Condition::State(expected, token)),
            Self::EntityTag(..) => None,
        }
    }
}

impl<'r> List<'r> {
    /// The resources that the list is about: those of its tag, or of the request target.
    #[must_use]
    pub fn resources(&self) -> &[ResourceKey<'r>] {
        match &self.resources {
            Resources::One(resource) => std::slice::from_ref(resource),
            Resources::Shared(resources) => resources,
        }
    }

    /// The tag as it was sent: an absolute URI or an absolute path, percent-encoded; none where the list is about the
    /// request target.
    #[must_use]
    pub fn tag(&self) -> Option<&'r [u8]> {
        self.tag
    }

    /// The conditions; never none, unless those on entity tags were [decided](Conditions::decide_entity_tags).
    #[must_use]
    pub fn conditions(&self) -> &[Condition<'r>] {
        self.conditions.as_slice()
    }
}

impl Resources<'_> {
    /// The same, for one more list.
    fn share(&mut self) -> Self {
        if let Self::One(key) = self {
            let key = std::mem::replace(key, ResourceKey::from_canonical("/"));
            *self = Self::Shared(Arc::new([key]));
        }
        self.clone()
    }
}

impl Default for Conditions<'_> {
    fn default() -> Self {
        Self::NONE
    }
}

impl StateToken {
    /// What an absolute URI names; nothing if it is none.
    fn of(uri: &[u8]) -> Option<Self> {
        if let Some(token) = LockToken::of_urn(uri) {
            return Some(Self::Lock(token));
        }
        if !is_absolute_uri(uri) {
            return None;
        }
        if uri.eq_ignore_ascii_case(b"DAV:no-lock") {
            return Some(Self::NoLock);
        }
        Some(Self::Foreign)
    }
}

impl<'r> EntityTag<'r> {
    /// The tag as it was sent: `"abc"` or `W/"abc"`. Octets of `obs-text` are as they came.
    #[must_use]
    pub fn as_bytes(&self) -> &'r [u8] {
        self.text
    }

    /// Whether it is weak.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.text.starts_with(b"W/")
    }

    /// What stands between the quotes.
    #[must_use]
    pub fn opaque(&self) -> &'r [u8] {
        let quoted = self.text.strip_prefix(b"W/").unwrap_or(self.text);
        quoted.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(quoted)
    }
}

impl fmt::Debug for EntityTag<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntityTag({})", self.text.escape_ascii())
    }
}

impl Held {
    /// Whether the header is true.
    #[must_use]
    pub fn is_true(&self) -> bool {
        matches!(self, Self::True)
    }

    /// The tokens that were to match and did not.
    #[must_use]
    pub fn failed(&self) -> &[LockToken] {
        match self {
            Self::True => &[],
            Self::False { failed } => failed,
        }
    }
}

/// The header fields that have conditions, unread.
pub(crate) struct ConditionFields<'r> {
    conditions: Field<'r>,
    lock_token: Field<'r>,
}

/// A header field that may come once.
enum Field<'r> {
    Absent,
    Once(&'r [u8]),
    Several,
}

impl<'r> ConditionFields<'r> {
    const NONE: Self = Self { conditions: Field::Absent, lock_token: Field::Absent };

    /// Whether there are any in `headers`.
    #[inline]
    pub(crate) fn are_in(headers: &HeaderMap) -> bool {
        !headers.is_empty() && Self::are_among(headers)
    }

    #[inline(never)]
    fn are_among(headers: &HeaderMap) -> bool {
        // To look at each name is quicker than to hash these two, as long as there are as few as most requests have.
        match headers.len() {
            ..=FEW => headers.keys().any(|name| *name == IF_NAME || *name == LOCK_TOKEN_NAME),
            _ => headers.contains_key(&IF_NAME) || headers.contains_key(&LOCK_TOKEN_NAME),
        }
    }

    /// Those in `headers`, well-formed or not.
    #[inline]
    pub(crate) fn of(headers: &'r HeaderMap) -> Option<Self> {
        let mut fields = Self::NONE;
        match headers.len() {
            0 => return None,
            1..=FEW => {
                for (name, value) in headers {
                    match name.as_str() {
                        "if" => fields.conditions.add(value),
                        "lock-token" => fields.lock_token.add(value),
                        _ => {}
                    }
                }
            }
            _ => {
                headers.get_all(&IF_NAME).iter().for_each(|value| fields.conditions.add(value));
                headers.get_all(&LOCK_TOKEN_NAME).iter().for_each(|value| fields.lock_token.add(value));
            }
        }
        (!matches!(fields, Self { conditions: Field::Absent, lock_token: Field::Absent })).then_some(fields)
    }
}

impl<'r> Field<'r> {
    #[inline]
    fn add(&mut self, value: &'r HeaderValue) {
        *self = match self {
            Self::Absent => Self::Once(value.as_bytes()),
            Self::Once(_) | Self::Several => Self::Several,
        };
    }

    fn only(&self, what: &'static str) -> Result<Option<&'r [u8]>, RequestError> {
        match *self {
            Self::Absent => Ok(None),
            Self::Once(value) => Ok(Some(value)),
            Self::Several => Err(RequestError::malformed(what, "there is more than one")),
        }
    }
}

/// The token of an `If` header that is one list with one lock token, spelled as most clients do.
fn sole_token(header: &[u8]) -> Option<LockToken> {
    LockToken::of_urn(header.strip_prefix(b"(<")?.strip_suffix(b">)")?)
}

/// The state token of a `Lock-Token` header. Clients that leave the brackets out are understood.
fn coded_url(header: &[u8]) -> Result<StateToken, RequestError> {
    let text = header.trim_ascii();
    let uri = match text.strip_prefix(b"<") {
        Some(rest) => rest.strip_suffix(b">"),
        None => Some(text),
    };
    uri.filter(|uri| !uri.iter().any(|byte| matches!(byte, b'<' | b'>')))
        .and_then(StateToken::of)
        .ok_or_else(|| RequestError::malformed(LOCK_TOKEN, "it is one absolute URI in angle brackets"))
}

#[cfg(test)]
mod tests;
