//! `VaultBatch`: bulk writes of records as Veeva Vault has them, with a result for each at its position.

use std::{borrow::Cow, fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    BatchCodec, Item, Unmergeable, Verdicts,
    head::{Deed, Place, expect_json},
    json::{self, Array, Fault},
};
use crate::{
    lock::{LockId, Owner, Timestamp},
    locks::{LockView, Refusal, RefusalCode},
    request::RequestView,
};

/// Where Vault takes bulk writes, also where a router outside has stripped what comes first: a bulk write that is not known for
/// one would go by the locks of its records.
const PLACES: [&str; 6] = [
    "/api/{version}/vobjects/{object}",
    "/api/{version}/objects/{object}",
    "/{version}/vobjects/{object}",
    "/{version}/objects/{object}",
    "/vobjects/{object}",
    "/objects/{object}",
];

type RecordOf = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Bulk writes of records in the form of Veeva Vault: `PUT /api/v23.2/vobjects/capa__c` with a JSON array of records.
///
/// POST, PUT, PATCH and DELETE of `/api/{version}/vobjects/{object}` and of `/api/{version}/objects/{object}`, also where a
/// router outside has stripped `/api` or the version from them ([`VaultBatch::at`] for others). Each record is an object that names itself by `id`. It is locked as what it is alone,
/// `…/{object}/{id}`: the member of the collection that the request is sent to. A record without an `id` is one to be made in
/// a POST, and nothing that could be locked; else it is 400.
///
/// The answer is 200 with a result for each record, in their order. The refused ones look like this, with an error for each lock in the way:
///
/// ```json
/// {"responseStatus": "FAILURE", "errors": [{"type": "RECORD_LOCKED", "message": "… is locked by QA (under review) until …",
///   "code": "locked", "resource": "/api/v23.2/vobjects/capa__c/V0B1", "lock_id": "…", "owner": {"id": "u-17", "name": "QA"},
///   "reason": "under review", "expires_at": "…Z", "retry_after": 840}]}
/// ```
///
/// `type` of other refusals than by a lock is their code in capitals. Of locks that the caller may not see there is a message and no more.
/// A success of the service must have a result in `data` for each record that it was sent; one that says `FAILURE` or `EXCEPTION` of the whole
/// request and has no `data` is told of each of those records.
///
/// # What is refused
///
/// Anything that the service could read in another way than this: 415 for another type than `application/json` in UTF-8 (CSV), 413 for more
/// than 500 records ([`VaultBatch::most`]), 400 for all else. An `id` that stands twice in a record, or beside one called `ID`;
/// an `id` that is neither a text nor a whole number, is empty, has blanks at its ends, or a character that means something in a
/// URL; a text that is not JSON to the letter; `idParam` that was not [told of](VaultBatch::id_param); a method in a header or a parameter.
/// That a record stands twice is no fault: each gets its own result.
///
/// # What it cannot know
///
/// - **One record under two paths.** Where several versions of an API, or both `objects` and `vobjects`, reach the same
///   records, they need one key, in bulk or not. So does an id that the service reads as a number, where `"07"` and 7 are one:
///
/// ```
/// use tower_lock::{Locks, MemoryStore, lock::{KeyError, ResourceKey}, request::Resolved};
///
/// let locks = Locks::builder(MemoryStore::new())
///     .keys_fn(|ask| {
///         let key = ResourceKey::parse(ask.path)?;
///         match key.path().split('/').collect::<Vec<_>>()[1..] {
///             // What a refusal names can be asked about under that name.
///             ["records", ..] => Ok(key.clone().into()),
///             ["api", _version, "objects" | "vobjects", ref record @ ..] =>
///                 Ok(ResourceKey::from_canonical(format!("/records/{}", record.join("/"))).into()),
///             _ => Err(KeyError::Unresolved),
///         }
///     })
///     .build();
/// # let _ = locks;
/// ```
/// - **Records that a write changes beside those it names**: by a trigger, by a child object in the body.
/// - **Bulk actions at other paths**, with ids in a form: guard their whole collection, or write a [`BatchCodec`].
#[derive(Clone)]
pub struct VaultBatch {
    places: Vec<Place>,
    types: [String; 1],
    error_type: Cow<'static, str>,
    most: usize,
    id_params: Vec<(String, RecordOf)>,
}

impl VaultBatch {
    /// Bulk writes as Vault has them.
    #[must_use]
    pub fn new() -> Self {
        Self {
            places: PLACES.map(Place::new).into(),
            types: ["application/json".to_owned()],
            error_type: Cow::Borrowed("RECORD_LOCKED"),
            most: 500,
            id_params: Vec::new(),
        }
    }

