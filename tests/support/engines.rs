//! Engines for the tests: a `redis-server` or a `postgres` of one's own, on a free loopback port with its data in a
//! temporary folder, that can be killed, stopped and started again.
//!
//! None is left behind: beside each runs a small shell that waits for the end of its input. Its input ends when the value
//! here is dropped, and also when the whole test process is killed; then it ends the server and removes the folder.
//!
//! A missing program is a failure that says the line to type, never a test left out.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses a part of it")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a server may take to answer after its start. A crashed one reads its whole log again before.
const PATIENCE: Duration = Duration::from_secs(60);

// --- redis ---------------------------------------------------------------------------------------------------------

/// A Redis (or Valkey) server.
pub struct RedisServer {
    server: Server,
    password: Option<String>,
}

/// How a [`RedisServer`] is to be run.
#[derive(Clone, Default)]
pub struct RedisOptions {
    arguments: Vec<String>,
    password: Option<String>,
}

impl RedisServer {
    /// A server that keeps nothing on disk.
    pub fn start() -> Self {
        Self::options().start()
    }

    /// One server for all tests of this binary, which keeps nothing on disk. For suites that take a namespace each;
    /// nobody kills or stops it.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<RedisServer> = LazyLock::new(RedisServer::start);
        &SHARED
    }

    pub fn options() -> RedisOptions {
        RedisOptions::default()
    }

    /// `redis://127.0.0.1:port`, with the password if there is one.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.server.port),
            None => format!("redis://127.0.0.1:{}", self.server.port),
        }
    }
}

impl RedisOptions {
    /// What was acknowledged is on disk: `appendonly yes`, `appendfsync always`.
    #[must_use]
    pub fn durable(self) -> Self {
        self.set("appendonly", "yes").set("appendfsync", "always")
    }

    /// Asks for a password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.set("requirepass", password)
    }

    /// Takes no writes: a replica whose primary is away.
    #[must_use]
    pub fn read_only(self) -> Self {
        // The discard port: nothing listens there.
        self.set("replicaof", "127.0.0.1 9")
    }

    /// A line of its configuration.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.arguments.push(format!("--{name}"));
        self.arguments.extend(value.split(' ').map(str::to_owned));
        self
    }

    pub fn start(self) -> RedisServer {
        let program = found(&["redis-server", "valkey-server"], "redis-server");
        let password = self.password.clone();
        let arguments = self.arguments;
        let command = move |port: u16, folder: &Path| {
            let mut command = Command::new(&program);
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no", "--dir"]);
            command.arg(folder).args(&arguments);
            command
        };
        let answers = move |port| redis_answers(port, password.as_deref());
        RedisServer { server: Server::start(command, answers), password: self.password }
    }
}

/// Whether it has read its log and answers `PING`.
fn redis_answers(port: u16, password: Option<&str>) -> bool {
    let mut ask = String::new();
    if let Some(password) = password {
        ask = format!("AUTH {password}\r\n");
    }
    ask += "PING\r\n";
    let expected = if password.is_some() { "+OK\r\n+PONG\r\n" } else { "+PONG\r\n" };
    answer(port, ask.as_bytes(), expected.len()) == expected.as_bytes()
}

// --- postgres ------------------------------------------------------------------------------------------------------

/// A PostgreSQL server with one superuser, `postgres`, and one database of the same name.
pub struct PostgresServer {
    server: Server,
    password: Option<String>,
}

/// How a [`PostgresServer`] is to be run.
#[derive(Clone)]
pub struct PostgresOptions {
    settings: Vec<String>,
    password: Option<String>,
    fsync: bool,
}

impl PostgresServer {
    /// A server that does not wait for the disk, so that a crash of the machine (not of the server) may cost its data.
    pub fn start() -> Self {
        Self::options().start()
    }

