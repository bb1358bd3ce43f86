//! The crate's examples as programs that run, and a test of one for every store.
#![allow(dead_code, unreachable_pub, unused_imports, unused_macros, reason = "every test binary uses a part of it")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use serde_json::Value;

/// Makes of each function that takes the URL of a store a test for every store there is, on an engine of its own that
/// lives as long as the test.
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        mod memory {
            $(#[test]
            fn $test() {
                super::$test("memory:");
            })*
        }

        #[cfg(feature = "redb")]
        mod redb {
            $(#[test]
            fn $test() {
                let folder = tempfile::tempdir().expect("a temporary folder");
                super::$test(&format!("redb:{}", folder.path().join("locks.redb").display()));
            })*
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(#[test]
            fn $test() {
                let server = crate::support::engines::RedisServer::start();
                super::$test(&server.url());
            })*
        }

        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[test]
            fn $test() {
                let server = crate::support::engines::PostgresServer::start();
                super::$test(&server.url());
            })*
        }
    };
}
pub(crate) use on_every_store;

/// An example that listens on a free port, and ends with this value.
pub struct Example {
    process: Child,
    /// Kept open: the program would fail to print otherwise.
    _output: BufReader<ChildStdout>,
    lines: Vec<String>,
}

impl Example {
    /// Starts it; `arguments` come after the address.
    pub fn start(example: &str, arguments: &[&str]) -> Self {
        Self::start_knowing(&[], example, arguments)
    }

    /// The same, with these in its environment.
    pub fn start_knowing(environment: &[(&str, &str)], example: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new(built(example))
            .arg("127.0.0.1:0")
            .args(arguments)
            .envs(environment.iter().copied())
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
        let example = Self { process, _output: output, lines };
        assert!(example.lines[0].starts_with("listening on http://127.0.0.1:"), "{:?}", example.lines);
        example
    }

    /// What it printed, from `listening on` to how it ends.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> &str {
        self.lines[0].trim_start_matches("listening on http://")
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Where the example's program is, built if it has to be: `cargo test` does so by itself, `cargo test --test` does not.
pub fn built(example: &str) -> String {
    static BUILT: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    // Once for each: cargo takes a while to find out that there is nothing to do.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    built.entry(example.to_owned()).or_insert_with(|| build(example)).clone()
}

fn build(example: &str) -> String {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--message-format=json", "--example", example]);
    if cfg!(feature = "full") {
        cargo.arg("--all-features");
    }
    for (feature, is_on) in [
        ("redb", cfg!(feature = "redb")),
        ("redis", cfg!(feature = "redis")),
        ("postgres", cfg!(feature = "postgres")),
        ("webdav", cfg!(feature = "webdav")),
        ("grpc", cfg!(feature = "grpc")),
        ("batch", cfg!(feature = "batch")),
        ("grpc", cfg!(feature = "grpc")),
        ("client", cfg!(feature = "client")),
    ] {
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
