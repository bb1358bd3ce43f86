//! Recipes: which lock for what, in a few lines each, and when no lock is the answer.
//!
//! In all of them `send(&locks, "ben", "PUT /docs/7")` is ben's request to a service behind [`LockLayer`] over these
//! locks, and gives the status of its answer; `send_with` sends a token along, as `Lock-Token`. `builder` is a
//! [`LocksBuilder`] that knows who calls, and `sleep` lets time pass.
//!
//! | recipe | kind | how long | held by | who ends it |
//! |---|---|---|---|---|
//! | [Editorial lock](#editorial-lock) | `User` | 5 minutes, refreshed | a token in the browser | the editor, or time |
//! | [Account frozen by an admin](#account-frozen-by-an-admin) | `Freeze` | endless | nobody | an admin, by a break |
//! | [Document frozen for review](#document-frozen-for-review) | `Freeze`, shared | weeks | the reviews | each review its own, or time |
//! | [Checked-out file](#checked-out-file) | a kind of your own | days | a person | the person, or time |
//! | [A saga's reservation](#a-sagas-reservation) | `App` | minutes | the saga, by a token that it can make again | the saga, or time |
//! | [An export that must not be disturbed](#an-export-that-must-not-be-disturbed) | `Job` | as long as the guard lives | a [`LockGuard`] | the guard, or its process |
//!
//! What a lock outlives is for the store to say: those of a [`MemoryStore`] go with their process, those in a file, in Redis
//! or in PostgreSQL stay until they end as the recipe says.
//!
//! # Editorial lock
//!
//! Somebody edits a document in a browser, and nobody else is to write it meanwhile. A `User` lock with the default
//! lifetime of five minutes, acquired over HTTP (`PUT /locks/docs/7`), and refreshed by the page every minute or two
//! (`PATCH`); the token stays in the page and goes with each write. Others read on, and their writes get 423 with the time
//! of the end, and with the name if the [`Authorizer`] lets them see it. A closed laptop ends it within five minutes; a
//! server that dies ends nothing, for the page refreshes the lock at the next one that shares the store. The example
//! `editor` is the whole page.
//!
//! ```
#![doc = include_str!("recipes/kit.txt")]
//! use axum::{Router, body::Body, routing::put};
//! use tower::ServiceExt;
//! use tower_lock::LockEndpoint;
//!
//! let locks = builder.build();
//! let app: Router = Router::new()
//!     .route("/docs/{id}", put(async || "saved"))
//!     .layer(LockLayer::new(locks.clone()))
//!     .nest_service("/locks", LockEndpoint::new(locks));
//!
//! let ann = |method: &str, target: &str| Request::builder().method(method).uri(target).header("x-user", "ann");
//! let answer = app.clone().oneshot(ann("PUT", "/locks/docs/7").body(Body::empty())?).await?;
//! let token = answer.headers()["lock-token"].clone();
//!
//! let save = || Request::put("/docs/7").header("x-user", "ben").body(Body::from("ben's")).unwrap();
//! assert_eq!(app.clone().oneshot(save()).await?.status(), 423);
//! let mine = ann("PUT", "/docs/7").header("lock-token", &token).body(Body::from("ann's"))?;
//! assert_eq!(app.clone().oneshot(mine).await?.status(), 200);
//!
//! sleep(4 * MINUTE);
//! let refresh = ann("PATCH", "/locks/docs/7").header("lock-token", &token).body(Body::empty())?;
//! assert_eq!(app.clone().oneshot(refresh).await?.status(), 200);
//! sleep(4 * MINUTE);
//! assert_eq!(app.clone().oneshot(save()).await?.status(), 423);
//! // The laptop is closed.
//! sleep(MINUTE);
//! assert_eq!(app.oneshot(save()).await?.status(), 200);
//! # Ok(()) }
//! ```
//!
//! # Account frozen by an admin
//!
//! Nobody is to change the account or anything below it, not even who froze it, until somebody says so. A `Freeze` is
//! endless and no token answers for it; it is acquired without a guard, because it must outlive the process, and so it
//! wants a store that does. Everybody gets 423 `frozen` without a `Retry-After`, and reads. Nobody keeps its token, so it
//! ends by a break, with a reason that is told. Writes that were under way are waited for, so nothing trickles in once it
//! is granted.
//!
//! ```
#![doc = include_str!("recipes/kit.txt")]
//! # let locks = builder.build();
//! let freeze = LockRequest::exclusive("/accounts/42").kind(LockKind::Freeze).principal("admin").reason("fraud case 118");
//! let granted = locks.acquire(freeze).await?;
//!
//! assert_eq!(send(&locks, "ben", "POST /accounts/42/transfers").await, 423);
//! assert_eq!(send_with(&locks, "admin", "PUT /accounts/42", granted.token()).await, 423);
//! assert_eq!(send(&locks, "ben", "GET /accounts/42").await, 200);
//! # let refused = locks.acquire(LockRequest::exclusive("/accounts/42/limits").principal("ben")).await.unwrap_err();
//! # assert_eq!((refused.code(), refused.retry_after()), (tower_lock::RefusalCode::Frozen, None));
//! # assert!(refused.to_string().contains("(fraud case 118)"));
//! sleep(1_000 * DAY);
//! assert_eq!(send(&locks, "ben", "PUT /accounts/42").await, 423);
//!
//! // Whoever thaws it need not know the lock's id.
//! let admin = Caller::application(Some(Principal::new("admin")));
//! let account = Named::nothing().at(ResourceKey::from_canonical("/accounts/42"));
//! locks.break_for(&admin, account, "case 118 is closed", Duration::ZERO).await?;
//! assert_eq!(send(&locks, "ben", "PUT /accounts/42").await, 200);
//! # Ok(()) }
//! ```
//!
//! # Document frozen for review
//!
//! While it is reviewed nobody changes the document, but its comments can be written, which lie deeper. A `Freeze` of
//! depth zero protects the document and the list of what is directly in it, not what lies deeper; shared, so that several
//! reviews can freeze it at once and the last to end thaws it; with a lifetime, so that a forgotten one does not hold it
//! for ever. Writers get 423 `frozen`, with the latest end as `Retry-After`. It survives restarts where the store does.
//!
//! ```
#![doc = include_str!("recipes/kit.txt")]
//! # let locks = builder.build();
//! let review = |case: &str| {
//!     let freeze = LockRequest::shared("/docs/7").kind(LockKind::Freeze).depth(Depth::Zero).lifetime(14 * DAY);
//!     freeze.owner(Owner::id(case).named("Review")).client_ref(case).reason("under review")
//! };
//! let legal = locks.acquire(review("legal-118")).await?;
//! let style = locks.acquire(review("style-7")).await?;
//!
//! assert_eq!(send(&locks, "ann", "PUT /docs/7").await, 423);
//! assert_eq!(send(&locks, "ann", "PUT /docs/7/attachment").await, 423);
//! assert_eq!(send(&locks, "ann", "PUT /docs/7/comments/3").await, 200);
//! // This might create `/docs/7/comments` itself.
//! assert_eq!(send(&locks, "ann", "POST /docs/7/comments").await, 423);
//!
//! locks.break_lock(legal.lock().id(), "accepted", Duration::ZERO).await?;
//! assert_eq!(send(&locks, "ann", "PUT /docs/7").await, 423);
//! sleep(14 * DAY);
//! assert_eq!(send(&locks, "ann", "PUT /docs/7").await, 200);
//! # drop(style);
//! # Ok(()) }
//! ```
//!
//! # Checked-out file
//!
//! A person takes a file for days, and brings it back from whichever machine. A kind of your own, for the lifetimes that
//! you give it; [`HolderProof::Principal`], because the person holds it and not a program that would have to keep a token.
//! Others get 423 with who has it and until when. Nothing is refreshed, so the death of a process changes nothing: it ends
//! by a check-in, by a break, or when its time is over.
//!
//! ```
#![doc = include_str!("recipes/kit.txt")]
//! let mut lifetimes = Lifetimes::default();
//! // For `App` and kinds of your own.
//! lifetimes.app = KindLifetime { default: Some(7 * DAY), most: Some(30 * DAY), total: Some(90 * DAY) };
//! let locks = builder.lifetimes(lifetimes).holder_proof(HolderProof::Principal).build();
//!
//! // What the handler of your own `POST /files/plan.dwg/checkout` does.
//! let checkout = LockRequest::exclusive("/files/plan.dwg").kind(LockKind::from("checkout")).principal("ann");
//! let granted = locks.acquire(checkout.reason("new staircase")).await?;
//! assert_eq!(granted.lock().expires_in(), Some(7 * 24 * 3_600));
//!
//! assert_eq!(send(&locks, "ann", "PUT /files/plan.dwg").await, 200);
//! assert_eq!(send(&locks, "ben", "PUT /files/plan.dwg").await, 423);
//! assert_eq!(send(&locks, "ben", "GET /files/plan.dwg").await, 200);
//!
//! // And of `POST /files/plan.dwg/checkin`, on another machine.
//! let ann = Caller::application(Some(Principal::new("ann")));
//! locks.release_for(&ann, Named::nothing().at(ResourceKey::from_canonical("/files/plan.dwg"))).await?;
//! assert_eq!(send(&locks, "ben", "PUT /files/plan.dwg").await, 200);
//! # Ok(()) }
//! ```
//!
//! # A saga's reservation
//!
//! Some resources are reserved all or none, worked on in several steps by several services, then freed or given back. An
//! `App` lock without a guard, because another process may take the saga over; its tokens are derived from the saga's
//! secret, so that who repeats the step after a crash gets the same locks and not a conflict with itself. Each step sends
//! the tokens along. Others get 423 with `Retry-After`. When the saga dies for good, its locks end with their lifetime:
//! give it what the longest step takes, and refresh in between. The [generation](crate::Admission::generation) tells a
//! database when it was too late.
//!
//! ```
#![doc = include_str!("recipes/kit.txt")]
//! # let locks = builder.build();
//! # let (saga, secret) = ("order-4711", "6f1c");
//! let token = |seat: &str| LockToken::derive(&[secret, saga, seat]);
//! let reserve = || {
//!     let reserve = LockRequest::exclusive("/seats/12A").propose_token(token("12A"));
//!     let reserve = reserve.and("/seats/12B").propose_token(token("12B"));
//!     reserve.kind(LockKind::App).principal("orders").client_ref(saga).lifetime(10 * MINUTE)
//! };
//! let granted = locks.acquire(reserve()).await?;
//! assert_eq!(send(&locks, "ben", "PUT /seats/12B").await, 423);
//!
//! // The answer was lost, or the process: the step is repeated.
//! let again = locks.acquire(reserve()).await?;
//! assert!(again.is_repeated() && again.tokens() == granted.tokens());
//! assert_eq!(send_with(&locks, "orders", "PUT /seats/12A", token("12A")).await, 200);
//!
//! // Committed, or compensated. To release twice does no harm.
//! for seat in ["12A", "12B"] {
//!     locks.release(token(seat)).await?;
//! }
//! assert_eq!(send(&locks, "ben", "PUT /seats/12B").await, 200);
//! # Ok(()) }
//! ```
//!
//! # An export that must not be disturbed
//!
//! A job reads a tree for an hour, and the tree must stand still. A `Job` lock in a guard, on the root with all below: the
//! guard keeps it alive and ends it when it is dropped, by an error or a panic too. It is granted once the writes under
//! way have ended, or refused with 409 if they do not. Writers get 423 with what runs and why, and may wait; readers read.
//! When the process dies nobody keeps it alive, and it ends within its lifetime of 15 minutes. An admin may break it:
//! [`checkpoint`](crate::LockGuard::checkpoint) says so before the next page.
//!
//! Exclusive, though it only reads: whoever holds a shared lock may write under all of them. Where several exports are to
//! run at once, a shared `Freeze` is the right one, which nobody writes under.
//!
//! ```
#![doc = include_str!("recipes/kit.txt")]
//! # let locks = builder.build();
//! # async fn export(_: u32) {}
//! let job = || LockRequest::exclusive("/projects/9").kind(LockKind::Job).owner(Owner::id("export")).reason("nightly export");
//! {
//!     let guard = locks.hold(job()).await?;
//!     for page in 0..3 {
//!         guard.checkpoint()?;
//!         export(page).await;
//!         # assert_eq!(send(&locks, "ben", "PUT /projects/9/plans/1").await, 423);
//!     }
//!     assert_eq!(send(&locks, "ben", "PUT /projects/9/plans/1").await, 423);
//!     assert_eq!(send(&locks, "ben", "GET /projects/9/plans/1").await, 200);
//! }
//! assert_eq!(send(&locks, "ben", "PUT /projects/9/plans/1").await, 200);
//! # // The process dies: nobody keeps it alive.
//! # let dead = locks.hold(job()).await?.keep();
//! # sleep(15 * MINUTE - Duration::from_secs(1));
//! # assert_eq!(send(&locks, "ben", "PUT /projects/9/plans/1").await, 423);
//! # sleep(Duration::from_secs(1));
//! # assert_eq!(send(&locks, "ben", "PUT /projects/9/plans/1").await, 200);
//! # drop(dead);
//! # // An admin breaks it.
//! # let guard = locks.hold(job()).await?;
//! # locks.break_lock(guard.lock().id(), "maintenance", Duration::ZERO).await?;
//! # tokio::select! { _ = guard.lost() => {}, () = async { loop { tokio::task::yield_now().await } } => {} }
//! # assert!(guard.checkpoint().is_err());
//! # // Shared locks, and shared freezes.
//! # let shared = |who: &str| LockRequest::shared("/projects/8").principal(who);
//! # let (_job, ben) = (locks.acquire(shared("job")).await?, locks.acquire(shared("ben")).await?);
//! # assert_eq!(send_with(&locks, "ben", "PUT /projects/8", ben.token()).await, 200);
//! # let freeze = || LockRequest::shared("/projects/7").kind(LockKind::Freeze).lifetime(15 * MINUTE);
//! # let (_one, other) = (locks.hold(freeze()).await?, locks.hold(freeze().principal("ben")).await?);
//! # assert_eq!(send_with(&locks, "ben", "PUT /projects/7", other.token()).await, 423);
//! # Ok(()) }
//! ```
//!
//! # When 409, 412 or 428 instead
//!
//! | the write cannot be, because | status | who answers |
//! |---|---|---|
//! | somebody else holds a lock on it: for a while, and it is known who and until when | 423 | the layer |
//! | what the client believes is no longer so: its lock is gone, its entity tag is old | 412 | the layer, your handler |
//! | here nobody writes without a lock, and the client holds none | 428 | the layer, if told to |
//! | the resource's own state does not allow it: an order that is shipped, a name that is taken | 409 | your handler |
//! | a lock cannot be had yet, because writes do not end; or its proposed token is taken | 409 | the endpoint |
//! | this caller never may | 403 | your handler |
//! | nobody knows whether there is a lock | 503 | the layer |
//!
//! **423** is for all that passes when a lock goes (RFC 4918 section 11.3): the client can wait, ask the holder, or try
//! again at `Retry-After`, with the very same request. None of this is true of the others. A lock is for work that takes a
//! while, or that must not be lost; where two edits in a second are rare and cheap to repeat, an entity tag is enough.
//!
//! **412** (RFC 9110 section 15.5.13). Two people edit without locks, and the second one must not overwrite the first
//! unseen: no lock, but an `ETag`, and a handler that compares `If-Match` with it. The layer answers 412 `lock_lost`
//! itself where a write relies on a lock that is gone. That is not 423, even if somebody else has locked it since: to wait
//! and repeat the write would overwrite what was done meanwhile. Read again first.
//!
//! ```
#![doc = include_str!("recipes/kit.txt")]
//! # let locks = builder.build();
//! let granted = locks.acquire(LockRequest::exclusive("/docs/7").principal("ann")).await?;
//! assert_eq!(send_with(&locks, "ann", "PUT /docs/7", granted.token()).await, 200);
//! sleep(5 * MINUTE);
//! assert_eq!(send_with(&locks, "ann", "PUT /docs/7", granted.token()).await, 412);
//! # let _ben = locks.acquire(LockRequest::exclusive("/docs/7").principal("ben")).await?;
//! # assert_eq!(send_with(&locks, "ann", "PUT /docs/7", granted.token()).await, 412);
//! # Ok(()) }
//! ```
//!
//! **428** (RFC 6585 section 3). Where to write without a lock is a mistake, even if nobody else is there:
//! [`LockLayer::require_lock`]. The client is to acquire one and send it along.
//!
//! ```
#![doc = include_str!("recipes/kit.txt")]
//! # let locks = builder.build();
//! let strict = LockLayer::new(locks.clone()).require_lock();
//! assert_eq!(through(strict.clone(), "ann", "PUT /docs/7", None).await, 428);
//! let granted = locks.acquire(LockRequest::exclusive("/docs/7").principal("ann")).await?;
//! assert_eq!(through(strict.clone(), "ann", "PUT /docs/7", Some(granted.token())).await, 200);
//! assert_eq!(through(strict, "ann", "GET /docs/7", None).await, 200);
//! # Ok(()) }
//! ```
//!
//! **409** (RFC 9110 section 15.5.10) is for your handler, about your data. Of locks, only an acquire that gave up waiting
//! for a write, or proposed a token that is taken, is 409. Clients that know no 423 and expect 409 with a body of their own
//! (Git LFS, WOPI) get it from [`LockLayer::respond_with`]:
//!
//! ```
#![doc = include_str!("recipes/kit.txt")]
//! # let locks = builder.build();
//! let layer = LockLayer::new(locks.clone()).respond_with(|refusal: &Refusal, _: &Parts| {
//!     let status = if refusal.status() == 423 { http::StatusCode::CONFLICT } else { refusal.status() };
//!     Response::builder().status(status).body(refusal.to_string()).unwrap()
//! });
//! let _guard = locks.hold(LockRequest::exclusive("/docs/7")).await?;
//! assert_eq!(through(layer, "ben", "PUT /docs/7", None).await, 409);
//! # Ok(()) }
//! ```
//!
//! [`LockLayer`]: crate::LockLayer
//! [`LockLayer::require_lock`]: crate::LockLayer::require_lock
//! [`LockLayer::respond_with`]: crate::LockLayer::respond_with
//! [`LocksBuilder`]: crate::LocksBuilder
//! [`LockGuard`]: crate::LockGuard
//! [`MemoryStore`]: crate::MemoryStore
//! [`Authorizer`]: crate::Authorizer
//! [`HolderProof::Principal`]: crate::HolderProof::Principal