    /// One such server for all tests of this binary. For suites that take a schema each; nobody kills or stops it.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<PostgresServer> = LazyLock::new(PostgresServer::start);
        &SHARED
    }

    pub fn options() -> PostgresOptions {
        PostgresOptions { settings: Vec::new(), password: None, fsync: false }
    }

    /// `postgres://postgres@127.0.0.1:port/postgres`, with the password if there is one.
    pub fn url(&self) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}")).unwrap_or_default();
        format!("postgres://postgres{password}@127.0.0.1:{}/postgres", self.server.port)
    }
}

impl PostgresOptions {
    /// What was acknowledged is on disk, as PostgreSQL does by default.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.fsync = true;
        self
    }

    /// Asks for a password (SCRAM).
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Every transaction is read-only, unless it says otherwise.
    #[must_use]
    pub fn read_only(self) -> Self {
        self.set("default_transaction_read_only", "on")
    }

    /// A line of its configuration.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push(format!("{name}={value}"));
        self
    }

    pub fn start(self) -> PostgresServer {
        // `initdb` lies beside the program itself, not always beside a link to it.
        let program = fs::canonicalize(found(&["postgres"], "postgresql")).expect("it was found");
        let user = unprivileged();
        let password = self.password.clone();
        let command = move |port: u16, folder: &Path| {
            let data = folder.join("data");
            if !data.exists() {
                initdb(&program.with_file_name("initdb"), folder, &data, self.password.as_deref(), user);
            }
            let mut command = Command::new(&program);
            as_user(&mut command, user).arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""]);
            let fsync = if self.fsync { "on" } else { "off" };
            for setting in [&format!("fsync={fsync}"), "max_connections=200", "shared_buffers=32MB"] {
                command.args(["-c", setting]);
            }
            for setting in &self.settings {
                command.args(["-c", setting]);
            }
            command
        };
        PostgresServer { server: Server::start(command, postgres_answers), password }
    }
}

