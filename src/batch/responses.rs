//! `ResponsesBatch`: bulk writes that are answered by a list of `responses`, each with a status of its own.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, uri::PathAndQuery};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    BatchCodec, Item, Unmergeable, Verdicts,
    head::{Deed, Place, expect_json},
    json::{self, Array, Fault},
};
use crate::{locks::Refusal, request::RequestView, respond::Problem};

/// Bulk writes that are answered by 207 and a list of `responses`, one for each item at its position:
///
/// ```json
/// {"responses": [{"id": "a", "status": 204}, {"id": "b", "status": 423, "body": {"title": "Locked", "code": "locked", …}}]}
/// ```
///
/// Each item of the request is an object, in an array that is the body, or a member of it
/// ([`ResponsesBatch::items_in`]). It names what it changes by an `id`, which is a member of the collection that the request is sent to or of
/// [another](ResponsesBatch::members_of), or by a [URL](ResponsesBatch::urls_in). What it does with that is said by the method of the
/// request, or by [its own](ResponsesBatch::methods_in). An item of a POST without an `id` makes a resource that has none yet.
///
/// An item may name others in `dependsOn`, one or a list: where one of those is refused, so is it, with 424. Items that have the same
/// `atomicityGroup` are done all or none, and may be named by that. The `body` of a refused one is the problem document that
/// a request with this item alone would have been answered with; its `id` is a text, also where the item has a number. A success of the service
/// must have as many `responses` as the items that it was sent; its status is kept.
///
/// # What is refused
///
/// Anything that the service could read in another way than this: 415 for another type than `application/json` in UTF-8
/// ([`ResponsesBatch::media_type`] for more), 413 for more than 1,000 items ([`ResponsesBatch::most`]), 400 for all else. A member that is read here
/// and stands twice in an item, or beside one that is called so but for case; an `id` that is neither a text nor a whole number, is empty,
/// has blanks at its ends, or a character that means something in a URL; a URL with a host, a query or a
/// fragment; a method whose effect is not known; `dependsOn` with a name that no item has, or two.
/// That an item stands twice is no fault: each gets its own answer.
///
/// # What it cannot know
///
/// Header fields that stand in an item are not looked at: neither lock tokens nor conditions, nor another method.
#[derive(Clone, Debug)]
pub struct ResponsesBatch {
    places: Vec<Place>,
    types: Vec<String>,
    items_in: Option<String>,
    answers_in: String,
    collection: Option<String>,
    ids_in: String,
    urls_in: Option<String>,
    urls_below: String,
    methods_in: Option<String>,
    after_in: String,
    after: After,
    groups_in: String,
    most: usize,
}

/// How an item says on which others it depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Names,
    Positions,
}

/// The members that are read of an item.
struct Members<'a> {
    id: Option<&'a RawValue>,
    url: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    after: Option<&'a RawValue>,
    group: Option<&'a RawValue>,
}

/// With which others an item stands or falls, as it says itself.
struct Ties<'a> {
    after: Vec<Cow<'a, str>>,
    group: Option<Cow<'a, str>>,
}

