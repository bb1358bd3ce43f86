//! Below the browser: requests by hand, and a wire between browser and server that can be cut.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends one request; the status, the head and the body of its answer.
pub(crate) fn exchange(
    address: &str,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> (u16, String, String) {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n{fields}\r\n{body}");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    stream.write_all(request.as_bytes()).expect("it reads");

    let mut answer = Vec::new();
    let mut some = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut some).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        answer.extend_from_slice(&some[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(read > 0, "{method} {path}: the answer has no end: {text}");
            continue;
        };
        let is_length = |line: &&str| line.to_ascii_lowercase().starts_with("content-length:");
        let length: usize = head.lines().find(is_length).and_then(|line| line[15..].trim().parse().ok()).unwrap_or_default();
        if answer.len() >= head.len() + 4 + length || read == 0 {
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            return (status.unwrap_or_else(|| panic!("{head}")), head.to_owned(), body.to_owned());
        }
    }
}

/// A wire to a server, on a port of its own. Cut, it carries nothing any more, and tells nobody: what is under way hangs,
/// and who connects is heard by no one.
pub(crate) struct Wire {
    address: String,
    cut: Arc<AtomicBool>,
    deaf: Arc<AtomicBool>,
}

impl Wire {
    pub(crate) fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (cut, deaf) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (server, is_cut, is_deaf) = (server.to_owned(), Arc::clone(&cut), Arc::clone(&deaf));
        // Both end with the test process.
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                for (from, to, is_lost) in [(&client, &upstream, &is_cut), (&upstream, &client, &is_deaf)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let is_lost = Arc::clone(is_lost);
                    thread::spawn(move || carry(from, to, &is_lost));
                }
            }
        });
        Self { address, cut, deaf }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// Cuts it in one direction: what is sent arrives, the answer does not.
    pub(crate) fn cut_answers(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// What was connected meanwhile is not heard even now, as after the loss of a route.
    pub(crate) fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
        self.deaf.store(false, Ordering::SeqCst);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    // So that it sees soon that it was cut.
    _ = from.set_read_timeout(Some(Duration::from_millis(100)));
    let mut some = [0; 16 * 1024];
    let mut lost = false;
    loop {
        let read = from.read(&mut some);
        // Asked once something has arrived: half a request that slips through would be a write that never ends.
        lost |= is_cut.load(Ordering::SeqCst);
        match read {
            Ok(0) => break,
            // A stream with a hole in it is of no use to anybody.
            Ok(_) if lost => {}
            Ok(read) if to.write_all(&some[..read]).is_ok() => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    // Where the wire is cut, the other end does not learn of an end either.
    if !lost {
        _ = to.shutdown(Shutdown::Both);
    }
}
