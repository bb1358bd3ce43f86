//! What the examples print when they are ready works as it stands, on every store: each curl line is run by a shell, in
//! order.
#![cfg(unix)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;

/// A test of each example for each store, on a server that lives as long as this value.
macro_rules! on {
    ($($store:ident: $url:expr;)*) => { $(mod $store {
        #[test]
        fn the_story_of_the_axum_example_is_true() {
            let (url, _server) = $url;
            super::the_story_of_the_axum_example_is_true(&url);
        }

        #[test]
        fn the_story_of_the_hyper_example_is_true() {
            let (url, _server) = $url;
            super::the_story_of_the_hyper_example_is_true(&url);
        }

        #[test]
        fn the_story_of_the_custom_store_is_true() {
            let (url, _server) = $url;
            super::the_story_of_the_custom_store_is_true(&url);
        }
    })* };
}

on! {
    memory: (String::from("memory:"), ());
}

#[cfg(feature = "redb")]
on! {
    redb: {
        let folder = tempfile::tempdir().expect("a temporary folder");
        (format!("redb:{}", folder.path().join("locks.redb").display()), folder)
    };
}

#[cfg(feature = "redis")]
on! {
    redis: {
        let server = crate::support::engines::RedisServer::start();
        (server.url(), server)
    };
}

#[cfg(feature = "postgres")]
on! {
    postgres: {
        let server = crate::support::engines::PostgresServer::start();
        (server.url(), server)
    };
}

#[test]
fn a_url_that_names_no_store_is_told_what_does() {
    let away = if cfg!(feature = "postgres") { "Connection refused" } else { "the feature postgres" };
    for (url, told) in [("mysql://127.0.0.1", "redis://"), ("postgres://127.0.0.1:1/none", away)] {
        let output = Command::new(built("axum")).args(["127.0.0.1:0", url]).output().expect("an example runs");
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && message.contains(told) && !message.contains("panicked"), "{url}: {message}");
    }
}

fn the_story_of_the_axum_example_is_true(store: &str) {
    let Some(answers) = told("axum", store) else { return };
    let [create, acquire, refused, read, admin, held, list, refresh, release, free, job, nobody] = &answers[..] else {
        panic!("the story has another number of lines: {answers:#?}")
    };

    assert_eq!(create.status, 201);
    assert!(acquire.text.starts_with("<urn:uuid:"), "{acquire:?}");
    assert_eq!(read.json()["title"], "Plan", "reads go on");

    let body = refused.refusal(423, "locked");
    assert_eq!((&body["resource"], &body["locks"][0]["mine"]), (&"/docs/7".into(), &false.into()));
    assert!(body["locks"][0].get("owner").is_none(), "a stranger is told neither who nor why: {body}");
    let body = admin.refusal(423, "locked");
    assert_eq!(body["locks"][0]["owner"]["id"], "ann");
    assert_eq!(body["locks"][0]["reason"], "rewriting chapter two");

    assert_eq!(held.status, 204);
    assert_eq!(list.status, 200);
    assert!(list.text.contains("rewriting chapter two"), "{list:?}");
    assert_eq!((refresh.status, release.status, free.status), (200, 204, 204));
    let fence = |answer: &Answer| answer.header("x-fence").parse::<u64>().unwrap();
    assert!(fence(create) < fence(held) && fence(held) <= fence(free), "{create:?} {held:?} {free:?}");

    let body = job.refusal(423, "locked");
    assert_eq!((&body["resource"], &body["locks"][0]["kind"]), (&"/docs/report".into(), &"job".into()));
    assert!(body["detail"].as_str().unwrap().contains("locked by the report job (nightly report)"), "{body}");
    assert_eq!(nobody.status, 401);
    assert!(nobody.header("www-authenticate").starts_with("Basic"));
}

fn the_story_of_the_hyper_example_is_true(store: &str) {
    let Some(answers) = told("hyper", store) else { return };
    let [create, acquire, refused, above, held, inspect, release, free] = &answers[..] else {
        panic!("the story has another number of lines: {answers:#?}")
    };
    assert_eq!(create.status, 201);
    assert!(acquire.text.starts_with("<urn:uuid:"), "{acquire:?}");
    assert_eq!(refused.refusal(423, "locked")["resource"], "/notes/1");
    assert_eq!(above.refusal(423, "locked")["locks"][0]["resource"], "/notes/1");
    assert_eq!((held.status, inspect.status), (204, 200));
    assert!(inspect.text.contains("\"/notes/1\""), "{inspect:?}");
    assert_eq!((release.status, free.status), (204, 204));
}

#[test]
fn a_store_of_ones_own_tells_the_same_story() {
    the_story_of_the_custom_store_is_true("list:");
}

