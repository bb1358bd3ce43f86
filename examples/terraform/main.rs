//! A state backend for Terraform and OpenTofu (their `http` backend): states at `/state/{name}`, each with its lock.
//!
//!     cargo run --example terraform [address [store]]
//!     cargo run --example terraform --features redis 127.0.0.1:3000 redis://127.0.0.1:6379
//!
//! When it is ready it prints a backend to paste into a configuration, and the curl lines that show what Terraform does with
//! it. Users come by HTTP Basic, with any password; `admin` may `force-unlock`, and nobody else.
//!
//! Terraform makes up an ID for every operation and sends it with LOCK, with each state that it writes (`?ID=`) and with
//! UNLOCK; it knows of no token. So the token of a lock is derived from that ID (`locking`), and the whole of it, which is
//! shown to others, is the lock's `client_ref` (`lock_info`). What this server does not have to do is decide who may write:
//! that is the layer's, before `states` is called.
//!
//! **The ID is public.** Whoever is refused is shown the holder's, as Terraform wants it, and can then write and unlock with
//! it ([`HolderProof::Token`]): a lock here keeps people from colliding by accident, and nothing else. Who may reach a state
//! at all is for the authentication to say. Where everybody has a name of their own, and keeps it from LOCK to UNLOCK,
//! [`HolderProof::TokenAndPrincipal`] makes the ID worthless to others.
//!
//! The states themselves are in memory, and gone with the process, whichever store the locks are in.

#[path = "../common/basic.rs"]
mod basic;
mod lock_info;
mod locking;
mod people;
mod states;
#[path = "../common/store_url.rs"]
mod store_url;

use std::time::Duration;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::from_fn,
    routing::{any, get},
};
use tower_lock::{HolderProof, Lifetimes, LockEndpoint, LockId, LockLayer, Locks, Owner, Principal, locks::KindLifetime};

use self::{people::User, states::States};

/// A state of a large installation has some MB.
const LARGEST_STATE: usize = 64 * 1024 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into());
    let listener = tokio::net::TcpListener::bind(&address).await?;

    // In memory, in a file, in Redis, in PostgreSQL: nothing else in here knows.
    let locks = Locks::builder(store_url::open(std::env::args().nth(2)).await?)
        .principal(|request| request.extensions.get::<User>().map(|user| Principal::new(user.name())))
        .owner(|request| request.extensions.get::<User>().map(|user| Owner::id(user.name()).named(user.name())))
        // A condition, so that whose lock was broken is told by whom, rather than that it has none.
        .token_as_condition(locking::token_in_query)
        .holder_proof(HolderProof::Token)
        .authorizer(people::who_may_do_what)
        .lifetimes(lifetimes())
        .endpoint_url("/locks")
        .build();

    let guard = LockLayer::new(locks.clone())
        // It is not enough that nobody else holds the lock: no state is written without one.
        .require_lock()
        // Terraform sends no heartbeat, but the state as far as it has come, every twenty seconds in which something changed.
        .renew_on_write()
        .respond_with(|refusal, _request| locking::refused(refusal));
    let states = get(states::show).post(states::save).put(states::save).delete(states::remove);
    let app = Router::new()
        // `lock_address` may be the state's own: then LOCK and UNLOCK get past the layer.
        .route("/state/{name}", states.route_layer(guard).fallback(locking::by_lock_and_unlock))
        // Or an address of its own: then `lock_method` and `unlock_method` may be PUT and DELETE as well.
        .route("/state/{name}/lock", any(locking::by_any_method))
        .with_state(Site { locks: locks.clone(), states: States::default() })
        .layer(DefaultBodyLimit::max(LARGEST_STATE))
        // Who holds what, and an end to it with a reason, for whoever operates this.
        .nest_service("/locks", LockEndpoint::new(locks))
        // Outermost, so that layer and endpoint both know the caller.
        .layer(from_fn(people::authenticate));

    println!("listening on http://{}\n{}", listener.local_addr()?, story(&listener.local_addr()?.to_string()));
    axum::serve(listener, app).with_graceful_shutdown(async { _ = tokio::signal::ctrl_c().await }).await?;
    Ok(())
}

/// What the handlers know.
#[derive(Clone)]
struct Site {
    locks: Locks,
    states: States,
}

