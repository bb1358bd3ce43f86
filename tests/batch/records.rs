//! Records in bulk: a codec of the smallest form, requests in that form, and a service that understands them.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::Service;
use tower_layer::Layer;
use tower_lock::{
    BatchLayer, LockToken, Locks, Refusal, RequestView,
    batch::{BatchCodec, BatchService, Item, RequestBody, Unmergeable, Verdicts},
};

use crate::support::{Probe, ProbeError, Text, probe, request, with};

/// `[{"id": "7", "after": [0], "delete": true}, …]`, answered `[{"id": "7", "done": true}, {"refused": "locked", …}, …]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records;

impl BatchCodec for Records {
    fn is_bulk(&self, request: RequestView<'_>) -> bool {
        request.headers.get(header::CONTENT_TYPE).is_some_and(|media| media == "application/json")
    }

    fn read(&self, request: RequestView<'_>, body: &Bytes) -> Result<Vec<Item>, Refusal> {
        records(body)?.iter().map(|record| item(request, record)).collect()
    }

    fn keep(&self, _: RequestView<'_>, body: &Bytes, kept: &[usize]) -> Result<Bytes, Refusal> {
        let records = records(body)?;
        Ok(Value::from_iter(kept.iter().map(|at| records[*at].clone())).to_string().into())
    }

    fn merge(&self, verdicts: &Verdicts, answer: Option<Response<Bytes>>) -> Result<Response<Bytes>, Unmergeable> {
        let answer = answer.unwrap_or_else(|| Response::new(Bytes::from_static(b"[]")));
        let (head, body) = answer.into_parts();
        let done = records(&body).map_err(|why| Unmergeable::new(why.to_string()))?;
        if done.len() != verdicts.admitted().count() {
            return Err(Unmergeable::new("it has another number of results"));
        }
        let mut done = done.into_iter();
        let each = (0..verdicts.len()).map(|at| match verdicts.refusal(at) {
            None => done.next(),
            Some(refusal) => Some(json!({
                "refused": refusal.code().as_str(),
                "resource": refusal.resource(),
                "owner": refusal.locks().first().and_then(|lock| lock.owner.as_ref()).map(|owner| &owner.id),
                "lock_ids": refusal.locks().iter().map(|lock| lock.lock_id.to_string()).collect::<Vec<_>>(),
                "retry_after": refusal.retry_after(),
            })),
        });
        let body = each.collect::<Option<Value>>().ok_or_else(|| Unmergeable::new("too few"))?;
        Ok(Response::from_parts(head, body.to_string().into()))
    }

    fn done(&self, verdicts: &Verdicts, answer: &Response<Bytes>) -> Vec<usize> {
        let Ok(results) = records(answer.body()) else { return Vec::new() };
        let done = |(_, result): &(usize, &Value)| result["done"] == true;
        verdicts.admitted().zip(&results).filter(done).map(|(at, _)| at).collect()
    }
}

fn records(body: &Bytes) -> Result<Vec<Value>, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(format!("a list of records is read here: {error}")))
}

fn item(_: RequestView<'_>, record: &Value) -> Result<Item, Refusal> {
    let Some(id) = record["id"].as_str() else { return Ok(Item::nothing()) };
    let path = if id.starts_with('/') { id.to_owned() } else { Item::segment(id) };
    let item = if record["delete"] == true {
        Item::unlink(path)
    } else if record["new"] == true {
        Item::write_or_create(path)
    } else {
        Item::write(path)
    };
    let after = record["after"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    Ok(after.fold(item.named(id), |item, at| item.after(at as usize)))
}

/// A bulk write of `records` to `/records`.
pub(crate) fn bulk(records: &Value) -> Request<Text> {
    bulk_to("/records", records)
}

pub(crate) fn bulk_to(path: &str, records: &Value) -> Request<Text> {
    with(request("POST", path), "content-type", "application/json").map(|_| Text::from(records.to_string()))
}

/// Records with these ids.
pub(crate) fn ids<'i>(ids: impl IntoIterator<Item = &'i str>) -> Value {
    ids.into_iter().map(|id| json!({ "id": id })).collect()
}

/// What a service was sent: the ids of the records of each request.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<Vec<String>>>>);

impl Seen {
    pub(crate) fn all(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Does all the records of `request`, and says so.
    pub(crate) async fn save<B>(self, request: Request<B>) -> Result<Response<Text>, ProbeError>
    where
        B: Body<Error: Debug>,
    {
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let records: Vec<Value> = serde_json::from_slice(&body).unwrap_or_default();
        let ids: Vec<String> = records.iter().map(|record| record["id"].as_str().unwrap_or("").to_owned()).collect();
        let results: Value = ids.iter().map(|id| json!({ "id": id, "done": true })).collect();
        self.0.lock().unwrap().push(ids);
        Ok(answer(StatusCode::OK, results.to_string()))
    }
}

/// An answer of a service.
pub(crate) fn answer(status: StatusCode, body: impl Into<Bytes>) -> Response<Text> {
    let mut response = Response::new(Text::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    response
}

/// A service behind a layer, as most tests want it.
pub(crate) trait Saves:
    Service<Request<Text>, Response = Response<tower_lock::respond::ResponseBody<Text>>, Error = ProbeError, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> Saves for S where
    S: Service<
            Request<Text>,
            Response = Response<tower_lock::respond::ResponseBody<Text>>,
            Error = ProbeError,
            Future: Send,
        > + Clone
        + Send
        + 'static
{
}

/// Behind `layer` a service that does all it is sent.
pub(crate) fn saving(layer: &BatchLayer<Records>, seen: &Seen) -> impl Saves + use<> {
    let seen = seen.clone();
    layer.layer(probe(move |request: Request<RequestBody<Text>>| seen.clone().save(request)))
}

/// Behind `layer` a service that answers with `answer`, whatever it is sent.
pub(crate) fn answering<F>(layer: &BatchLayer<Records>, answer: F) -> BatchService<Probe<Answering>, Records>
where
    F: Fn() -> Response<Text> + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    let answers: Answering = Box::leak(Box::new(move |_| std::future::ready(Ok(answer()))));
    layer.layer(probe(answers))
}

/// A function that answers at once.
pub(crate) type Answering =
    &'static (dyn Fn(Request<RequestBody<Text>>) -> std::future::Ready<Result<Response<Text>, ProbeError>> + Send + Sync);

/// The three modes, and what each is called.
pub(crate) fn modes(locks: &Locks) -> [(&'static str, BatchLayer<Records>); 3] {
    let layer = BatchLayer::new(locks.clone(), Records);
    [
        ("refusing the whole", layer.clone()),
        ("forwarding the unlocked", layer.clone().forward_unlocked()),
        ("forwarding all", layer.forward_all()),
    ]
}

/// The same request, holding a lock on that record.
pub(crate) fn tagged<B>(request: Request<B>, path: &str, token: LockToken) -> Request<B> {
    with(request, "if", format!("<{path}> (<{}>)", token.urn()))
}
