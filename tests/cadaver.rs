//! Sessions of `cadaver`, a WebDAV client for people, with the example `webdav`: what it prints, and what is true on the
//! server at that moment.
#![cfg(all(unix, feature = "webdav"))]

mod support;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use support::{
    engines::found,
    example::{Example, on_every_store},
};
use tempfile::TempDir;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

on_every_store! {
    a_session_locks_writes_and_unlocks_and_nobody_else_writes_meanwhile,
    a_new_session_of_the_holder_takes_the_lock_over_and_nobody_elses_does,
    a_locked_collection_keeps_others_out_and_lets_its_holder_work_in_it,
    a_file_that_is_being_edited_is_locked_and_afterwards_it_is_not,
    a_name_can_be_locked_before_there_is_anything,
    two_share_a_lock_and_each_is_shown_its_own,
    a_holder_takes_the_lock_over_after_a_restart_where_the_secret_is_the_same,
}

fn a_session_locks_writes_and_unlocks_and_nobody_else_writes_meanwhile(store: &str) {
    let server = Example::start("webdav", &[store]);
    let (mut ann, mut bob) = (Session::open(&server, "ann"), Session::open(&server, "bob"));

    ann.says("put one doc.txt", "succeeded.");
    ann.says("set lockowner ann@example.org", "");
    ann.says("lock doc.txt", "succeeded.");
    let seen = ann.says("discover doc.txt", "Lock token <urn:uuid:");
    for part in ["Depth 0 on", "/doc.txt'", "Scope: exclusive", "Type: write", "Timeout: ", " seconds"] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    let token = token_in(&seen);
    assert_eq!(token_in(&ann.says("showlocks", "Lock token <")), token, "the token that LOCK gave is the one that is shown");

    // The server agrees, and tells the token to ann alone.
    let (status, shown) = discovered(&server, "ann", "/doc.txt");
    assert!(status == 207 && shown.contains(&token) && shown.contains("ann@example.org"), "{shown}");
    let (_, shown) = discovered(&server, "bob", "/doc.txt");
    assert!(!shown.contains(&token) && shown.contains("activelock") && shown.contains("ann@example.org"), "{shown}");

    bob.says("put two doc.txt", "423 Locked");
    bob.says("lock doc.txt", "423 Locked");
    bob.says("delete doc.txt", "423 Locked");
    bob.says("move doc.txt mine.txt", "423 Locked");
    bob.says("propset doc.txt colour red", "423 Locked");
    assert_eq!(get(&server, "/doc.txt"), (200, "one\n".to_owned()));
    assert_eq!(get(&server, "/mine.txt").0, 404);
    // But he may read, and take a copy away, which is nobody's.
    bob.says("cat doc.txt", "one");
    bob.says("copy doc.txt copy.txt", "succeeded.");
    bob.says("put two copy.txt", "succeeded.");

    ann.says("put two doc.txt", "succeeded.");
    ann.says("propset doc.txt colour red", "succeeded.");
    assert_eq!(get(&server, "/doc.txt"), (200, "two\n".to_owned()));

    ann.says("unlock doc.txt", "succeeded.");
    ann.says("showlocks", "No owned locks.");
    ann.says("discover doc.txt", "no locks found");
    assert!(!discovered(&server, "ann", "/doc.txt").1.contains("activelock"));
    bob.says("put three doc.txt", "succeeded.");
    assert_eq!(get(&server, "/doc.txt"), (200, "three\n".to_owned()));
    ann.quit();
    bob.quit();
}

