//! What the examples print when they are ready works as it stands, on every store: each curl line is run by a shell, in
//! order.
#![cfg(unix)]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use serde_json::Value;
use support::example::{Example, built, on_every_store};

on_every_store! {
    the_story_of_the_axum_example_is_true,
    the_story_of_the_hyper_example_is_true,
    the_story_of_the_custom_store_is_true,
    the_story_of_the_terraform_example_is_true,
    the_story_of_the_git_lfs_example_is_true,
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

#[test]
fn the_editor_says_where_to_open_it_and_how_to_watch_it() {
    let example = Example::start("editor", &[]);
    harmless_to_shells(&example);
    let addresses = example.lines().iter().filter(|line| line.starts_with("http"));
    let hosts: Vec<_> = addresses.map(|address| address.replace("http://", "").replace('/', "")).collect();
    let port = example.address().rsplit(':').next().unwrap();
    assert_eq!(hosts, [example.address().to_owned(), format!("localhost:{port}")]);

    if !has_curl() {
        return;
    }
    // It goes on for as long as somebody looks; the state of things comes first.
    let line = example.lines().iter().find(|line| line.starts_with("curl ")).expect("a line to watch with");
    let mut shell = Command::new("sh")
        .args(["-c", &format!("exec {line} --noproxy '*' --silent --max-time 30")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut told = BufReader::new(shell.stdout.take().expect("its output is ours")).lines().map_while(Result::ok);
    assert!(told.any(|line| line == "event: snapshot"));
    let data = told.find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).expect("what it is about");
    assert!(data.contains("/docs/welcome") && data.contains("\"locked\":false"), "{data}");
    shell.kill().expect("it runs still");
    shell.wait().expect("it ends");
}

fn the_story_of_the_axum_example_is_true(store: &str) {
    let Some(answers) = told("axum", store) else { return };
    let [
        create,
        acquire,
        refused,
        read,
        admin,
        held,
        list,
        refresh,
        waited,
        release,
        free,
        again,
        broken,
        lost,
        job,
        nobody,
    ] = &answers[..]
    else {
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
    assert_eq!(waited.refusal(423, "locked")["resource"], "/docs/7");
    assert_eq!(waited.header("preference-applied"), "wait=2");
    assert!(again.text.starts_with("<urn:uuid:"), "{again:?}");
    assert_eq!(broken.status, 200, "{broken:?}");
    let lost = &lost.refusal(412, "lock_lost")["lost"][0];
    assert_eq!(lost["cause"], "broken");
    assert_eq!((&lost["by"], &lost["reason"]), (&"admin".into(), &"the minister comes".into()));
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

fn the_story_of_the_terraform_example_is_true(store: &str) {
    let Some(answers) = told("terraform", store) else { return };
    let [lock, again, refused, write, read, unlocked, foreign, forced, broken, lost, next, unlock, nobody] = &answers[..]
    else {
        panic!("the story has another number of lines: {answers:#?}")
    };
    for granted in [lock, again, write, broken, next, unlock] {
        assert_eq!(granted.status, 200, "{granted:?}");
    }
    assert_eq!((read.status, read.text.as_str()), (200, "{\"version\":4,\"serial\":1}"), "reads go on");
    for (refused, about) in [(refused, "ann"), (foreign, "another ID")] {
        let body = refused.refusal(423, "locked");
        assert!(body["ID"] == lock.json()["ID"] && body["Who"] == "ann@home", "{body}");
        assert!(body["detail"].as_str().unwrap().contains(about), "{body}");
    }
    unlocked.refusal(428, "lock_required");
    forced.refusal(403, "forbidden");
    let lost = &lost.refusal(412, "lock_lost")["lost"][0];
    assert_eq!((&lost["cause"], &lost["by"]), (&"broken".into(), &"admin".into()));
    assert_eq!(nobody.status, 401);
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

fn the_story_of_the_git_lfs_example_is_true(store: &str) {
    let Some(answers) = told("git_lfs", store) else { return };
    let [lock, refused, other, list, verified, hook, forced, broken, free, batch, sent, nobody] = &answers[..] else {
        panic!("the story has another number of lines: {answers:#?}")
    };
    let id = lock.text.as_str();
    assert_eq!(id.len(), 36, "{lock:?}");
    for (answer, status) in [(refused, 409), (other, 201), (list, 200), (verified, 200), (batch, 200), (nobody, 401)] {
        let kind = answer.header("content-type");
        assert_eq!((answer.status, kind), (status, "application/vnd.git-lfs+json"), "{answer:?}");
    }
    assert!(refused.json()["message"].as_str().unwrap().contains("locked by ann"), "{refused:?}");
    for shown in [&refused.json()["lock"], &list.json()["locks"][0], &verified.json()["theirs"][0]] {
        assert_eq!((&shown["id"], &shown["owner"]["name"]), (&id.into(), &"ann".into()));
    }
    assert!(hook.status == 409 && hook.text.contains("art/cover.psd is locked by ann"), "{hook:?}");
    assert_eq!((forced.status, broken.status, free.status, sent.status), (403, 200, 200, 200));
    assert_eq!(broken.json()["lock"]["id"], id);
    assert!(batch.json()["objects"][0]["actions"]["upload"]["href"].is_string(), "{batch:?}");
    assert!(nobody.header("lfs-authenticate").starts_with("Basic"));
}

#[cfg(feature = "batch")]
mod bulk {
    use serde_json::{Value, json};

    use super::{Answer, on_every_store, told};

    on_every_store!(the_story_of_the_bulk_example_is_true);

    fn the_story_of_the_bulk_example_is_true(store: &str) {
        let Some(answers) = told("bulk", store) else { return };
        let [lock, refused, untouched, checked, others, after, alone, twice, held, release, free] = &answers[..] else {
            panic!("the story has another number of lines: {answers:#?}")
        };
        assert!(lock.text.starts_with("<urn:uuid:"), "{lock:?}");
        let body = refused.refusal(423, "locked");
        let item = &body["items"][0];
        assert_eq!(
            (&item["index"], &item["name"], &item["resource"]),
            (&json!(1), &json!("V2"), &json!("/records/capa__c/V2"))
        );
        assert_eq!((&body["locks"][0]["owner"]["id"], &body["locks"][0]["reason"]), (&json!("qa"), &json!("under review")));
        assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds <= 300), "{refused:?}");
        let states = |answer: &Answer| ["V1", "V2", "V3"].map(|id| answer.json()[id]["state"].as_str().unwrap().to_owned());
        assert_eq!(states(untouched), ["open"; 3]);

        let locked: Vec<Value> = (0..3).map(|at| checked.json()["resources"][at]["locked"].clone()).collect();
        assert_eq!((checked.status, locked), (200, vec![json!(false), json!(true), json!(false)]));
        assert_eq!(checked.json()["resources"][1]["locks"][0]["reason"], "under review");

        let results = others.json()["data"].clone();
        let statuses: Vec<&Value> = results.as_array().unwrap().iter().map(|result| &result["responseStatus"]).collect();
        assert_eq!((others.status, statuses.len()), (200, 4));
        assert_eq!(statuses, ["SUCCESS", "FAILURE", "FAILURE", "SUCCESS"]);
        let error = &results[1]["errors"][0];
        assert_eq!((&error["type"], &error["owner"]["id"]), (&json!("RECORD_LOCKED"), &json!("qa")));
        assert!(error["lock_id"].is_string() && error["expires_at"].is_string() && error["retry_after"].is_u64(), "{error}");
        assert_eq!(results[2]["errors"][0]["type"], "INVALID_DATA");
        assert_eq!(states(after), ["closed", "open", "closed"]);

        alone.refusal(423, "locked");
        twice.refusal(400, "bad_request");
        assert_eq!((held.status, release.status, free.status), (200, 204, 200));
        for answer in [held, free] {
            assert!(!answer.text.contains("FAILURE"), "{answer:?}");
        }
    }
}

#[cfg(feature = "webdav")]
mod webdav {
    use super::{on_every_store, told};

    on_every_store!(the_story_of_the_webdav_example_is_true);

    fn the_story_of_the_webdav_example_is_true(store: &str) {
        let Some(answers) = told("webdav", store) else { return };
        let [create, lock, refused, moved, read, discovered, held, refresh, unlock, free] = &answers[..] else {
            panic!("the story has another number of lines: {answers:#?}")
        };
        assert_eq!(create.status, 201);
        let token = lock.text.trim_start_matches('<').trim_end_matches('>');
        assert!(token.starts_with("urn:uuid:"), "{lock:?}");
        for refused in [refused, moved] {
            assert_eq!((refused.status, refused.header("cache-control")), (423, "no-store"), "{refused:?}");
            assert!(refused.header("content-type").starts_with("application/xml"), "{refused:?}");
            assert!(refused.text.contains("lock-token-submitted") && refused.text.contains("/plan.txt<"), "{refused:?}");
        }
        assert_eq!((read.status, read.text.as_str()), (200, "first"), "reads go on");
        assert_eq!(discovered.status, 207);
        assert!(discovered.text.contains("Ann, room 7") && discovered.text.contains("Second-"), "{discovered:?}");
        for told in [refused, moved, discovered] {
            assert!(!told.text.contains(token) && !told.head.contains(token), "the token is ann's alone: {told:?}");
        }
        assert_eq!((held.status, refresh.status), (204, 200));
        assert!(refresh.text.contains(token) && refresh.text.contains("Second-1200"), "{refresh:?}");
        assert_eq!((unlock.status, free.status), (204, 204));
    }
}

/// The answers to the lines that an example prints, or nothing where there is no curl.
fn told(example: &str, store: &str) -> Option<Vec<Answer>> {
    if !has_curl() {
        return None;
    }
    let example = Example::start(example, &[store]);
    harmless_to_shells(&example);
    Some(tell(&example))
}

fn has_curl() -> bool {
    let has_curl = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !has_curl {
        let missing = "missing: curl, so the lines that the examples print are not tried";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        eprintln!("skipped; {missing}");
    }
    has_curl
}

/// A shell that takes no comments when it is typed into (zsh) would run them: nothing in them may do anything.
fn harmless_to_shells(example: &Example) {
    let harmless = |text: &str| text.chars().all(|each| each.is_ascii_alphanumeric() || " ,-".contains(each));
    for comment in example.lines().iter().filter_map(|line| line.strip_prefix('#')) {
        assert!(harmless(comment), "{comment}");
    }
}

/// Runs the lines in one shell, as somebody would who pastes them.
fn tell(example: &Example) -> Vec<Answer> {
    const MARK: &str = "=== the next answer ===";
    let curl_home = tempfile::tempdir().expect("a folder for curl's own settings");
    fs::write(curl_home.path().join(".curlrc"), "max-time = 30\nnoproxy = *\n").expect("it can be written to");
    // What starts another program than curl is tried elsewhere, if it can be tried at all.
    let commands: Vec<&String> =
        example.lines().iter().filter(|line| line.starts_with("curl ") || line.contains("$(curl ")).collect();
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
