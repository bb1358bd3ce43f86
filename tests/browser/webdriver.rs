//! A browser that is driven from outside: chromedriver, and as much of WebDriver (W3C) as the tests need.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::wire::exchange;
use crate::support::engines::{descendants, is_alive, signal};

/// After so long a test says that it hangs. A browser on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The programs, or nothing where they cannot be had.
#[derive(Clone)]
pub(crate) struct Programs {
    driver: PathBuf,
    browser: PathBuf,
}

impl Programs {
    /// Fails under `CI=true` where there is no browser; elsewhere it says what is left out, and how to get it.
    pub(crate) fn find() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let find = |names: &[&str]| {
            names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|file| file.is_file())
        };
        let driver = find(&["chromedriver"]);
        let browser = find(&["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]);
        if let (Some(driver), Some(browser)) = (driver, browser) {
            return Some(Self { driver, browser });
        }
        let missing = "missing: a browser, so the page of the example editor is not tried; \
                       to have it: apt-get install chromium chromium-driver";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        eprintln!("skipped; {missing}");
        None
    }
}

/// The folder in which a browser keeps what is to outlive it. Removed at the end, also when the test process is killed.
pub(crate) struct Profile {
    folder: PathBuf,
    remover: Child,
}

impl Profile {
    pub(crate) fn new() -> Self {
        // Once more, for the last of a killed browser's processes may be writing still.
        const SCRIPT: &str = r#"
            trap '' INT TERM HUP
            read -r line
            rm -rf "$1"
            sleep 1
            rm -rf "$1"
        "#;
        let folder = tempfile::Builder::new().prefix("editor-profile").tempdir().expect("a temporary folder").keep();
        let remover = shell(SCRIPT).arg("sh").arg(&folder).spawn().expect("there is a shell");
        Self { folder, remover }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // It is not waited for.
        drop(self.remover.stdin.take());
    }
}

/// A browser with a profile.
pub(crate) struct Browser {
    driver: Child,
    /// Ends what is left, also when the test process is killed.
    watchdog: Child,
    address: String,
    session: String,
    process: u32,
}

impl Browser {
    /// Starts one whose profile is in `profile`. In headless mode, so that no screen is needed.
    pub(crate) fn start(programs: &Programs, profile: &Profile) -> Self {
        let mut driver = Command::new(&programs.driver)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("chromedriver runs");
        let mut watchdog = watchdog();
        let tell = |watchdog: &mut Child, process: u32| {
            writeln!(watchdog.stdin.as_mut().expect("its input is ours"), "{process}").expect("the watchdog reads");
        };
        tell(&mut watchdog, driver.id());
        let mut said = BufReader::new(driver.stdout.take().expect("its output is ours")).lines();
        // `ChromeDriver was started successfully on port 12345.`
        let port = said
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.rsplit_once("successfully on port ")?.1.trim_end_matches('.').parse::<u16>().ok());
        let address = format!("127.0.0.1:{}", port.expect("chromedriver says where it listens"));
        // It would wait for somebody to read.
        thread::spawn(move || said.for_each(drop));

