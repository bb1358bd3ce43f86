//! Servers on loopback, and a connection of which a test writes and reads every byte.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses a part of it")]

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::Service;

/// Serves `service` on a port of its own, HTTP/1.1 and HTTP/2.
pub async fn serve<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                drop(builder.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    address
}

/// A connection whose every byte the test writes and reads.
pub struct Wire {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub async fn to(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
    }

    pub async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next message: its head and, by `Content-Length`, its body. Nothing when the connection ends.
    pub async fn next(&mut self) -> Option<(u16, String)> {
        let within = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                    let head = String::from_utf8(self.read[..end].to_vec()).unwrap().to_lowercase();
                    let length = head
                        .split("content-length: ")
                        .nth(1)
                        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
                    if self.read.len() >= end + 4 + length {
                        let body = String::from_utf8(self.read[end + 4..end + 4 + length].to_vec()).unwrap();
                        self.read.drain(..end + 4 + length);
                        return Some((head[9..12].parse().unwrap(), body));
                    }
                }
                let mut part = [0; 4096];
                match self.stream.read(&mut part).await {
                    Ok(0) | Err(_) => return None,
                    Ok(count) => self.read.extend_from_slice(&part[..count]),
                }
            }
        });
        within.await.expect("an answer, or the end")
    }
}
