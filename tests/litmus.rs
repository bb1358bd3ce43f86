//! The neutral suite of WebDAV, `litmus`, against the example `webdav`: a handler that knows nothing of locks passes the
//! suite of locks in full, on every store, and does no worse than before in the other suites.
//!
//! What litmus prints is counted line by line, and the counts have to agree with its own summary: a suite that did not run,
//! or one whose tests were left out, is a failure here.
#![cfg(all(unix, feature = "webdav"))]

mod support;

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
};

use support::{
    engines::found,
    example::{Example, on_every_store},
};

/// The suites that know nothing of locks.
const OTHERS: [&str; 4] = ["basic", "copymove", "props", "http"];

on_every_store! {
    every_test_of_the_suite_of_locks_passes,
    the_other_suites_are_no_worse_than_without_the_layer,
}

fn every_test_of_the_suite_of_locks_passes(store: &str) {
    let server = Example::start("webdav", &[store]);
    let report = litmus(&server, &["locks"]);
    let locks = report.suite("locks");
    assert_eq!(*locks, Suite { run: all_of_locks(), passed: all_of_locks(), ..Suite::default() }, "{}", report.output);
}

fn the_other_suites_are_no_worse_than_without_the_layer(store: &str) {
    let before = litmus(&Example::start("webdav", &["memory:", "bare"]), &OTHERS);
    let wrapped = litmus(&Example::start("webdav", &[store]), &OTHERS);
    for name in OTHERS {
        let (before, with_locks) = (before.suite(name), wrapped.suite(name));
        let is_worse = with_locks.run < before.run
            || with_locks.passed < before.passed
            || with_locks.failed > before.failed
            || with_locks.skipped > before.skipped
            || with_locks.warnings > before.warnings;
        assert!(!is_worse, "{name}: {with_locks:?}, without the layer {before:?}\n{}", wrapped.output);
    }
}

/// Else the tests above would prove nothing.
#[test]
fn without_the_layer_the_suite_of_locks_fails() {
    let report = litmus(&Example::start("webdav", &["memory:", "bare"]), &["locks"]);
    let locks = report.suite("locks");
    assert!(locks.failed > 0 && locks.skipped > 0 && locks.passed < all_of_locks(), "{}", report.output);
}

#[test]
fn the_line_that_the_example_prints_is_the_one_that_is_run_here() {
    let server = Example::start("webdav", &["memory:"]);
    let line = format!("(cd \"$(mktemp -d)\" && {})", arguments(&server).join(" "));
    assert!(server.lines().contains(&line), "{line}: {:?}", server.lines());
}

#[test]
fn what_cannot_be_counted_is_no_pass() {
    let whole = "-> running `locks':\n 0. init.... pass\n 1. begin... WARNING: odd\n    ....... pass (with 1 warning)\n \
                 2. lock.... FAIL (405)\n 3. put..... SKIPPED\n-> 1 test was skipped.\n\
                 <- summary for `locks': of 3 tests run: 2 passed, 1 failed. 66.7%\n-> 1 warning was issued.\n";
    let counted = Report::read(whole.to_owned());
    assert_eq!(*counted.suite("locks"), Suite { run: 3, passed: 2, failed: 1, skipped: 1, warnings: 1 });

    let fails = |what: &str, output: String| {
        let read = std::panic::catch_unwind(|| _ = Report::read(output).suite("locks"));
        assert!(read.is_err(), "{what}");
    };
    fails("nothing ran", String::new());
    fails("another suite ran", whole.replace("`locks'", "`props'"));
    fails("it ended before its summary", whole.lines().take(5).collect::<Vec<_>>().join("\n"));
    fails("tests were left out, and nobody says so", whole.replace("-> 1 test was skipped.\n", ""));
    fails("more was left out than is listed", whole.replace("-> 1 test was skipped.", "-> 2 tests were skipped."));
    fails("a warning that is not counted", whole.replace("-> 1 warning was issued.\n", ""));
    fails("a summary that does not add up", whole.replace("2 passed", "3 passed"));
    fails("a remark that nobody knows", whole.replace("-> 1 warning was issued.", "-> 1 oddity was noted."));
}

