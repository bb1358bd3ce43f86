//! A refusal byte by byte: trailers alone, in one frame that ends the stream, before the caller has sent a message.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_lock::{LockLayer, LockRequest, MemoryStore};

use crate::kit::{SAVE, World, documents_of};

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

async fn write(wire: &mut TcpStream, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    wire.write_all(&frame).await.unwrap();
}

async fn read(wire: &mut TcpStream) -> Frame {
    let mut head = [0; 9];
    wire.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    wire.read_exact(&mut payload).await.unwrap();
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
    Frame { kind: head[3], flags: head[4], stream, payload }
}

/// A header block of literal fields that no table knows (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short, and without a Huffman code"));
            block.extend(text.as_bytes());
        }
    }
    block
}

#[tokio::test]
async fn a_refusal_is_one_frame_of_trailers_that_ends_the_stream() {
    let locks = documents_of(MemoryStore::new()).build();
    drop(locks.acquire(LockRequest::exclusive("/docs/7")).await.unwrap());
    let world = World::behind(LockLayer::new(locks)).await;

    let mut wire = TcpStream::connect(world.address).await.unwrap();
    wire.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    write(&mut wire, SETTINGS, 0, 0, &[]).await;
    let call = block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", SAVE),
        (":authority", "docs.example"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("document-id", "7"),
    ]);
    // No message follows: an answer that comes all the same has not waited for one.
    write(&mut wire, HEADERS, END_HEADERS, 1, &call).await;

    let mut frames = Vec::new();
    // What belongs to the stream has been sent when a later question is answered.
    let mut asked = false;
    loop {
        let frame = read(&mut wire).await;
        match (frame.kind, frame.flags, frame.stream) {
            (SETTINGS, 0, _) => write(&mut wire, SETTINGS, ACK, 0, &[]).await,
            (6, ACK, _) => break,
            (GOAWAY, ..) => panic!("the server goes away: {:?}", frame.payload),
            (_, _, 1) => {
                frames.push(frame);
                if !std::mem::replace(&mut asked, true) {
                    write(&mut wire, 6, 0, 0, b"anything").await;
                }
            }
            _ => {}
        }
    }
    let first = &frames[0];
    assert_eq!((first.kind, first.flags), (HEADERS, END_HEADERS | END_STREAM), "one frame, and the stream is over");
    // An indexed `:status: 200` (RFC 7541 appendix A).
    assert_eq!(first.payload[0], 0x88);
    // What may follow is that the rest of the call is not wanted, without it being an error.
    for frame in &frames[1..] {
        assert_eq!((frame.kind, &frame.payload[..]), (3, &[0, 0, 0, 0][..]));
    }
    assert_eq!(world.documents.calls(), 0);
}