        let mut arguments = vec![
            format!("--user-data-dir={}", profile.folder.display()),
            "--headless=new".into(),
            "--window-size=1280,900".into(),
            "--force-device-scale-factor=1".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            "--no-first-run".into(),
            "--no-proxy-server".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-extensions".into(),
            "--password-store=basic".into(),
        ];
        if rustix::process::getuid().is_root() {
            // The sandbox needs somebody else.
            arguments.push("--no-sandbox".into());
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": programs.browser, "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": 30_000, "pageLoad": 60_000 },
        } } });
        let mut browser = Self { driver, watchdog, address, session: String::new(), process: 0 };
        let begun = browser.ask("POST", "/session", &wanted).unwrap_or_else(|error| panic!("no browser: {error}"));
        browser.session = begun["sessionId"].as_str().expect("a session").to_owned();
        let process = begun["capabilities"]["goog:processID"].as_u64().expect("chromedriver tells the browser's process");
        browser.process = u32::try_from(process).expect("a process id");
        tell(&mut browser.watchdog, browser.process);
        browser
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let path = if self.session.is_empty() { path.to_owned() } else { format!("/session/{}{path}", self.session) };
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let fields = [("Content-Type", "application/json; charset=utf-8")];
        let (status, _, answer) = exchange(&self.address, method, &path, &fields, &body);
        let answer: Value = serde_json::from_str(&answer).map_err(|error| format!("{path}: {error}: {answer}"))?;
        let value = &answer["value"];
        if status == 200 { Ok(value.clone()) } else { Err(format!("{path}: {}: {}", value["error"], value["message"])) }
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", path, body).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn go(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    pub(crate) fn reload(&self) {
        self.post("/refresh", &json!({}));
    }

    /// Closes the tab, as its cross does. Another one is opened before, for the browser would end with its last.
    pub(crate) fn close_tab(&self) {
        let other = self.post("/window/new", &json!({ "type": "tab" }));
        // Fails when it closes faster than it answers.
        _ = self.ask("DELETE", "/window", &Value::Null);
        self.post("/window", &json!({ "handle": other["handle"] }));
    }

    /// Opens another tab, which everything is about from now on; the one before is in the background.
    pub(crate) fn open_tab(&self) -> Tab {
        let before = self.ask("GET", "/window", &Value::Null).expect("a tab");
        let other = self.post("/window/new", &json!({ "type": "tab" }));
        self.post("/window", &json!({ "handle": other["handle"] }));
        Tab(before)
    }

    /// Goes to another tab; the one that it comes from.
    pub(crate) fn turn_to(&self, tab: &Tab) -> Tab {
        let before = self.ask("GET", "/window", &Value::Null).expect("a tab");
        self.post("/window", &json!({ "handle": tab.0 }));
        Tab(before)
    }

    /// What a function body returns in the page.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({ "script": script, "args": [] })).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until an expression is true in the page.
    pub(crate) fn until(&self, expression: &str) {
        let start = Instant::now();
        let script = format!("return Boolean({expression});");
        // While a page is being loaded there is nothing to be asked.
        while self.ask("POST", "/execute/sync", &json!({ "script": script, "args": [] })) != Ok(Value::Bool(true)) {
            if start.elapsed() > PATIENCE {
                let page = "const state = JSON.stringify(document.getElementById('document')?.dataset);\
                            return [location.href, state, document.body.innerText].join('\\n')";
                let page = self.ask("POST", "/execute/sync", &json!({ "script": page, "args": [] }));
                panic!("this does not become true: {expression}\n{}", page.unwrap_or_default().as_str().unwrap_or_default());
            }
            thread::sleep(Duration::from_millis(25));
        }
    }

    /// A person's click: what is hidden, disabled or covered cannot be clicked. A person clicks what is there, also where the page
    /// drew it anew a moment ago: between finding an element and clicking it, it may have been.
    pub(crate) fn click(&self, css: &str) {
        let start = Instant::now();
        while let Err(error) = self.ask("POST", &format!("/element/{}/click", self.element(css)), &json!({})) {
            assert!(error.contains("stale element reference") && start.elapsed() < PATIENCE, "{error}");
        }
    }

    /// Types into an element, key by key.
    pub(crate) fn type_into(&self, css: &str, text: &str) {
        self.post(&format!("/element/{}/value", self.element(css)), &json!({ "text": text }));
    }

    /// Presses keys where the focus is. `\u{e004}` is Tab, `\u{e007}` Enter, `\u{e009}` Control, which is held.
    pub(crate) fn press(&self, keys: &str) {
        let mut actions = Vec::new();
        for key in keys.chars() {
            actions.push(json!({ "type": "keyDown", "value": key }));
            if key != '\u{e009}' {
                actions.push(json!({ "type": "keyUp", "value": key }));
            }
        }
        self.post("/actions", &json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] }));
        self.ask("DELETE", "/actions", &Value::Null).unwrap_or_else(|error| panic!("{error}"));
    }

    fn element(&self, css: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": css }));
        let id = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("{css}: {found}")).to_owned()
    }

    pub(crate) fn resize(&self, width: u32, height: u32) {
        self.post("/window/rect", &json!({ "width": width, "height": height }));
    }

    /// A command of the browser's own protocol.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// The browser is told that there is no network, or that there is one again.
    pub(crate) fn set_offline(&self, offline: Offline) {
        let conditions = json!({ "offline": offline == Offline::Yes, "latency": 0, "throughput": 10_000_000 });
        self.post("/chromium/network_conditions", &json!({ "network_conditions": conditions }));
    }

    /// Keeps a picture of the window in `target/editor/`.
    pub(crate) fn picture(&self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the build's folder").join("editor");
        fs::create_dir_all(&folder).expect("it can be written to");
        let picture = self.ask("GET", "/screenshot", &Value::Null).expect("a picture");
        let picture = BASE64_STANDARD.decode(picture.as_str().unwrap_or_default()).expect("a picture in base64");
        fs::write(folder.join(format!("{name}.png")), picture).expect("it can be written to");
    }

    /// What the page did wrong by the browser's own account since this was last asked: an exception that nobody caught,
    /// something that its security policy forbids.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        let messages = log.as_array().into_iter().flatten().filter_map(|entry| entry["message"].as_str());
        let is_wrong =
            |message: &&str| ["Uncaught", "Content Security Policy", "violates"].iter().any(|sign| message.contains(sign));
        messages.filter(is_wrong).map(str::to_owned).collect()
    }

    /// Sends a signal to all processes of the browser.
    pub(crate) fn signal(&self, name: &str) {
        let mut all = descendants(self.process);
        all.push(self.process);
        signal(name, &all);
    }

    /// Kills the whole browser, which is told nothing before.
    pub(crate) fn kill(self) {
        signal("KILL", &[self.process]);
    }
}

/// A tab of a browser.
pub(crate) struct Tab(Value);

/// Whether the browser is to believe that there is no network.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offline {
    No,
    Yes,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let all = descendants(self.driver.id());
        drop(self.watchdog.stdin.take());
        _ = self.watchdog.wait();
        _ = self.driver.wait();
        // What they write must not come after whatever is done to the profile next.
        let start = Instant::now();
        while all.iter().any(|process| is_alive(*process)) && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Reads the ids of processes, and at the end of its input ends them.
fn watchdog() -> Child {
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        while read -r line; do all="$all $line"; done
        kill -KILL $all
    "#;
    shell(SCRIPT).spawn().expect("there is a shell")
}

/// A script that is told by the end of its input that nobody needs it any more.
fn shell(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    shell
}