fn a_new_session_of_the_holder_takes_the_lock_over_and_nobody_elses_does(store: &str) {
    let server = Example::start("webdav", &[store]);
    let mut first = Session::open(&server, "ann");
    first.says("put one doc.txt", "succeeded.");
    first.says("lock doc.txt", "succeeded.");
    let token = token_in(&first.says("showlocks", "Lock token <"));
    // As one that crashed: it knows its token no more.
    first.quit();

    let mut bob = Session::open(&server, "bob");
    bob.says("discover doc.txt", "no locks found");
    bob.says("steal doc.txt", "no locks found");
    bob.says("put two doc.txt", "423 Locked");

    let mut second = Session::open(&server, "ann");
    second.says("put two doc.txt", "423 Locked");
    assert_eq!(get(&server, "/doc.txt"), (200, "one\n".to_owned()));
    assert!(second.says("steal doc.txt", "Stealing locks").contains(&token));
    assert_eq!(token_in(&second.says("showlocks", "Lock token <")), token);
    second.says("put two doc.txt", "succeeded.");
    assert_eq!(get(&server, "/doc.txt"), (200, "two\n".to_owned()));

    // The token in another's hands opens nothing, and ends nothing.
    let stolen = format!("If: (<{token}>)");
    assert_eq!(ask(&server, "bob", "PUT", "/doc.txt", &[&stolen], "three\n").0, 423);
    assert_eq!(ask(&server, "bob", "UNLOCK", "/doc.txt", &[&format!("Lock-Token: <{token}>")], "").0, 403);
    assert_eq!(get(&server, "/doc.txt"), (200, "two\n".to_owned()));

    second.says("unlock doc.txt", "succeeded.");
    second.says("showlocks", "No owned locks.");
    bob.says("put three doc.txt", "succeeded.");
    assert_eq!(get(&server, "/doc.txt"), (200, "three\n".to_owned()));
    second.quit();
    bob.quit();
}

fn a_locked_collection_keeps_others_out_and_lets_its_holder_work_in_it(store: &str) {
    let server = Example::start("webdav", &[store]);
    let (mut ann, mut bob) = (Session::open(&server, "ann"), Session::open(&server, "bob"));
    ann.says("mkcol box", "succeeded.");
    ann.says("put one box/old.txt", "succeeded.");
    bob.says("put one loose.txt", "succeeded.");
    ann.says("lock box", "succeeded.");
    let token = token_in(&ann.says("showlocks", "Depth infinity"));

    // Every member is under it, and the holder finds it there too.
    assert!(ann.says("discover box/old.txt", "Depth infinity").contains(&token));
    for command in [
        "put two box/old.txt",
        "put two box/new.txt",
        "mkcol box/sub",
        "delete box/old.txt",
        "move box/old.txt out.txt",
        "move loose.txt box/in.txt",
        "copy loose.txt box/in.txt",
        "rmcol box",
        "lock box/old.txt",
    ] {
        bob.says(command, "423 Locked");
    }
    assert_eq!(get(&server, "/box/old.txt"), (200, "one\n".to_owned()));
    for path in ["/box/new.txt", "/box/sub", "/box/in.txt", "/out.txt"] {
        assert_eq!(get(&server, path).0, 404, "{path}");
    }

    for command in ["put two box/old.txt", "put two box/new.txt", "mkcol box/sub", "move box/new.txt box/sub/new.txt"] {
        ann.says(command, "succeeded.");
    }
    assert_eq!(get(&server, "/box/sub/new.txt"), (200, "two\n".to_owned()));
    ann.says("unlock box", "succeeded.");
    bob.says("move box/old.txt out.txt", "succeeded.");
    bob.says("rmcol box", "succeeded.");
    assert_eq!((get(&server, "/box/old.txt").0, get(&server, "/out.txt").0), (404, 200));
    ann.quit();
    bob.quit();
}

fn a_file_that_is_being_edited_is_locked_and_afterwards_it_is_not(store: &str) {
    let server = Example::start("webdav", &[store]);
    let (mut ann, mut bob) = (Session::open(&server, "ann"), Session::open(&server, "bob"));
    ann.says("put one doc.txt", "succeeded.");
    // The editor: it writes down how bob fares meanwhile. Cadaver compares times to the second, so it dates the file ahead.
    let editor = format!(
        "#!/bin/sh\ncurl -q -s --noproxy '*' -m 30 -o /dev/null -w '%{{http_code}}' -u bob:x -X PUT -d bob http://{}/doc.txt >'{}/seen'\n\
         echo edited >\"$1\"\ntouch -t 203001010000 \"$1\"\n",
        server.address(),
        ann.home(),
    );
    let script = format!("{}/editor", ann.home());
    fs::write(&script, editor).expect("it can be written to");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).expect("it is ours");
    ann.says(&format!("set editor {script}"), "");

    let said = ann.says("edit doc.txt", "Locking `doc.txt': succeeded.");
    assert!(said.contains("Unlocking `doc.txt': succeeded."), "{said}");
    assert_eq!(fs::read_to_string(format!("{}/seen", ann.home())).expect("the editor ran"), "423");
    assert_eq!(get(&server, "/doc.txt"), (200, "edited\n".to_owned()));
    bob.says("put two doc.txt", "succeeded.");
    // And nobody can begin to edit what another one has.
    ann.says("lock doc.txt", "succeeded.");
    bob.says(&format!("set editor {script}"), "");
    bob.says("edit doc.txt", "423 Locked");
    assert_eq!(get(&server, "/doc.txt"), (200, "two\n".to_owned()));
    ann.quit();
    bob.quit();
}