impl ResponsesBatch {
    /// Bulk writes that are sent to these paths, as the layer gets them: without what a router outside strips. A segment in
    /// braces stands for any: `/collections/{name}/bulk`. Spellings that some server takes for the same path count as it. A
    /// bulk write to a path that is not named here goes by the locks of its items.
    #[must_use]
    pub fn at<'p>(places: impl IntoIterator<Item = &'p str>) -> Self {
        Self {
            places: places.into_iter().map(Place::new).collect(),
            types: vec!["application/json".to_owned()],
            items_in: None,
            answers_in: "responses".to_owned(),
            collection: None,
            ids_in: "id".to_owned(),
            urls_in: None,
            urls_below: String::new(),
            methods_in: None,
            after_in: "dependsOn".to_owned(),
            after: After::Names,
            groups_in: "atomicityGroup".to_owned(),
            most: 1_000,
        }
    }

    /// The items are the member of this name of the body, not the body itself.
    #[must_use]
    pub fn items_in(mut self, member: impl Into<String>) -> Self {
        self.items_in = Some(member.into());
        self
    }

    /// The answers are in this member; `responses` unless said.
    #[must_use]
    pub fn responses_in(mut self, member: impl Into<String>) -> Self {
        self.answers_in = member.into();
        self
    }

    /// Ids are those of members of the collection at this path, in full, as refusals name it; unless said, of what the request
    /// is sent to.
    #[must_use]
    pub fn members_of(mut self, collection: &str) -> Self {
        self.collection = Some(format!("/{}", collection.trim_matches('/')));
        self
    }

    /// The member of an item that holds its id; `id` unless said.
    #[must_use]
    pub fn ids_in(mut self, member: impl Into<String>) -> Self {
        self.ids_in = member.into();
        self
    }

    /// Items name what they change by the URL in this member, a path that starts with a slash and names its resource in
    /// full, as refusals do. Their `id` is then what the client calls them, and nothing else. Where the service takes the
    /// path for one below a root of its own, say so with [`ResponsesBatch::urls_below`]: the items would go by their locks.
    #[must_use]
    pub fn urls_in(mut self, member: impl Into<String>) -> Self {
        self.urls_in = Some(member.into());
        self
    }

    /// The URLs of items are below this path: with `/v1.0`, `/docs/7` is `/v1.0/docs/7`.
    #[must_use]
    pub fn urls_below(mut self, root: &str) -> Self {
        self.urls_below = root.trim_end_matches('/').to_owned();
        if !self.urls_below.is_empty() && !self.urls_below.starts_with('/') {
            self.urls_below.insert(0, '/');
        }
        self
    }

    /// Items say in this member by which method they are done; one that does not, by that of the request. GET, HEAD and
    /// OPTIONS change nothing.
    #[must_use]
    pub fn methods_in(mut self, member: impl Into<String>) -> Self {
        self.methods_in = Some(member.into());
        self
    }

    /// Items name in this member the ids of those that they depend on; `dependsOn` unless said.
    #[must_use]
    pub fn depends_on_names_in(mut self, member: impl Into<String>) -> Self {
        (self.after_in, self.after) = (member.into(), After::Names);
        self
    }

    /// Items name in this member the positions of those that they depend on, from 0. Where some items are taken out, the
    /// positions are written anew in the others.
    #[must_use]
    pub fn depends_on_positions_in(mut self, member: impl Into<String>) -> Self {
        (self.after_in, self.after) = (member.into(), After::Positions);
        self
    }

    /// Items that have the same value in this member are done all or none; `atomicityGroup` unless said.
    #[must_use]
    pub fn groups_in(mut self, member: impl Into<String>) -> Self {
        self.groups_in = member.into();
        self
    }

    /// Bodies of this type are read as well, beside `application/json`: `application/vnd.bulk+json`.
    #[must_use]
    pub fn media_type(mut self, media_type: impl Into<String>) -> Self {
        self.types.push(media_type.into());
        self
    }

    /// How many items one request may have, 1,000 unless said; more is 413. [`Limits::items`](crate::Limits::items) holds as
    /// well.
    #[must_use]
    pub fn most(mut self, items: usize) -> Self {
        self.most = items;
        self
    }

    fn array<'a>(&self, body: &'a Bytes) -> Result<Array<'a>, Fault> {
        Array::of_objects(json::text(body)?, self.items_in.as_deref(), self.most)
    }

    fn members<'a>(&self, item: &'a RawValue) -> Result<Members<'a>, Fault> {
        let ids = &*self.ids_in;
        // A member that is not read stands here under a name that was asked for before, so nothing is found for it.
        let (urls, methods) = (self.urls_in.as_deref().unwrap_or(ids), self.methods_in.as_deref().unwrap_or(ids));
        let found = json::members(item, [ids, &self.after_in, &self.groups_in, urls, methods])?;
        let [id, after, group, url, method] = found.map(json::present);
        Ok(Members { id, url, method, after, group })
    }

    fn item(&self, members: &Members<'_>, of_request: Deed) -> Result<Item, Fault> {
        let deed = match members.method {
            None => Some(of_request),
            Some(method) => {
                let within = |fault: Fault| fault.within(self.methods_in.as_deref().unwrap_or_default());
                let method = json::word(method).map_err(within)?;
                Deed::of_item(&method).transpose().map_err(|why| within(Fault::new(why)))?
            }
        };
        let named = |item: Item, name: Option<Cow<'_, str>>| match name {
            Some(name) => item.named(name),
            None => item,
        };
        if let Some(urls) = &self.urls_in {
            let name = members.id.map(json::word).transpose().map_err(|fault| fault.within(&self.ids_in))?;
            let path = members.url.ok_or_else(|| Fault::new("it is missing")).and_then(path);
            let path = path.map_err(|fault| fault.within(urls))?;
            return Ok(named(change(deed, format!("{}{path}", self.urls_below)), name));
        }
        let id = members.id.map(json::id).transpose().map_err(|fault| fault.within(&self.ids_in))?;
        let item = match (&id, deed) {
            (Some(id), deed) => {
                let segment = Item::segment(id);
                change(
                    deed,
                    match &self.collection {
                        Some(collection) => format!("{}/{segment}", collection.trim_end_matches('/')),
                        None => segment,
                    },
                )
            }
            (None, None | Some(Deed::Create)) => Item::nothing(),
            (None, Some(_)) => return Err(Fault::new("it is missing").within(&self.ids_in)),
        };
        Ok(named(item, id))
    }

    fn ties<'a>(&self, members: &Members<'a>) -> Result<Ties<'a>, Fault> {
        let group = members.group.map(json::word).transpose().map_err(|fault| fault.within(&self.groups_in))?;
        Ok(Ties { after: self.others(members.after)?, group })
    }

    /// The words that an item names others by.
    fn others<'a>(&self, after: Option<&'a RawValue>) -> Result<Vec<Cow<'a, str>>, Fault> {
        let Some(after) = after else { return Ok(Vec::new()) };
        let within = |fault: Fault| fault.within(&self.after_in);
        let each = json::one_or_several(after, self.most).map_err(within)?;
        each.into_iter().map(|other| json::word(other).map_err(within)).collect()
    }

    /// The positions of the items that each of them depends on.
    fn dependencies(&self, items: &[Item], ties: &[Ties<'_>]) -> Result<Vec<Vec<usize>>, Fault> {
        let mut first_of: HashMap<&str, usize> = HashMap::new();
        for (at, tie) in ties.iter().enumerate() {
            if let Some(group) = &tie.group {
                first_of.entry(group).or_insert(at);
            }
        }
        // Who depends on a group depends on all of it, and so on its first. Two of one name: nobody knows which is meant.
        let mut by_name: HashMap<&str, Option<usize>> = first_of.iter().map(|(group, at)| (*group, Some(*at))).collect();
        for (at, name) in items.iter().enumerate().filter_map(|(at, item)| Some((at, item.name()?))) {
            by_name.entry(name).and_modify(|at| *at = None).or_insert(Some(at));
        }
        let position = |other: &Cow<'_, str>| match self.after {
            After::Names => match by_name.get(&**other) {
                Some(Some(at)) => Ok(*at),
                Some(None) => Err("several have this name"),
                None => Err("none has this name"),
            },
            After::Positions => position(other).filter(|at| *at < items.len()).ok_or("there is no item at this position"),
        };
        let mut all = Vec::with_capacity(ties.len());
        for (at, tie) in ties.iter().enumerate() {
            let positions = tie.after.iter().map(position).collect::<Result<Vec<usize>, _>>();
            all.push(positions.map_err(|why| Fault::new(why).within(&self.after_in).within(format_args!("item {at}")))?);
        }
        // All of a group or none: each depends on the first, and that on each.
        for (at, tie) in ties.iter().enumerate() {
            if let Some(first) = tie.group.as_ref().map(|group| first_of[&**group]).filter(|first| *first != at) {
                all[at].push(first);
                all[first].push(at);
            }
        }
        for positions in &mut all {
            positions.sort_unstable();
            positions.dedup();
        }
        Ok(all)
    }

    /// An item with the positions that it depends on as they are among those that are kept.
    fn moved(&self, item: &str, kept: &[usize]) -> Result<String, Fault> {
        let raw = json::root(item)?;
        let Some(after) = self.members(raw)?.after else { return Ok(item.to_owned()) };
        let moved = |other: Cow<'_, str>| {
            let place = position(&other).and_then(|at| kept.binary_search(&at).ok());
            place.ok_or_else(|| Fault::new("it depends on an item that is not kept").within(&self.after_in))
        };
        let positions = self.others(Some(after))?.into_iter().map(moved).collect::<Result<Vec<usize>, _>>()?;
        let span = json::span(item, after.get());
        let positions = match &positions[..] {
            [only] if !after.get().starts_with('[') => only.to_string(),
            all => json::written(&all),
        };
        Ok(format!("{}{positions}{}", &item[..span.start], &item[span.end..]))
    }

    fn results<'a>(&self, verdicts: &Verdicts, mut of_service: impl Iterator<Item = &'a str>) -> Vec<Cow<'a, str>> {
        let result = |position| match verdicts.refusal(position) {
            Some(refusal) => Cow::Owned(json::written(&Refused {
                id: verdicts.name(position),
                status: refusal.status().as_u16(),
                body: Problem::of(refusal),
            })),
            // As many as were admitted have been counted.
            None => Cow::Borrowed(of_service.next().unwrap_or("null")),
        };
        (0..verdicts.len()).map(result).collect()
    }
}

