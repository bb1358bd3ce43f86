//! The documents, and the notes that people leave for whoever is editing one.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_lock::{Admission, LockId, Locks, Principal, ResourceKey};

use crate::people::User;

/// Past these there is no more room. It is a demonstration.
const MOST_DOCUMENTS: usize = 200;
const MOST_NOTES: usize = 20;
const LONGEST_NOTE: usize = 500;

/// All that is kept.
#[derive(Clone)]
pub(crate) struct Library {
    shelf: Arc<Mutex<Shelf>>,
    locks: Locks,
}

#[derive(Default)]
struct Shelf {
    documents: BTreeMap<String, Document>,
    notes: BTreeMap<String, VecDeque<Note>>,
    notes_written: u64,
}

#[derive(Clone, Serialize)]
struct Document {
    id: String,
    text: String,
    /// Counts the saves.
    version: u64,
    saved_by: String,
    /// Milliseconds since 1970, as browsers count.
    saved_at: u64,
    /// The generation of the lock that it was saved under.
    #[serde(skip)]
    fence: u64,
}

impl Document {
    fn new(id: &str, text: String, by: &str) -> Self {
        Self { id: id.to_owned(), text, version: 1, saved_by: by.to_owned(), saved_at: now(), fence: 0 }
    }

    /// Its first line.
    fn title(&self) -> &str {
        let first = self.text.lines().map(|line| line.trim_start_matches('#').trim()).find(|line| !line.is_empty());
        first.unwrap_or("Untitled")
    }
}

#[derive(Clone, Serialize)]
struct Note {
    number: u64,
    from: String,
    text: String,
    /// Whoever held this lock when it was written. It is for nobody else.
    #[serde(skip)]
    lock: LockId,
    #[serde(skip)]
    to: Option<Principal>,
}

impl Library {
    pub(crate) fn new(locks: Locks) -> Self {
        let documents = [
            ("welcome", include_str!("texts/welcome.txt")),
            ("house-style", include_str!("texts/house-style.txt")),
            ("opening-hours", include_str!("texts/opening-hours.txt")),
        ];
        let documents = documents.map(|(id, text)| (id.to_owned(), Document::new(id, text.to_owned(), "the museum")));
        let shelf = Shelf { documents: documents.into(), ..Shelf::default() };
        Self { shelf: Arc::new(Mutex::new(shelf)), locks }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// --- documents -----------------------------------------------------------------------------------------------------

pub(crate) async fn list(State(library): State<Library>) -> Response {
    let shelf = library.shelf();
    let item = |document: &Document| json!({ "id": document.id, "title": document.title(), "saved_by": document.saved_by, "saved_at": document.saved_at });
    Json(shelf.documents.values().map(item).collect::<Vec<_>>()).into_response()
}

pub(crate) async fn show(State(library): State<Library>, Path(id): Path<String>) -> Response {
    match library.shelf().documents.get(&id) {
        Some(document) => Json(document).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[derive(Deserialize)]
pub(crate) struct Text {
    text: String,
}

/// Called for the holder of the lock alone.
pub(crate) async fn save(
    State(library): State<Library>,
    Path(id): Path<String>,
    Extension(user): Extension<User>,
    Extension(admission): Extension<Admission>,
    headers: HeaderMap,
    Json(Text { text }): Json<Text>,
) -> Response {
    let mut shelf = library.shelf();
    let Some(document) = shelf.documents.get_mut(&id) else { return StatusCode::NOT_FOUND.into_response() };
    // The lock says that nobody else writes *now*. That nobody wrote since the text was read, if that was under another
    // lock, the version says.
    let base = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
    if base.is_some_and(|base| base != format!("\"{}\"", document.version)) {
        return (StatusCode::PRECONDITION_FAILED, Json(json!({ "code": "changed", "document": document }))).into_response();
    }
    // A writer that stalled for so long that its lock ended, and another one wrote.
    if document.fence > admission.generation() {
        return (StatusCode::CONFLICT, Json(json!({ "code": "fenced", "document": document }))).into_response();
    }
    *document =
        Document { version: document.version + 1, fence: admission.generation(), ..Document::new(&id, text, user.name()) };
    Json(document).into_response()
}

pub(crate) async fn create(
    State(library): State<Library>,
    Extension(user): Extension<User>,
    Json(Text { text }): Json<Text>,
) -> Response {
    let mut shelf = library.shelf();
    if shelf.documents.len() >= MOST_DOCUMENTS {
        return StatusCode::INSUFFICIENT_STORAGE.into_response();
    }
    let id = (1..).map(|number| format!("page-{number}")).find(|id| !shelf.documents.contains_key(id));
    let id = id.expect("there are more numbers than documents");
    let document = Document::new(&id, text, user.name());
    let answer = (StatusCode::CREATED, Json(&document)).into_response();
    shelf.documents.insert(id, document);
    answer
}

// --- notes ---------------------------------------------------------------------------------------------------------

/// Leaves a note for whoever is editing the document: may I?
pub(crate) async fn ask(
    State(library): State<Library>,
    Path(id): Path<String>,
    Extension(user): Extension<User>,
    Json(Text { text }): Json<Text>,
) -> Response {
    if !library.shelf().documents.contains_key(&id) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let key = ResourceKey::from_canonical(format!("/docs/{id}"));
    let (lock, to) = match library.locks.covering(&key).await.as_deref() {
        Ok([lock, ..]) => (lock.id(), lock.principal().cloned()),
        Ok([]) => return StatusCode::CONFLICT.into_response(),
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    let mut shelf = library.shelf();
    shelf.notes_written += 1;
    let number = shelf.notes_written;
    let text = text.trim().chars().take(LONGEST_NOTE).collect();
    let notes = shelf.notes.entry(id).or_default();
    // Who asks again says something else now.
    notes.retain(|note| note.from != user.name() || note.lock != lock);
    notes.push_back(Note { number, from: user.name().to_owned(), text, lock, to });
    if notes.len() > MOST_NOTES {
        notes.pop_front();
    }
    StatusCode::NO_CONTENT.into_response()
}

#[derive(Deserialize)]
pub(crate) struct Mailbox {
    /// The lock that the caller holds.
    lock: String,
    /// The number of the last note that they know.
    after: u64,
}

/// The notes for the caller, as the holder of a lock.
pub(crate) async fn notes(
    State(library): State<Library>,
    Path(id): Path<String>,
    Extension(user): Extension<User>,
    Query(mailbox): Query<Mailbox>,
) -> Response {
    let me = Some(Principal::new(user.name()));
    let is_new = |note: &&Note| note.to == me && note.lock.to_string() == mailbox.lock && note.number > mailbox.after;
    let shelf = library.shelf();
    Json(shelf.notes.get(&id).into_iter().flatten().filter(is_new).collect::<Vec<_>>()).into_response()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
