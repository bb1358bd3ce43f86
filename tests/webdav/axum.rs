//! The layer in axum: around a whole router, and around a handler on a route, which the router passes the whole path to.

use std::convert::Infallible;

use axum::{Router, body::Body, extract::Request, response::Response};
use dav_server::{DavHandler, memfs::MemFs};
use http::{Request as HttpRequest, StatusCode};
use http_body_util::BodyExt;
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;
use tower_lock::{DavLayer, webdav::RequestBody};

use crate::support::{self, stores};

const INFO: &str = "<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>";

/// Files in memory, at `prefix`.
fn files(prefix: &str) -> DavHandler {
    DavHandler::builder().filesystem(MemFs::new()).strip_prefix(prefix).build_handler()
}

fn layer() -> DavLayer {
    DavLayer::new(support::locks_of_users(stores::memory(tower_lock::store::Clock::system())).build())
}

struct Site(Router);

impl Site {
    async fn ask(
        &self,
        user: &'static str,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Response {
        let mut request = Request::builder().method(method).uri(uri).extension(support::User(user));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.0.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap()
    }

    async fn status(&self, user: &'static str, method: &str, uri: &str, headers: &[(&str, &str)]) -> StatusCode {
        self.ask(user, method, uri, headers, if method == "PUT" { "text" } else { "" }).await.status()
    }

    /// The story of a lock in the folder at `at`.
    async fn works_at(&self, at: &str) {
        let file = format!("{at}/a");
        assert_eq!(self.status("ann", "PUT", &file, &[]).await, 201);
        let answer = self.ask("ann", "LOCK", &file, &[("depth", "0")], INFO).await;
        assert_eq!(answer.status(), 200);
        let token = answer.headers()["lock-token"].to_str().unwrap().to_owned();
        assert!(text(answer).await.contains(&format!("<D:lockroot><D:href>{file}</D:href></D:lockroot>")));

        let answer = self.ask("bob", "PUT", &file, &[], "theirs").await;
        assert_eq!(answer.status(), 423);
        assert!(text(answer).await.contains(&format!("<D:lock-token-submitted><D:href>{file}</D:href>")));
        let other = format!("{at}/b");
        assert_eq!(self.status("bob", "PUT", &other, &[]).await, 201);
        for destination in [file.clone(), format!("http://dav.example{file}")] {
            assert_eq!(self.status("bob", "MOVE", &other, &[("destination", &destination)]).await, 423);
        }

        let answer = self.ask("bob", "PROPFIND", &format!("{at}/"), &[("depth", "1")], "").await;
        let found = text(answer).await;
        let of_file = found.split("<D:response>").find(|response| response.contains(&format!("<D:href>{file}</D:href>")));
        assert!(of_file.is_some_and(|response| response.contains("<D:activelock>")), "{found}");
        assert_eq!(found.matches("<D:activelock>").count(), 1, "{found}");

        let tag = format!("<http://dav.example{file}> ({token})");
        assert_eq!(self.status("ann", "PUT", &file, &[("if", &tag)]).await, 204);
        assert_eq!(self.status("ann", "DELETE", &file, &[("if", &tag)]).await, 204);
        assert_eq!(self.status("bob", "PUT", &file, &[]).await, 201, "its lock went with it");
    }
}

async fn text(answer: Response) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

#[tokio::test]
async fn around_a_router() {
    let files = files("");
    let handler = service_fn(move |request: Request| {
        let files = files.clone();
        async move { Ok::<_, Infallible>(files.handle(request).await) }
    });
    Site(Router::new().fallback_service(handler).layer(layer())).works_at("").await;
}

#[tokio::test]
async fn around_a_handler_on_a_route() {
    let files = files("/dav");
    let handler = service_fn(move |request: HttpRequest<RequestBody<Body>>| {
        let files = files.clone();
        async move { Ok::<_, Infallible>(files.handle(request).await) }
    });
    let handler = layer().layer(handler);
    let app = Router::new().route_service("/dav/", handler.clone()).route_service("/dav/{*path}", handler);
    Site(app).works_at("/dav").await;
}