impl BatchCodec for ResponsesBatch {
    fn is_bulk(&self, request: RequestView<'_>) -> bool {
        self.places.iter().any(|place| place.fits(request.uri.path()))
    }

    fn read(&self, request: RequestView<'_>, body: &Bytes) -> Result<Vec<Item>, Refusal> {
        let deed = Deed::of(request)?;
        expect_json(request.headers, &self.types)?;
        let array = self.array(body)?;
        let (mut items, mut ties) = (Vec::with_capacity(array.each.len()), Vec::with_capacity(array.each.len()));
        for (at, item) in array.each.iter().enumerate() {
            let read = self.members(item).and_then(|members| Ok((self.item(&members, deed)?, self.ties(&members)?)));
            let (item, tie) = read.map_err(|fault| fault.within(format_args!("item {at}")))?;
            items.push(item);
            ties.push(tie);
        }
        let dependencies = self.dependencies(&items, &ties)?;
        let depending = |(item, after): (Item, Vec<usize>)| after.into_iter().fold(item, Item::after);
        Ok(items.into_iter().zip(dependencies).map(depending).collect())
    }

    fn keep(&self, _request: RequestView<'_>, body: &Bytes, kept: &[usize]) -> Result<Bytes, Refusal> {
        let array = self.array(body)?;
        let items = kept.iter().filter_map(|at| array.each.get(*at)).map(|item| item.get());
        match self.after {
            After::Names => Ok(array.with(items)),
            After::Positions => {
                Ok(array.with(items.map(|item| self.moved(item, kept)).collect::<Result<Vec<String>, Fault>>()?))
            }
        }
    }