fn the_story_of_the_custom_store_is_true(store: &str) {
    let Some(answers) = told("custom_store", store) else { return };
    let [acquire, refused, held, release, free] = &answers[..] else {
        panic!("the story has another number of lines: {answers:#?}")
    };
    assert!(acquire.text.starts_with("<urn:uuid:"), "{acquire:?}");
    assert_eq!(refused.refusal(423, "locked")["resource"], "/docs/1");
    assert_eq!((held.status, release.status, free.status), (200, 204, 200));
}

/// The answers to the lines that an example prints, or nothing where there is no curl.
fn told(example: &str, store: &str) -> Option<Vec<Answer>> {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        let missing = "missing: curl, so the lines that the examples print are not tried";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        eprintln!("skipped; {missing}");
        return None;
    }
    Some(Server::start(example, store).tell())
}

struct Server {
    process: Child,
    /// Kept open: the server would fail to print otherwise.
    _output: BufReader<ChildStdout>,
    lines: Vec<String>,
}

impl Server {
    fn start(example: &str, store: &str) -> Self {
        let mut process = Command::new(built(example))
            .args(["127.0.0.1:0", store])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("an example runs");
        let mut output = BufReader::new(process.stdout.take().expect("its output is ours"));
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let ended = output.read_line(&mut line).is_ok_and(|read| read == 0);
            lines.push(line.trim_end().to_owned());
            if ended || line.starts_with("# ctrl-c") {
                break;
            }
        }
        let server = Self { process, _output: output, lines };
        assert!(server.lines[0].starts_with("listening on http://127.0.0.1:"), "{:?}", server.lines);
        // A shell that takes no comments when it is typed into (zsh) would run them: nothing in them may do anything.
        let harmless = |text: &str| text.chars().all(|each| each.is_ascii_alphanumeric() || " ,-".contains(each));
        for comment in server.lines.iter().filter_map(|line| line.strip_prefix('#')) {
            assert!(harmless(comment), "{comment}");
        }
        server
    }

    /// Runs the lines in one shell, as somebody would who pastes them.
    fn tell(&self) -> Vec<Answer> {
        const MARK: &str = "=== the next answer ===";
        let curl_home = tempfile::tempdir().expect("a folder for curl's own settings");
        fs::write(curl_home.path().join(".curlrc"), "max-time = 30\nnoproxy = *\n").expect("it can be written to");
        let commands: Vec<&String> =
            self.lines[1..].iter().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let script: String = commands.iter().map(|command| format!("echo '{MARK}'\n{command}\necho\n")).collect();

        let mut shell = Command::new("sh")
            .env("CURL_HOME", curl_home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        shell.stdin.take().expect("its input is ours").write_all(script.as_bytes()).expect("it reads");
        let output = shell.wait_with_output().expect("it ends");
        let output = String::from_utf8(output.stdout).expect("the answers are text");
        let answers: Vec<Answer> = output.split(MARK).skip(1).map(Answer::read).collect();
        assert_eq!(answers.len(), commands.len(), "{output}");
        answers
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Where the example's program is, built if it has to be: `cargo test` does so by itself, `cargo test --test` does not.
fn built(example: &str) -> String {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--message-format=json", "--example", example]);
    if cfg!(feature = "full") {
        cargo.arg("--all-features");
    }
    for (feature, is_on) in
        [("redb", cfg!(feature = "redb")), ("redis", cfg!(feature = "redis")), ("postgres", cfg!(feature = "postgres"))]
    {
        if is_on {
            cargo.args(["--features", feature]);
        }
    }
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(output.status.success(), "{example} does not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == example && message["target"]["kind"][0] == "example")
        .find_map(|message| message["executable"].as_str().map(str::to_owned))
        .expect("cargo says where it put the example")
}

/// What `curl -i` showed, or another command printed.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    text: String,
}

impl Answer {
    fn read(output: &str) -> Self {
        let output = output.trim().replace('\r', "");
        if !output.starts_with("HTTP/") {
            return Self { status: 0, head: String::new(), text: output };
        }
        let (head, text) = output.split_once("\n\n").unwrap_or((&output, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Self { status, head: head.to_owned(), text: text.to_owned() }
    }

    fn header(&self, name: &str) -> &str {
        let field =
            self.head.lines().filter_map(|line| line.split_once(": ")).find(|(field, _)| field.eq_ignore_ascii_case(name));
        field.unwrap_or_else(|| panic!("no {name} in {self:?}")).1
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of a refusal that stands for itself.
    fn refusal(&self, status: u16, code: &str) -> Value {
        let body = self.json();
        assert_eq!((self.status, self.header("content-type")), (status, "application/problem+json"), "{self:?}");
        assert_eq!((&body["status"], &body["code"]), (&status.into(), &code.into()), "{body}");
        body
    }
}
