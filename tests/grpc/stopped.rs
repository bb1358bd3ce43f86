//! Calls whose lease lapses under way: they are stopped, and their callers hear it in their own protocol.

use http::{Response, request::Parts};
use http_body_util::{BodyExt, Full};
use tonic::Code;
use tonic_types::StatusExt;
use tower::Layer;
use tower_lock::{LockLayer, Refusal, locks::GrpcCode, store::LockStore};

use crate::{
    kit::{World, call, documents_of, plain, refused, text},
    support::{self, Mode, Rigged, leases::Leases, probe, request},
};

async fn a_call_is_stopped(leases: Leases, store: impl LockStore, code: Code) {
    let locks = documents_of(store).grpc_codes(|_| GrpcCode::Internal).build();
    let world = World::behind(LockLayer::new(locks)).await;
    let (answer, ()) = tokio::join!(world.save(call("ann", "7", text("slowly"))), async {
        while world.documents.calls() == 0 || !leases.is_watched() {
            tokio::task::yield_now().await;
        }
        leases.lapse();
    });
    let status = refused(answer, code);
    assert!(status.message().contains("may be half done"), "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "STORE_UNAVAILABLE");
    assert_eq!(world.documents.dropped(), 1, "it does not go on");
}

#[tokio::test]
async fn a_call_whose_lease_lapses_is_unavailable() {
    let leases = Leases::default();
    a_call_is_stopped(leases.clone(), leases, Code::Unavailable).await;
}

#[tokio::test]
async fn a_call_that_was_decided_later_and_whose_lease_lapses_has_the_applications_own_code() {
    let leases = Leases::default();
    a_call_is_stopped(leases.clone(), Rigged::all(leases, Mode::Later), Code::Internal).await;
}

#[tokio::test]
async fn a_stream_whose_lease_lapses_ends_with_a_status() {
    let leases = Leases::default();
    let world = World::behind(LockLayer::new(documents_of(leases.clone()).build()).until_body_ends()).await;
    let mut answers = world.rewrite(call("ann", "7", text("x"))).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "first");
    leases.lapse();
    let status = refused(answers.message().await, Code::Unavailable);
    assert!(status.message().contains("may be half done"), "{status:?}");
    assert_eq!(world.documents.dropped(), 1, "it does not go on");
    assert_eq!(leases.ended(), 1);
}

#[tokio::test]
async fn a_stream_that_is_no_grpc_is_cut_with_an_error_as_ever() {
    let leases = Leases::default();
    let layer = LockLayer::new(documents_of(leases.clone()).build()).until_body_ends();
    let mut service = layer.layer(plain("half"));
    let call =
        support::with(support::with(request("POST", "/docs/7"), "content-type", "application/grpc"), "te", "trailers");
    let response = tower::Service::call(tower::ServiceExt::ready(&mut service).await.unwrap(), call).await.unwrap();
    leases.lapse();
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn a_responder_of_ones_own_is_told_which_protocol_a_stopped_call_spoke() {
    for (content_type, told) in [("application/grpc+proto", Some("application/grpc")), ("text/plain", None)] {
        let leases = Leases::default();
        let layer = LockLayer::new(documents_of(leases.clone()).build()).respond_with(|_: &Refusal, parts: &Parts| {
            let told = parts.headers.get("content-type").map(|value| value.to_str().unwrap().to_owned());
            Response::new(Full::<bytes::Bytes>::from(format!("{told:?}")))
        });
        let lapsing = leases.clone();
        let mut service = layer.layer(probe(move |_: http::Request<support::Text>| {
            let lapsing = lapsing.clone();
            async move {
                lapsing.lapse_untold();
                std::future::pending::<Result<Response<support::Text>, support::ProbeError>>().await
            }
        }));
        let put = support::with(support::with(request("POST", "/docs/7"), "content-type", content_type), "te", "trailers");
        assert_eq!(support::send(&mut service, put).await.text(), format!("{told:?}"));
    }
}