    fn merge(&self, verdicts: &Verdicts, answer: Option<Response<Bytes>>) -> Result<Response<Bytes>, Unmergeable> {
        let Some(answer) = answer else {
            let results = self.results(verdicts, std::iter::empty()).join(",");
            let member = json::written(&self.answers_in);
            let mut response = Response::new(format!("{{{member}:[{results}]}}").into());
            *response.status_mut() = StatusCode::MULTI_STATUS;
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            return Ok(response);
        };
        let array = Array::of_objects(json::text(answer.body())?, Some(&self.answers_in), usize::MAX)?;
        let admitted = verdicts.admitted().count();
        if array.each.len() != admitted {
            let why = format!("{}: there are {} for {admitted} items", self.answers_in, array.each.len());
            return Err(Unmergeable::new(why));
        }
        let merged = array.with(self.results(verdicts, array.each.iter().map(|result| result.get())));
        Ok(answer.map(|_| merged))
    }

    fn done(&self, verdicts: &Verdicts, answer: &Response<Bytes>) -> Vec<usize> {
        let Ok(document) = json::text(answer.body()) else { return Vec::new() };
        let Ok(array) = Array::of_objects(document, Some(&self.answers_in), usize::MAX) else { return Vec::new() };
        let admitted: Vec<usize> = verdicts.admitted().collect();
        if array.each.len() != admitted.len() {
            return Vec::new();
        }
        let mut by_name: HashMap<&str, Option<usize>> = HashMap::new();
        for position in &admitted {
            if let Some(name) = verdicts.name(*position) {
                by_name.entry(name).and_modify(|position| *position = None).or_insert(Some(*position));
            }
        }
        let done = |(position, result): (&usize, &&RawValue)| {
            let [id, status] = json::members(result, ["id", "status"]).ok()?;
            let status = json::word(status?).ok()?.parse::<u16>().ok()?;
            // Accepted is not done, and a status of several parts is not one of them all.
            if !(200..300).contains(&status) || matches!(status, 202 | 207) {
                return None;
            }
            let Some(id) = json::present(id) else { return Some(*position) };
            let id = json::word(id).ok()?;
            // Some services answer in an order of their own.
            if verdicts.name(*position) == Some(&id) { Some(*position) } else { *by_name.get(&*id)? }
        };
        let mut done: Vec<usize> = admitted.iter().zip(&array.each).filter_map(done).collect();
        done.sort_unstable();
        done.dedup();
        done
    }
}

fn change(deed: Option<Deed>, path: String) -> Item {
    match deed {
        None => Item::nothing(),
        Some(Deed::Create | Deed::Update) => Item::write_or_create(path),
        Some(Deed::Delete) => Item::unlink(path),
    }
}

/// A position, written as numbers are.
fn position(text: &str) -> Option<usize> {
    text.parse().ok().filter(|position: &usize| position.to_string() == text)
}

/// The path that a URL is: as in a request target, of this host, without a query.
fn path(url: &RawValue) -> Result<String, Fault> {
    let url = json::word(url)?;
    if !url.starts_with('/') || url.starts_with("//") {
        return Err(Fault::new("a path that starts with a slash, without a host"));
    }
    // A resolver is not told the query of an item.
    if url.contains(['?', '#']) {
        return Err(Fault::new("a path without query and fragment"));
    }
    if url.contains('\\') || PathAndQuery::try_from(&*url).is_err() || !url.is_ascii() {
        return Err(Fault::new("characters that are not percent-encoded"));
    }
    Ok(url.into_owned())
}

/// The answer to an item that was refused.
#[derive(Serialize)]
struct Refused<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'r str>,
    status: u16,
    body: Problem<'r>,
}