/// An apply may wait for hours for a single resource, and only its state writes tell that it is alive. One that was killed is
/// cleared away by `force-unlock`, or by half a day.
fn lifetimes() -> Lifetimes {
    const HOUR: Duration = Duration::from_secs(60 * 60);
    let mut lifetimes = Lifetimes::default();
    // That of kinds of one's own.
    lifetimes.app = KindLifetime { default: Some(12 * HOUR), most: Some(12 * HOUR), total: Some(7 * 24 * HOUR) };
    lifetimes
}

// --- the story -----------------------------------------------------------------------------------------------------

fn story(address: &str) -> String {
    // An ID is used once, so they are others each time.
    STORY
        .replace("HOST", &format!("http://{address}"))
        .replace("ANNS-ID", &LockId::random().to_string())
        .replace("BENS-ID", &LockId::random().to_string())
}

const STORY: &str = r#"
# the backend of a configuration, to paste where that is, then terraform init
cat >backend.tf <<'END'
terraform {
  backend "http" {
    address        = "HOST/state/demo"
    lock_address   = "HOST/state/demo/lock"
    unlock_address = "HOST/state/demo/lock"
    username       = "ann"
    password       = "x"
  }
}
END

# what terraform apply does, begins with a lock, and ann is the first
curl -siw '\n' -u ann:x -X LOCK HOST/state/demo/lock -H 'Content-Type: application/json' -d '{"ID":"ANNS-ID","Operation":"OperationTypeApply","Info":"","Who":"ann@home","Version":"1.11.4","Created":"2026-11-21T03:08:58.521279637Z","Path":""}'

# the answer is lost, so it asks again by the same ID, and has it still
curl -siw '\n' -u ann:x -X LOCK HOST/state/demo/lock -H 'Content-Type: application/json' -d '{"ID":"ANNS-ID","Operation":"OperationTypeApply","Info":"","Who":"ann@home","Version":"1.11.4","Created":"2026-11-21T03:08:58.521279637Z","Path":""}'

# ben is refused with 423, and told who has it
curl -siw '\n' -u ben:x -X LOCK HOST/state/demo/lock -H 'Content-Type: application/json' -d '{"ID":"BENS-ID","Operation":"OperationTypePlan","Info":"","Who":"ben@work","Version":"1.11.4","Created":"2026-11-21T03:09:12Z","Path":""}'

# ann writes the state, under her lock
curl -siw '\n' -u ann:x -X POST 'HOST/state/demo?ID=ANNS-ID' -H 'Content-Type: application/json' -d '{"version":4,"serial":1}'

# ben may read it
curl -siw '\n' -u ben:x HOST/state/demo

# but not write it, for he has no lock
curl -siw '\n' -u ben:x -X POST HOST/state/demo -H 'Content-Type: application/json' -d '{"version":4,"serial":2}'

# nor unlock it, with an ID that is not that of the lock
curl -siw '\n' -u ben:x -X UNLOCK HOST/state/demo/lock -H 'Content-Type: application/json' -d '{"ID":"BENS-ID"}'

# nor by terraform force-unlock, which sends no ID
curl -siw '\n' -u ben:x -X UNLOCK HOST/state/demo/lock

# the administrator may
curl -siw '\n' -u admin:x -X UNLOCK HOST/state/demo/lock

# ann writes again, and is told what became of her lock
curl -siw '\n' -u ann:x -X POST 'HOST/state/demo?ID=ANNS-ID' -H 'Content-Type: application/json' -d '{"version":4,"serial":3}'

# it is the turn of ben
curl -siw '\n' -u ben:x -X LOCK HOST/state/demo/lock -H 'Content-Type: application/json' -d '{"ID":"BENS-ID","Operation":"OperationTypePlan","Info":"","Who":"ben@work","Version":"1.11.4","Created":"2026-11-21T03:09:12Z","Path":""}'

# he is done
curl -siw '\n' -u ben:x -X UNLOCK HOST/state/demo/lock -H 'Content-Type: application/json' -d '{"ID":"BENS-ID"}'

# nobody gets in without a name
curl -siw '\n' HOST/state/demo

# ctrl-c ends the server
"#;
