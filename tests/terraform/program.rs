//! Terraform, or OpenTofu where there is no Terraform, in folders of its own.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a command, or a part of one, may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// The program, if it is on the path.
pub(crate) fn found() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found =
        ["terraform", "tofu"].iter().find_map(|name| folders.iter().map(|at| at.join(name)).find(|file| file.is_file()));
    if found.is_none() {
        eprintln!("skipped; missing: terraform or tofu, so the backend is not tried with the program itself");
    }
    found
}

/// A configuration with the backend in it, that of one user.
pub(crate) struct Folder {
    program: PathBuf,
    folder: TempDir,
    runs: AtomicUsize,
}

/// How the backend is to be spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Methods {
    /// LOCK, UNLOCK and POST.
    Default,
    /// PUT and DELETE of the lock, PUT of the state.
    Rest,
    /// The default ones, all at the address of the state.
    OneAddress,
}

impl Folder {
    /// A folder in which `init` has been run.
    pub(crate) fn of(user: &str, program: &Path, address: &str, methods: Methods) -> Self {
        let folder = tempfile::Builder::new().prefix("tower-lock-").tempdir().expect("a temporary folder");
        let state = format!("http://{address}/state/demo");
        let lock = if methods == Methods::OneAddress { state.clone() } else { format!("{state}/lock") };
        let more = match methods {
            Methods::Rest => "lock_method = \"PUT\"\n    unlock_method = \"DELETE\"\n    update_method = \"PUT\"",
            Methods::Default | Methods::OneAddress => "",
        };
        let configuration = format!(
            r#"
terraform {{
  backend "http" {{
    address        = "{state}"
    lock_address   = "{lock}"
    unlock_address = "{lock}"
    username       = "{user}"
    password       = "x"
    {more}
  }}
}}
variable "by" {{ default = "nobody" }}
variable "wait" {{ default = "true" }}
resource "terraform_data" "work" {{
  input            = var.by
  triggers_replace = [var.by]
  provisioner "local-exec" {{ command = var.wait }}
}}
output "by" {{ value = terraform_data.work.output }}
"#
        );
        fs::write(folder.path().join("main.tf"), configuration).expect("a file in a folder of ours");
        fs::write(folder.path().join("settings"), "").expect("a file in a folder of ours");
        let folder = Self { program: program.to_owned(), folder, runs: AtomicUsize::new(0) };
        folder.run(&["init", "-input=false"]).succeeds();
        folder
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.start(arguments, &[]).end()
    }

    /// `apply` by somebody, to the end.
    pub(crate) fn apply(&self, by: &str) -> Done {
        self.start(&APPLY, &[("TF_VAR_by", by)]).end()
    }

    /// `apply`, which has the lock when this returns, and keeps it until [`Folder::goes_on`].
    pub(crate) fn apply_and_stay(&self, by: &str) -> Running {
        let (running, go) = (self.file("running"), self.file("go"));
        _ = (fs::remove_file(&running), fs::remove_file(&go));
        let wait = format!(
            "touch '{}'; i=0; while [ ! -e '{}' ] && [ $i -lt 1200 ]; do sleep 0.1; i=$((i+1)); done",
            running.display(),
            go.display()
        );
        let apply = self.start(&APPLY, &[("TF_VAR_by", by), ("TF_VAR_wait", &wait)]);
        let start = Instant::now();
        while !running.exists() {
            assert!(start.elapsed() < PATIENCE, "it does not come so far: {}", apply.text());
            thread::sleep(Duration::from_millis(20));
        }
        apply
    }

    pub(crate) fn goes_on(&self) {
        fs::write(self.file("go"), "").expect("a file in a folder of ours");
    }

    pub(crate) fn start(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Running {
        let output = self.file(&format!("output-{}", self.runs.fetch_add(1, Ordering::Relaxed)));
        let file = File::create(&output).expect("a file in a folder of ours");
        let (command, rest) = arguments.split_first().expect("a command");
        let mut process = Command::new(&self.program);
        // Nothing of whoever runs the tests: no settings, no proxy, no folders.
        process.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        process
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.folder.path())
            .env("TF_DATA_DIR", self.file(".terraform"))
            .env("TF_CLI_CONFIG_FILE", self.file("settings"))
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .envs(environment.iter().copied())
            .current_dir(self.folder.path())
            .args(command.split(' '))
            .args((*command != "force-unlock" && *command != "state").then_some("-no-color"))
            .args(rest)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file of ours"))
            .stderr(file)
            // With the children of its own, so that they end with it.
            .process_group(0);
        Running { process: process.spawn().expect("terraform runs"), output }
    }
}

const APPLY: [&str; 3] = ["apply", "-input=false", "-auto-approve"];

/// A command under way.
pub(crate) struct Running {
    process: Child,
    output: PathBuf,
}

impl Running {
    pub(crate) fn end(mut self) -> Done {
        let start = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("a child of ours") {
                return Done { status, text: self.text() };
            }
            assert!(start.elapsed() < PATIENCE, "it does not end: {}", self.text());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`, and all that it has started.
    pub(crate) fn kill(&mut self) {
        let group = format!("-{}", self.process.id());
        // The shell's own `kill`, for there is none in the standard library. It may have ended by itself.
        _ = Command::new("sh").args(["-c", "kill -s KILL -- \"$1\"", "sh", &group]).stderr(Stdio::null()).status();
        _ = self.process.wait();
    }

    /// What it has printed.
    pub(crate) fn text(&self) -> String {
        let text = fs::read_to_string(&self.output).unwrap_or_default();
        // Errors come in a frame, and are broken where the line ends.
        text.replace(['│', '╷', '╵'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(Some(_))) {
            self.kill();
        }
    }
}

/// A command that has ended.
pub(crate) struct Done {
    status: ExitStatus,
    pub(crate) text: String,
}

impl Done {
    #[track_caller]
    pub(crate) fn succeeds(&self) -> &str {
        assert!(self.status.success(), "{}", self.text);
        &self.text
    }

    /// It fails, and says so.
    #[track_caller]
    pub(crate) fn fails(&self, saying: &[&str]) {
        assert!(!self.status.success(), "{}", self.text);
        for each in saying {
            assert!(self.text.contains(each), "{each}: {}", self.text);
        }
    }
}