fn initdb(program: &Path, folder: &Path, data: &Path, password: Option<&str>, user: Option<(u32, u32)>) {
    let mut command = Command::new(program);
    as_user(&mut command, user);
    if let Some((uid, gid)) = user {
        std::os::unix::fs::chown(folder, Some(uid), Some(gid)).expect("a folder is given to another user");
    }
    command.arg("-D").arg(data).args(["-U", "postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]);
    match password {
        Some(password) => {
            let file = folder.join("password");
            fs::write(&file, password).expect("a file in a folder of ours");
            command.arg("--auth=scram-sha-256").arg("--pwfile").arg(&file);
        }
        None => _ = command.arg("--auth=trust"),
    }
    let output = command.current_dir(folder).stdin(Stdio::null()).output().expect("initdb runs");
    assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
}

/// PostgreSQL refuses to run as root: then the user and group to run it as.
fn unprivileged() -> Option<(u32, u32)> {
    let number = |arguments: &[&str]| {
        let output = Command::new("id").args(arguments).output().expect("there is id");
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok()
    };
    if number(&["-u"]) != Some(0) {
        return None;
    }
    let user = number(&["-u", "postgres"]).or_else(|| number(&["-u", "nobody"]));
    let group = number(&["-g", "postgres"]).or_else(|| number(&["-g", "nobody"]));
    Some(
        user.zip(group).expect("PostgreSQL does not run as root, and there is no user postgres: apt-get install postgresql"),
    )
}

fn as_user(command: &mut Command, user: Option<(u32, u32)>) -> &mut Command {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// Whether it has replayed its log and lets clients in, as far as the request to identify oneself.
fn postgres_answers(port: u16) -> bool {
    // A start-up packet of protocol 3.0. The answer is R (authenticate) or E (an error, such as "starting up").
    let body = b"\0\x03\0\0user\0postgres\0database\0postgres\0\0";
    let mut ask = u32::try_from(body.len() + 4).expect("a small packet").to_be_bytes().to_vec();
    ask.extend_from_slice(body);
    answer(port, &ask, 1).starts_with(b"R")
}

// --- what both share -----------------------------------------------------------------------------------------------

macro_rules! faults {
    ($($server:ident)*) => { $(impl $server {
        pub fn port(&self) -> u16 {
            self.server.port
        }

        /// Ends it and all its children at once, as `kill -9` does (SIGKILL). Its data stays.
        pub fn kill(&self) {
            self.server.kill();
        }

        /// Starts it again on the same port and data, after [`Self::kill`]; returns when it answers.
        pub fn restart(&self) {
            self.server.restart();
        }

        /// Stops it and all its children where they are (SIGSTOP): connections stay open, and nothing is answered.
        pub fn pause(&self) {
            self.server.signal("STOP");
        }

        /// Lets it go on after [`Self::pause`] (SIGCONT).
        pub fn resume(&self) {
            self.server.signal("CONT");
        }

        /// What it has written to its log.
        pub fn log(&self) -> String {
            self.server.log()
        }
    })* };
}
faults!(RedisServer PostgresServer);

type Recipe = Arc<dyn Fn(u16, &Path) -> Command + Send + Sync>;
type Answers = Arc<dyn Fn(u16) -> bool + Send + Sync>;

/// A server process in a group of its own, and the shell that ends it.
struct Server {
    port: u16,
    recipe: Recipe,
    answers: Answers,
    process: Mutex<Child>,
    watchdog: Mutex<Child>,
    folder: TempDir,
}

impl Server {
    fn start(
        recipe: impl Fn(u16, &Path) -> Command + Send + Sync + 'static,
        answers: impl Fn(u16) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (recipe, answers): (Recipe, Answers) = (Arc::new(recipe), Arc::new(answers));
        // Another test may take the port between our look and the server's bind.
        for _ in 0..20 {
            let port = free_port();
            let folder = tempfile::Builder::new().prefix("tower-lock-").tempdir().expect("a temporary folder");
            let mut watchdog = watchdog(folder.path());
            let process = launch(recipe(port, folder.path()), folder.path(), &mut watchdog);
            let (process, watchdog) = (Mutex::new(process), Mutex::new(watchdog));
            let server = Self { port, recipe: recipe.clone(), answers: answers.clone(), process, watchdog, folder };
            if server.wait_until_it_answers() {
                return server;
            }
            let log = server.log();
            assert!(log.contains("in use"), "the server does not start:\n{log}");
        }
        panic!("there is no free port")
    }

    /// Whether it answers before it ends or [`PATIENCE`] does.
    fn wait_until_it_answers(&self) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if (self.answers)(self.port) {
                return true;
            }
            if held(&self.process).try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not answer:\n{}", self.log())
    }

    fn kill(&self) {
        let mut process = held(&self.process);
        let first = process.id();
        // The first is stopped, so that it starts nobody while its children are counted.
        signal("STOP", &[first]);
        let mut all = descendants(first);
        all.push(first);
        signal("KILL", &all);
        process.wait().expect("a child of ours");
        // A restart fails while anybody has the data open.
        let start = Instant::now();
        while all.iter().any(|process| is_alive(*process)) {
            assert!(start.elapsed() < PATIENCE, "killed processes do not end: {all:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn restart(&self) {
        {
            let mut process = held(&self.process);
            assert!(process.try_wait().is_ok_and(|ended| ended.is_some()), "it runs still");
            *process = launch((self.recipe)(self.port, self.folder.path()), self.folder.path(), &mut held(&self.watchdog));
        }
        assert!(self.wait_until_it_answers(), "the server does not start again:\n{}", self.log());
    }

    fn signal(&self, name: &str) {
        let first = held(&self.process).id();
        // The first one first: it starts nobody while it is stopped.
        signal(name, &[first]);
        signal(name, &descendants(first));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut watchdog = held(&self.watchdog);
        drop(watchdog.stdin.take());
        _ = watchdog.wait();
        _ = held(&self.process).wait();
    }
}

fn launch(mut command: Command, folder: &Path, watchdog: &mut Child) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("a log file");
    let process = command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log file"))
        .stderr(log)
        // Interrupting the tests from a terminal must not interrupt it: the watchdog ends it in order.
        .process_group(0)
        .spawn()
        .expect("the server's program runs");
    writeln!(watchdog.stdin.as_mut().expect("its input is ours"), "{}", process.id()).expect("the watchdog reads");
    process
}

/// Reads the ids of the server's processes, and at the end of its input ends the last one and removes the folder.
fn watchdog(folder: &Path) -> Child {
    // PostgreSQL goes at once by QUIT and gives back its shared memory, as redis-server does by INT. A process that is
    // stopped has to go on first.
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        while read -r line; do server=$line; done
        kill -CONT "$server"
        if [ -d "$1/data" ]; then kill -QUIT "$server"; else kill -INT "$server"; fi
        left=100
        while [ $left -gt 0 ] && kill -0 "$server"; do
            case $(cat "/proc/$server/stat") in *") Z "*) break ;; esac
            sleep 0.05 || sleep 1
            left=$((left - 1))
        done
        kill -KILL "$server"
        rm -rf "$1"
    "#;
    Command::new("sh")
        .args(["-c", SCRIPT, "sh"])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("there is a shell")
}

/// Sends a signal. The shell's own `kill`, for there is none in the standard library and this crate has no `unsafe`.
pub fn signal(name: &str, processes: &[u32]) {
    if processes.is_empty() {
        return;
    }
    let script = format!("kill -{name} \"$@\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, "sh"]).args(processes.iter().map(u32::to_string));
    // One of them may have ended by itself.
    _ = shell.stderr(Stdio::null()).status().expect("there is a shell");
}

/// The children of a process, and theirs.
pub fn descendants(process: u32) -> Vec<u32> {
    // `pid (name) state ppid …`, and the name may hold anything.
    let of_stat = |stat: String| {
        let (pid, rest) = stat.split_once(' ')?;
        Some((pid.parse().ok()?, rest.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?))
    };
    let of_ps = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    let parents: Vec<(u32, u32)> = match fs::read_dir("/proc") {
        Ok(entries) => {
            entries.filter_map(|entry| of_stat(fs::read_to_string(entry.ok()?.path().join("stat")).ok()?)).collect()
        }
        Err(_) => {
            let output = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().expect("there is ps");
            String::from_utf8_lossy(&output.stdout).lines().filter_map(of_ps).collect()
        }
    };
    let mut found = vec![process];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        at += 1;
    }
    found.split_off(1)
}

/// Whether there is such a process. One that has ended but is not reaped holds nothing open.
pub fn is_alive(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// A free port below those that the kernel gives to clients: one that waits for the server to come back could be given
/// the server's own port there, and would be connected to itself.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let seed = (std::process::id() * 61 + u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) * 7) % 20_000;
        let port = 10_000 + u16::try_from(seed).expect("below 20,000");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// The first `length` bytes of what is answered there to `ask`, or less.
fn answer(port: u16, ask: &[u8], length: usize) -> Vec<u8> {
    let limit = Duration::from_secs(1);
    let mut read = Vec::new();
    if let Ok(mut stream) = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), limit) {
        let set = stream.set_read_timeout(Some(limit));
        let asked = set.and_then(|()| stream.write_all(ask));
        if asked.is_ok() {
            _ = stream.take(length as u64).read_to_end(&mut read);
        }
    }
    read
}

/// Where the first of these programs is: on the path, or where Debian keeps those of PostgreSQL.
pub fn found(programs: &[&str], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    folders.extend(versions);
    let mut files = programs.iter().flat_map(|program| folders.iter().map(move |folder| folder.join(program)));
    let found = files.find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("missing: {}; to have it: apt-get install {package}", programs[0]))
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