fn a_name_can_be_locked_before_there_is_anything(store: &str) {
    let server = Example::start("webdav", &[store]);
    let (mut ann, mut bob) = (Session::open(&server, "ann"), Session::open(&server, "bob"));
    ann.says("lock new.txt", "succeeded.");
    assert_eq!(get(&server, "/new.txt"), (200, String::new()));
    ann.says("ls", "new.txt");
    bob.says("put two new.txt", "423 Locked");
    bob.says("mkcol new.txt", "failed");
    ann.says("put one new.txt", "succeeded.");
    ann.says("unlock new.txt", "succeeded.");
    assert_eq!(get(&server, "/new.txt"), (200, "one\n".to_owned()));
    // Where there is no folder to have it in, there is no lock either.
    ann.says("lock nowhere/new.txt", "409 Conflict");
    ann.says("showlocks", "No owned locks.");
    bob.says("mkcol nowhere", "succeeded.");
    bob.says("put two nowhere/new.txt", "succeeded.");
    ann.quit();
    bob.quit();
}

fn two_share_a_lock_and_each_is_shown_its_own(store: &str) {
    let server = Example::start("webdav", &[store]);
    let (mut ann, mut bob) = (Session::open(&server, "ann"), Session::open(&server, "bob"));
    ann.says("put one doc.txt", "succeeded.");
    let mut tokens = Vec::new();
    for session in [&mut ann, &mut bob] {
        session.says("set lockscope shared", "");
        session.says("lock doc.txt", "succeeded.");
        tokens.push(token_in(&session.says("showlocks", "Scope: shared")));
    }
    assert_ne!(tokens[0], tokens[1]);
    // A client that knows one lock of a resource: of several it takes the last, and of each property the last there is.
    for (name, session, token) in [("ann", &mut ann, &tokens[0]), ("bob", &mut bob, &tokens[1])] {
        assert_eq!(token_in(&session.says("discover doc.txt", &format!("Owner: {name}"))), *token);
    }
    let mut carol = Session::open(&server, "carol");
    carol.says("put three doc.txt", "423 Locked");
    carol.says("lock doc.txt", "423 Locked");
    ann.says("put two doc.txt", "succeeded.");
    ann.says("unlock doc.txt", "succeeded.");
    carol.says("put three doc.txt", "423 Locked");
    bob.says("put one doc.txt", "succeeded.");
    bob.says("unlock doc.txt", "succeeded.");
    carol.says("put three doc.txt", "succeeded.");
    assert_eq!(get(&server, "/doc.txt"), (200, "three\n".to_owned()));
    for session in [ann, bob, carol] {
        session.quit();
    }
}

fn a_holder_takes_the_lock_over_after_a_restart_where_the_secret_is_the_same(store: &str) {
    let start = |secret| Example::start_knowing(&[("TOKEN_SECRET", secret)], "webdav", &[store]);
    let server = start("ours");
    let info = "<lockinfo xmlns='DAV:'><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>";
    let (status, granted) = ask(&server, "ann", "LOCK", "/doc.txt", &[], info);
    assert_eq!(status, 201, "{granted}");
    let token = granted.split_once("<D:locktoken><D:href>").and_then(|(_, rest)| rest.split_once('<')).expect("a token").0;
    drop(server);

    let server = start("ours");
    if store == "memory:" {
        assert_eq!(ask(&server, "bob", "PUT", "/doc.txt", &[], "two").0, 201, "these locks end with their process");
        return;
    }
    assert_eq!(ask(&server, "bob", "PUT", "/doc.txt", &[], "two").0, 423);
    // The files were in memory: there has to be one to look at.
    let condition = format!("If: (<{token}>)");
    assert_eq!(ask(&server, "ann", "PUT", "/doc.txt", &[&condition], "one").0, 201);
    assert!(discovered(&server, "ann", "/doc.txt").1.contains(token));
    assert!(!discovered(&server, "bob", "/doc.txt").1.contains(token));
    drop(server);

    // By another secret the lock holds as well, and nobody is shown a token, least of all a wrong one.
    let server = start("another");
    assert_eq!(ask(&server, "ann", "PUT", "/doc.txt", &[&condition], "one").0, 201);
    let (_, shown) = discovered(&server, "ann", "/doc.txt");
    assert!(shown.contains("activelock") && !shown.contains("locktoken"), "{shown}");
    assert_eq!(ask(&server, "ann", "UNLOCK", "/doc.txt", &[&format!("Lock-Token: <{token}>")], "").0, 204);
}