    /// Bulk writes are sent to these paths instead, as the layer gets them: without what a router outside strips. A segment in
    /// braces stands for any: `/api/{version}/records/{object}`. Spellings that some server takes for the same path count as
    /// it. A bulk write to a path that is not named here goes by the locks of its records.
    #[must_use]
    pub fn at<'p>(mut self, places: impl IntoIterator<Item = &'p str>) -> Self {
        self.places = places.into_iter().map(Place::new).collect();
        self
    }

    /// The `type` of an error about a lock; `RECORD_LOCKED` unless said.
    #[must_use]
    pub fn error_type(mut self, error_type: impl Into<Cow<'static, str>>) -> Self {
        self.error_type = error_type.into();
        self
    }

    /// How many records one request may have, 500 unless said; more is 413. [`Limits::items`](crate::Limits::items) holds as
    /// well.
    #[must_use]
    pub fn most(mut self, records: usize) -> Self {
        self.most = records;
        self
    }

    /// `?idParam={field}` is allowed: records are named by that field, and `record_of` tells the id of the record. Where it
    /// knows of none, a POST makes a new one, and any other request is 400. A request with an `idParam` that was not told of is 400:
    /// nobody knows which records it changes.
    ///
    /// It is asked before the locks are. What it answers must stay true until the write is done.
    #[must_use]
    pub fn id_param<F>(mut self, field: impl Into<String>, record_of: F) -> Self
    where
        F: Fn(&str) -> Option<String> + Send + Sync + 'static,
    {
        self.id_params.push((field.into(), Arc::new(record_of)));
        self
    }

    /// Which member names a record of this request, and how that becomes an id.
    fn naming(&self, request: RequestView<'_>) -> Result<Option<&(String, RecordOf)>, Refusal> {
        let query = request.uri.query().unwrap_or_default();
        let mut named = None;
        for (name, field) in form_urlencoded::parse(query.as_bytes()) {
            if !name.trim().eq_ignore_ascii_case("idParam") {
                continue;
            }
            let known = self.id_params.iter().find(|(known, _)| *known == field);
            match known {
                _ if name != "idParam" || named.is_some() => {
                    return Err(Refusal::bad_request("idParam: it is given once, and in this spelling"));
                }
                None if field != "id" => {
                    return Err(Refusal::bad_request("idParam: which records are meant by this field is not known here"));
                }
                known => named = Some(known),
            }
        }
        Ok(named.flatten())
    }

    fn item(&self, record: &RawValue, deed: Deed, naming: Option<&(String, RecordOf)>) -> Result<Item, Fault> {
        let unnamed = |member: &str| match deed {
            Deed::Create => Ok(Item::nothing()),
            Deed::Update | Deed::Delete => Err(Fault::new("it is missing").within(member)),
        };
        let Some((field, record_of)) = naming else {
            let [id] = json::members(record, ["id"])?;
            return match json::present(id) {
                None => unnamed("id"),
                Some(id) => Ok(change(deed, &json::id(id).map_err(|fault| fault.within("id"))?)),
            };
        };
        let [named, id] = json::members(record, [field, "id"])?;
        if id.is_some() {
            return Err(Fault::new(format!("id: a record is named by it or by {field}, not by both")));
        }
        let Some(named) = json::present(named) else { return unnamed(field) };
        let name = json::word(named).map_err(|fault| fault.within(field))?;
        match (record_of(&name), deed) {
            (Some(id), _) => {
                json::expect_id(&id).map_err(|fault| fault.within(field))?;
                Ok(change(deed, &id).named(name))
            }
            (None, Deed::Create) => Ok(Item::nothing().named(name)),
            (None, _) => Err(Fault::new(format!("{field}: no record is known by this"))),
        }
    }

    fn failure<'r>(&'r self, refusal: &'r Refusal) -> Failure<'r> {
        let error = |lock: Option<&'r LockView>| ItemError {
            kind: match refusal.code() {
                RefusalCode::Locked | RefusalCode::Frozen => Cow::Borrowed(&*self.error_type),
                code => Cow::Owned(code.as_str().to_ascii_uppercase()),
            },
            message: refusal.to_string(),
            code: refusal.code(),
            resource: refusal.resource(),
            lock_id: lock.map(|lock| lock.lock_id),
            owner: lock.and_then(|lock| lock.owner.as_ref()),
            reason: lock.and_then(|lock| lock.reason.as_deref()),
            expires_at: lock.and_then(|lock| lock.expires_at),
            retry_after: refusal.retry_after(),
        };
        let errors = match refusal.locks() {
            [] => vec![error(None)],
            locks => locks.iter().map(|lock| error(Some(lock))).collect(),
        };
        Failure { status: "FAILURE", errors }
    }

    /// One result for each item: the refusals at their positions, between them what the service says of the others.
    fn results<'a>(&self, verdicts: &Verdicts, mut of_service: impl Iterator<Item = &'a str>) -> Vec<Cow<'a, str>> {
        let result = |position| match verdicts.refusal(position) {
            Some(refusal) => Cow::Owned(json::written(&self.failure(refusal))),
            // As many as were admitted have been counted.
            None => Cow::Borrowed(of_service.next().unwrap_or("null")),
        };
        (0..verdicts.len()).map(result).collect()
    }
}

