//! The example as a server, requests to it by hand, and git with a home of its own.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::support::example::Example;

pub(crate) const LFS: &str = "application/vnd.git-lfs+json";

/// A repository of a running server, as one user sees it.
#[derive(Clone, Copy)]
pub(crate) struct Client<'s> {
    address: &'s str,
    repository: &'s str,
    user: &'s str,
}

pub(crate) fn server(store: &str) -> Example {
    Example::start("git_lfs", &[store])
}

impl<'s> Client<'s> {
    pub(crate) fn new(server: &'s Example, repository: &'s str, user: &'s str) -> Self {
        Self { address: server.address(), repository, user }
    }

    pub(crate) fn lock(&self, path: &str) -> Answer {
        self.post("locks", &json!({ "path": path, "ref": { "name": "refs/heads/main" } }))
    }

    /// Locks it, and answers the id.
    pub(crate) fn locked(&self, path: &str) -> String {
        let answer = self.lock(path);
        assert_eq!(answer.status, 201, "{path}: {answer:?}");
        answer.json()["lock"]["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) fn unlock(&self, id: &str, force: bool) -> Answer {
        self.post(&format!("locks/{id}/unlock"), &json!({ "force": force, "ref": { "name": "refs/heads/main" } }))
    }

    /// `GET /locks` with this query.
    pub(crate) fn list(&self, query: &str) -> Answer {
        self.send("GET", &format!("locks?{query}"), &[("Accept", LFS)], b"")
    }

    pub(crate) fn verify(&self, body: &Value) -> Answer {
        self.post("locks/verify", body)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.raw(path, body.to_string().as_bytes())
    }

    /// The same with any body.
    pub(crate) fn raw(&self, path: &str, body: &[u8]) -> Answer {
        let kind = format!("{LFS}; charset=utf-8");
        self.send("POST", path, &[("Accept", LFS), ("Content-Type", &kind)], body)
    }

    pub(crate) fn send(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        let credentials = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:x", self.user)));
        let mut all = vec![("Authorization", credentials.as_str())];
        all.extend_from_slice(fields);
        exchange(self.address, method, &format!("/{}/info/lfs/{path}", self.repository), &all, body)
    }

    /// Asks as the hook of a repository does.
    pub(crate) fn may_push(&self, paths: &[&str]) -> Answer {
        let credentials = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:x", self.user)));
        let path = format!("/{}/pre-receive", self.repository);
        exchange(self.address, "POST", &path, &[("Authorization", &credentials)], paths.join("\0").as_bytes())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The message of a failure, which is in the form that the client reads.
    pub(crate) fn failure(&self, status: u16) -> String {
        assert_eq!((self.status, self.header("content-type")), (status, Some(LFS)), "{self:?}");
        self.json()["message"].as_str().unwrap_or_else(|| panic!("no message: {self:?}")).to_owned()
    }

    /// The locks of a list, and where it goes on.
    pub(crate) fn locks(&self) -> (Vec<Value>, Option<String>) {
        assert_eq!((self.status, self.header("content-type")), (200, Some(LFS)), "{self:?}");
        let body = self.json();
        let next = body.get("next_cursor").map(|cursor| cursor.as_str().expect("a cursor is text").to_owned());
        (body["locks"].as_array().expect("a list, if an empty one").clone(), next)
    }
}

/// Sends one request and reads the whole answer.
pub(crate) fn exchange(address: &str, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n"
    );
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("it can be set");
    stream.write_all(head.as_bytes()).expect("it reads");
    // It may have answered, and hung up, before it has read all of this.
    _ = stream.write_all(body);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert!(!answer.is_empty(), "{method} {target}: {error}");
    }
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let head = String::from_utf8(answer[..end].to_vec()).expect("a head is text").replace('\r', "");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
    Answer { status, head, body: answer[end + 4..].to_vec() }
}

/// A path as it stands in a query.
pub(crate) fn in_query(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Says so past the test harness, which keeps what is printed by tests that pass.
pub(crate) fn left_out(what: &str) {
    writeln!(std::io::stderr(), "left out: {what}").expect("somebody may read it");
}

/// Git and git-lfs in a folder of their own, which know nothing of this machine's settings.
pub(crate) struct Git {
    folder: tempfile::TempDir,
    address: String,
}

impl Git {
    /// A bare repository `origin.git`; nothing, where the programs are missing, and then says so.
    pub(crate) fn found(server: &Example) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let git = Self { folder, address: server.address().to_owned() };
        let version = git.command(".").args(["lfs", "version"]).output();
        if !version.is_ok_and(|output| output.status.success()) {
            left_out("the real git lfs is not tried; to have it: apt-get install git git-lfs");
            return None;
        }
        git.run(".", &["lfs", "install", "--skip-repo"]);
        git.run(".", &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"]);
        Some(git)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn url(&self, user: &str) -> String {
        format!("http://{user}:x@{}/paint/info/lfs", self.address)
    }

    /// Where the hook asks.
    pub(crate) fn hook_url(&self) -> String {
        format!("http://{}/paint/pre-receive", self.address)
    }

    /// A clone of `origin.git` for `user`, in a folder of that name, set up as the example says.
    pub(crate) fn clone(&self, user: &str) {
        let url = self.url(user);
        self.run(".", &["-c", &format!("lfs.url={url}"), "clone", "--quiet", "origin.git", user]);
        self.run(user, &["config", "user.name", user]);
        self.run(user, &["config", "user.email", &format!("{user}@example.com")]);
        self.run(user, &["config", "lfs.url", &url]);
        self.run(user, &["config", &format!("lfs.{url}.locksverify"), "true"]);
    }

    pub(crate) fn command(&self, folder: &str) -> Command {
        let home = self.folder.path();
        let mut git = Command::new("git");
        git.current_dir(home.join(folder)).env_clear().stdin(Stdio::null());
        git.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        git.env("HOME", home).env("XDG_CONFIG_HOME", home.join(".config"));
        git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", home.join(".gitconfig"));
        git.env("GIT_TERMINAL_PROMPT", "0").env("no_proxy", "*").env("LC_ALL", "C");
        git
    }

    /// What it printed; it must succeed.
    pub(crate) fn run(&self, folder: &str, arguments: &[&str]) -> String {
        self.ran(self.command(folder).args(arguments)).unwrap_or_else(|output| panic!("git {arguments:?}: {output}"))
    }

    /// What it printed; it must fail.
    pub(crate) fn fails(&self, folder: &str, arguments: &[&str]) -> String {
        match self.ran(self.command(folder).args(arguments)) {
            Ok(output) => panic!("git {arguments:?} succeeds: {output}"),
            Err(output) => output,
        }
    }

    pub(crate) fn ran(&self, command: &mut Command) -> Result<String, String> {
        let output = command.output().expect("git runs");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// Writes a file of a clone, also one that git-lfs made read-only because it is not locked.
    pub(crate) fn write(&self, file: impl AsRef<Path>, content: &str) {
        let file = self.folder.path().join(file);
        std::fs::create_dir_all(file.parent().expect("it is in a clone")).expect("a folder");
        if file.exists() {
            std::fs::remove_file(&file).expect("it can be replaced");
        }
        std::fs::write(&file, content).expect("it can be written");
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).expect(file)
    }

    /// Writes a file of a clone and commits it.
    pub(crate) fn commit(&self, clone: &str, file: &str, content: &str) {
        self.write(format!("{clone}/{file}"), content);
        self.run(clone, &["add", "--all"]);
        self.run(clone, &["commit", "--quiet", "--message", file]);
    }
}