/// Such as `urn:uuid:…`.
fn token_in(shown: &str) -> String {
    let token = shown.split_once("Lock token <").and_then(|(_, rest)| rest.split_once('>'));
    token.unwrap_or_else(|| panic!("no token is shown: {shown}")).0.to_owned()
}

// --- cadaver -------------------------------------------------------------------------------------------------------

/// What it prints when it waits for a command.
const PROMPT: &str = "dav:/> ";

/// A cadaver that somebody types into, in a folder with the files `one`, `two` and `three`, which say so.
struct Session {
    process: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    home: TempDir,
}

impl Session {
    fn open(server: &Example, user: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let file = |name: &str, content: &str| fs::write(home.path().join(name), content).expect("it can be written to");
        file(".netrc", &format!("machine 127.0.0.1\nlogin {user}\npassword x\n"));
        for name in ["one", "two", "three"] {
            file(name, &format!("{name}\n"));
        }
        let mut process = Command::new(found(&["cadaver"], "cadaver"))
            .arg(format!("http://{}/", server.address()))
            .current_dir(home.path())
            .env("HOME", home.path())
            // What it prints is looked at in English, and without the codes of a terminal.
            .env("LC_ALL", "C")
            .env("TERM", "dumb")
            .env_remove("INPUTRC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cadaver runs");
        let (input, mut printed) = (process.stdin.take().expect("ours"), process.stdout.take().expect("ours"));
        let (some, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = printed.read(&mut buffer) {
                if some.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut session = Self { process, input, output, home };
        let greeting = session.until_it_waits();
        assert!(!greeting.contains("failed") && !greeting.contains("Could not"), "{greeting}");
        session
    }

    fn home(&self) -> String {
        self.home.path().display().to_string()
    }

    /// Types a command; what it printed, which has `expected` in it.
    fn says(&mut self, command: &str, expected: &str) -> String {
        writeln!(self.input, "{command}").expect("it reads");
        let said = self.until_it_waits();
        let said = said.trim_start_matches(command).trim().to_owned();
        assert!(said.contains(expected), "{command}: {expected} was expected, but it said:\n{said}");
        said
    }

    fn until_it_waits(&mut self) -> String {
        let mut said = Vec::new();
        while !said.ends_with(PROMPT.as_bytes()) {
            match self.output.recv_timeout(PATIENCE) {
                Ok(some) => said.extend(some),
                Err(why) => panic!("cadaver does not go on ({why}): {}", String::from_utf8_lossy(&said)),
            }
        }
        String::from_utf8_lossy(&said).replace(PROMPT, "")
    }

    fn quit(mut self) {
        writeln!(self.input, "quit").expect("it reads");
        assert!(self.process.wait().expect("it ends").success());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

// --- the server's own word -----------------------------------------------------------------------------------------

fn get(server: &Example, path: &str) -> (u16, String) {
    ask(server, "carol", "GET", path, &[], "")
}

fn discovered(server: &Example, user: &str, path: &str) -> (u16, String) {
    let body = "<propfind xmlns=\"DAV:\"><prop><lockdiscovery/></prop></propfind>";
    ask(server, user, "PROPFIND", path, &["Depth: 0", "Content-Type: application/xml"], body)
}

/// A request by hand, and the status and body of its answer.
fn ask(server: &Example, user: &str, method: &str, path: &str, fields: &[&str], body: &str) -> (u16, String) {
    use base64::prelude::{BASE64_STANDARD, Engine};

    let credentials = BASE64_STANDARD.encode(format!("{user}:x"));
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let (address, length) = (server.address(), body.len());
    // In 1.0 a body ends with its connection, and not in chunks.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Basic {credentials}\r\nContent-Length: {length}\r\n{fields}\r\n{body}"
    );
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{head}")), body.to_owned())
}