impl Default for VaultBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchCodec for VaultBatch {
    fn is_bulk(&self, request: RequestView<'_>) -> bool {
        self.places.iter().any(|place| place.fits(request.uri.path()))
    }

    fn read(&self, request: RequestView<'_>, body: &Bytes) -> Result<Vec<Item>, Refusal> {
        let deed = Deed::of(request)?;
        expect_json(request.headers, &self.types)?;
        let naming = self.naming(request)?;
        let records = Array::of_objects(json::text(body)?, None, self.most)?;
        let item = |(at, record): (usize, &&RawValue)| {
            self.item(record, deed, naming).map_err(|fault| fault.within(format_args!("item {at}")).into())
        };
        records.each.iter().enumerate().map(item).collect()
    }

    fn keep(&self, _request: RequestView<'_>, body: &Bytes, kept: &[usize]) -> Result<Bytes, Refusal> {
        let records = Array::of_objects(json::text(body)?, None, self.most)?;
        Ok(records.with(kept.iter().filter_map(|at| records.each.get(*at)).map(|record| record.get())))
    }

    fn merge(&self, verdicts: &Verdicts, answer: Option<Response<Bytes>>) -> Result<Response<Bytes>, Unmergeable> {
        let Some(answer) = answer else {
            let results = self.results(verdicts, std::iter::empty()).join(",");
            let mut response = Response::new(format!(r#"{{"responseStatus":"SUCCESS","data":[{results}]}}"#).into());
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            return Ok(response);
        };
        let admitted = verdicts.admitted().count();
        let document = json::text(answer.body())?;
        let root = json::root(document)?;
        let [status, data, errors] = json::members(root, ["responseStatus", "data", "errors"])?;
        let merged = if let Some(data) = data {
            let data = Array::at(document, data, usize::MAX)?;
            if data.each.len() != admitted {
                let why = format!("data: it has {} results for {admitted} records", data.each.len());
                return Err(Unmergeable::new(why));
            }
            data.with(self.results(verdicts, data.each.iter().map(|result| result.get())))
        } else if status.is_some_and(|status| matches!(status.get(), r#""FAILURE""# | r#""EXCEPTION""#)) {
            // It has done none of them, and says why once.
            let errors = errors.map_or("[]", RawValue::get);
            let failed = format!(r#"{{"responseStatus":"FAILURE","errors":{errors}}}"#);
            let results = self.results(verdicts, std::iter::repeat_n(&*failed, admitted)).join(",");
            let end = json::span(document, root.get()).end - 1;
            format!(r#"{},"data":[{results}]}}"#, &document[..end]).into()
        } else {
            return Err(Unmergeable::new("data: it is missing"));
        };
        Ok(answer.map(|_| merged))
    }

    fn done(&self, verdicts: &Verdicts, answer: &Response<Bytes>) -> Vec<usize> {
        let Ok(results) = results_of(answer.body()) else { return Vec::new() };
        if results.len() != verdicts.admitted().count() {
            return Vec::new();
        }
        let done = |result: &RawValue| {
            let status = json::members(result, ["responseStatus"]).ok().and_then(|[status]| status);
            status.is_some_and(|status| matches!(status.get(), r#""SUCCESS""# | r#""WARNING""#))
        };
        verdicts.admitted().zip(results).filter(|(_, result)| done(result)).map(|(position, _)| position).collect()
    }
}

/// What the service says of each record that it was sent.
fn results_of(answer: &[u8]) -> Result<Vec<&RawValue>, Fault> {
    Ok(Array::of_objects(json::text(answer)?, Some("data"), usize::MAX)?.each)
}

fn change(deed: Deed, id: &str) -> Item {
    let path = Item::segment(id);
    match deed {
        Deed::Create | Deed::Update => Item::write_or_create(path),
        Deed::Delete => Item::unlink(path),
    }
    .named(id)
}

/// The result of a record that was refused.
#[derive(Serialize)]
struct Failure<'r> {
    #[serde(rename = "responseStatus")]
    status: &'static str,
    errors: Vec<ItemError<'r>>,
}

/// One lock that is in the way, or why else a record was refused.
#[derive(Serialize)]
struct ItemError<'r> {
    #[serde(rename = "type")]
    kind: Cow<'r, str>,
    message: String,
    code: RefusalCode,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lock_id: Option<LockId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'r Owner>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl fmt::Debug for VaultBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id_params: Vec<&str> = self.id_params.iter().map(|(field, _)| field.as_str()).collect();
        f.debug_struct("VaultBatch")
            .field("places", &self.places)
            .field("error_type", &self.error_type)
            .field("most", &self.most)
            .field("id_params", &id_params)
            .finish_non_exhaustive()
    }
}
