//! A Git LFS server: the locking API beside a toy object store, two repositories, users by HTTP Basic (any password).
//!
//!     cargo run --example git_lfs [address [store]]
//!     cargo run --example git_lfs --features redis 127.0.0.1:3000 redis://127.0.0.1:6379
//!
//! When it is ready it prints the curl lines that show the whole story, and what to tell git.
//!
//! Nothing in here is the crate's own protocol. `locking.rs` speaks the one of Git LFS, over a few functions of [`Locks`]:
//! `acquire_for`, `inspect` and `list`, `release_for` and `break_for`, and `check_for` for pushes. What had to be decided:
//!
//! - **Who holds a lock** is the user alone ([`HolderProof::Principal`]): git-lfs knows no token. Whoever can sign in as ann
//!   holds what ann holds, on all of her machines.
//! - **A lock has no end**, as people expect of `git lfs lock`: so the [`Lifetimes`] say. It goes with `git lfs unlock`, and
//!   for everybody but its holder with `--force`, which the authorizer allows to `admin` alone.
//! - **One path, one lock**, on every branch. What is locked is a file that nobody can merge, so a lock that held on one
//!   branch only would not help. The branch that came with it is kept as its `client_ref`, and narrows no answer.
//! - **A lock covers its file alone** ([`Depth::Zero`]): `art` may be a file on one branch and a folder on another.
//! - **A repository is a namespace.** The same path in another one is another file.
//!
//! The object store needs no locks: what it keeps is named by its content. What would be overwritten is a branch, and a push
//! of that does not come through here. So **whether a push heeds locks is for the client to decide**, by the protocol:
//! git-lfs asks `locks/verify` and refuses to push, if it is installed, set up, and not told otherwise. `push.rs` is what a
//! server can add: a question for the `pre-receive` hook of the repository itself, which is in `pre-receive` beside it.

mod answer;
#[path = "../common/basic.rs"]
mod basic;
mod locking;
mod objects;
mod paths;
mod people;
mod push;
#[path = "../common/store_url.rs"]
mod store_url;

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRef},
    http::StatusCode,
    middleware::from_fn_with_state,
    routing::{get, post},
};
use tower_lock::{HolderProof, Lifetimes, Limits, Locks, Principal, locks::KindLifetime};

use self::{answer::Failure, objects::Objects, people::Visitor};

/// What every part of the server may use.
#[derive(Clone)]
struct Server {
    locks: Locks,
    objects: Objects,
}

impl FromRef<Server> for Locks {
    fn from_ref(server: &Server) -> Self {
        server.locks.clone()
    }
}