/// How many tests the suite of locks has: the first version counted a step of preparation as one.
fn all_of_locks() -> usize {
    let version = Command::new(found(&["litmus"], "litmus")).arg("--version").output().expect("litmus runs");
    if String::from_utf8_lossy(&version.stdout).trim() == "litmus 0.13" { 41 } else { 40 }
}

fn arguments(server: &Example) -> [String; 5] {
    ["litmus", "-k", &format!("http://{}/", server.address()), "ann", "x"].map(str::to_owned)
}

fn litmus(server: &Example, suites: &[&str]) -> Report {
    // It leaves its logs where it is started.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(found(&["litmus"], "litmus"))
        .args(&arguments(server)[1..])
        .current_dir(folder.path())
        .env("TESTS", suites.join(" "))
        .env_remove("HTDOCS")
        .env_remove("TESTROOT")
        .stdin(Stdio::null())
        .output()
        .expect("litmus runs");
    // A failed test makes it print what lies about in its memory.
    let mut text = String::from_utf8_lossy(&output.stdout).replace('\r', "\n");
    text += &String::from_utf8_lossy(&output.stderr);
    Report::read(text)
}

/// What litmus printed, counted.
struct Report {
    suites: BTreeMap<String, Suite>,
    output: String,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Suite {
    run: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
    warnings: usize,
}

impl Report {
    fn read(output: String) -> Self {
        let mut suites = BTreeMap::new();
        for part in output.split("-> running `").skip(1) {
            let (name, rest) = part.split_once("':\n").unwrap_or_else(|| panic!("{part}"));
            let suite = Suite::read(name, rest).unwrap_or_else(|why| panic!("{name}: {why}\n{output}"));
            assert!(suites.insert(name.to_owned(), suite).is_none(), "{name} ran twice\n{output}");
        }
        Self { suites, output }
    }

    fn suite(&self, name: &str) -> &Suite {
        self.suites.get(name).unwrap_or_else(|| panic!("{name} did not run\n{}", self.output))
    }
}

impl Suite {
    /// Counts twice: by the lines of the tests, and by the summary.
    fn read(name: &str, output: &str) -> Result<Self, String> {
        let (mut listed, mut told) = (Self::default(), Self::default());
        let mut is_whole = false;
        for line in output.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let Some(summary) = line.strip_prefix("<- ") {
                let numbers = summary.strip_prefix(&format!("summary for `{name}': of ")).ok_or(line)?;
                let [run, "tests", "run:", passed, "passed,", failed, "failed.", _] =
                    numbers.split(' ').collect::<Vec<_>>()[..]
                else {
                    return Err(line.to_owned());
                };
                for (count, number) in [(&mut told.run, run), (&mut told.passed, passed), (&mut told.failed, failed)] {
                    *count = number.parse().map_err(|_| line)?;
                }
                is_whole = true;
            } else if let Some(remark) = line.strip_prefix("-> ") {
                let [number, what, ..] = remark.split(' ').collect::<Vec<_>>()[..] else { return Err(line.to_owned()) };
                let count = match what.trim_end_matches('s') {
                    "test" if remark.ends_with("skipped.") => &mut told.skipped,
                    "warning" => &mut told.warnings,
                    _ => return Err(line.to_owned()),
                };
                *count = number.parse().map_err(|_| line)?;
            } else if words.contains(&"WARNING:") {
                listed.warnings += 1;
            } else if words.last() == Some(&"SKIPPED") {
                listed.skipped += 1;
            } else if words.contains(&"FAIL") {
                listed.failed += 1;
                listed.run += 1;
            } else if words.contains(&"pass") {
                listed.passed += 1;
                listed.run += 1;
            }
        }
        if !is_whole {
            return Err("there is no summary".to_owned());
        }
        if listed != told {
            return Err(format!("its lines say {listed:?}, its summary {told:?}"));
        }
        Ok(told)
    }
}