impl FromRef<Server> for Objects {
    fn from_ref(server: &Server) -> Self {
        server.objects.clone()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;

    // In memory, in a file, in Redis, in PostgreSQL: nothing else in here knows.
    let locks = Locks::builder(store_url::open(std::env::args().nth(2)).await?)
        .principal(|request| request.extensions.get::<Visitor>().map(|visitor| Principal::new(&visitor.user)))
        .namespace(|request| request.extensions.get::<Visitor>().map(|visitor| visitor.repository.to_owned()))
        .keys_by(paths::rules())
        .holder_proof(HolderProof::Principal)
        .authorizer(people::members)
        .lifetimes(without_an_end())
        .limits(limits())
        .build();
    let app = app(Server { locks, objects: Objects::default() });

    println!("listening on http://{}\n{}", listener.local_addr()?, story(&listener.local_addr()?.to_string()));
    axum::serve(listener, app).with_graceful_shutdown(async { _ = tokio::signal::ctrl_c().await }).await?;
    Ok(())
}

fn app(server: Server) -> Router {
    // What of a repository's URL is the LFS server: `lfs.url`, or what git-lfs makes of the URL of the remote.
    let lfs = Router::<Server>::new()
        .route("/locks", get(locking::list).post(locking::create))
        .route("/locks/verify", post(locking::verify))
        .route("/locks/{id}/unlock", post(locking::unlock))
        .route("/objects/batch", post(objects::batch))
        .route("/objects/{oid}", get(objects::download).put(objects::upload).layer(DefaultBodyLimit::max(objects::LARGEST)));
    Router::new()
        .nest("/{repository}/info/lfs", lfs)
        .route("/{repository}/pre-receive", post(push::check))
        .fallback(async || Failure::new(StatusCode::NOT_FOUND, "There is nothing here."))
        .method_not_allowed_fallback(async || Failure::new(StatusCode::METHOD_NOT_ALLOWED, "This cannot be done here."))
        .layer(from_fn_with_state(server.locks.clone(), people::enter))
        .with_state(server)
}

/// Locks that stay until somebody ends them.
fn without_an_end() -> Lifetimes {
    let mut lifetimes = Lifetimes::default();
    lifetimes.user = KindLifetime { default: None, most: None, total: None };
    lifetimes
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    // Without an end they add up.
    limits.locks_per_principal = 10_000;
    limits
}

fn story(address: &str) -> String {
    STORY.replace("HOST", &format!("http://{address}")).replace("ADDRESS", address)
}

const STORY: &str = r#"
# ann locks a file, and is shown its id
ID=$(curl -s -u ann:x -X POST HOST/paint/info/lfs/locks -H 'Content-Type: application/vnd.git-lfs+json' -d '{"path":"art/cover.psd","ref":{"name":"refs/heads/main"}}' | sed 's/.*"id":"\([^"]*\)".*/\1/'); echo "$ID"

# ben cannot, and is told who has it
curl -siw '\n' -u ben:x -X POST HOST/paint/info/lfs/locks -H 'Content-Type: application/vnd.git-lfs+json' -d '{"path":"art/cover.psd"}'

# in another repository it is another file
curl -siw '\n' -u ben:x -X POST HOST/music/info/lfs/locks -H 'Content-Type: application/vnd.git-lfs+json' -d '{"path":"art/cover.psd"}'

# everybody sees what is locked
curl -siw '\n' -u ben:x 'HOST/paint/info/lfs/locks?path=art/cover.psd'

# before a push ben is told which locks are his and which are not
curl -siw '\n' -u ben:x -X POST HOST/paint/info/lfs/locks/verify -H 'Content-Type: application/vnd.git-lfs+json' -d '{"ref":{"name":"refs/heads/main"}}'

# the hook of a repository can ask in his name, and is refused
curl -siw '\n' -u ben:x -X POST HOST/paint/pre-receive -H 'Content-Type: application/octet-stream' -d 'art/cover.psd'

# ben cannot unlock it, not by force either
curl -siw '\n' -u ben:x -X POST HOST/paint/info/lfs/locks/$ID/unlock -H 'Content-Type: application/vnd.git-lfs+json' -d '{"force":true}'

# the administrator can, by force
curl -siw '\n' -u admin:x -X POST HOST/paint/info/lfs/locks/$ID/unlock -H 'Content-Type: application/vnd.git-lfs+json' -d '{"force":true}'

# so ben may push
curl -siw '\n' -u ben:x -X POST HOST/paint/pre-receive -H 'Content-Type: application/octet-stream' -d 'art/cover.psd'

# where his objects go to
curl -siw '\n' -u ben:x -X POST HOST/paint/info/lfs/objects/batch -H 'Content-Type: application/vnd.git-lfs+json' -d '{"operation":"upload","objects":[{"oid":"9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0","size":3}]}'

# and one of them goes there
curl -siw '\n' -u ben:x -X PUT HOST/paint/info/lfs/objects/9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0 -d aaa

# nobody gets in without a name
curl -siw '\n' HOST/paint/info/lfs/locks

# to use it from a clone, tell git who you are, and that it should heed locks
git config lfs.url http://ann:x@ADDRESS/paint/info/lfs
git config lfs.http://ann:x@ADDRESS/paint/info/lfs.locksverify true
git lfs lock art/cover.psd

# ctrl-c ends the server
"#;
