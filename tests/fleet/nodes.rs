//! `Nodes`: the processes of a fleet, to be killed, stopped and started again.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, RwLock},
    time::Duration,
};

use tempfile::TempDir;
use tower_lock::LockStore;

use super::{
    engine::StoreConfig,
    engines::signal,
    node::{NodeConfig, TOLD, serve},
};

/// Several nodes on one store.
pub(crate) struct Nodes {
    processes: Vec<Process>,
    /// Where each listens now.
    ports: Arc<RwLock<Vec<u16>>>,
    config: NodeConfig,
    traces: Vec<PathBuf>,
    folder: TempDir,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Also one that is stopped.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

impl Nodes {
    /// Starts so many.
    pub(crate) fn start(count: usize, store: &StoreConfig, drain: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = NodeConfig { store: store.clone(), drain, trace: folder.path().to_owned() };
        let mut nodes = Self { processes: Vec::new(), ports: Arc::default(), config, traces: Vec::new(), folder };
        for _ in 0..count {
            let (process, port) = nodes.launch();
            nodes.processes.push(process);
            nodes.ports.write().expect("no panic under it").push(port);
        }
        nodes
    }

    /// Where they listen; a node that is started again listens elsewhere.
    pub(crate) fn ports(&self) -> Arc<RwLock<Vec<u16>>> {
        self.ports.clone()
    }

    /// What they wrote down, those that are gone too.
    pub(crate) fn traces(&self) -> &[PathBuf] {
        &self.traces
    }

    fn launch(&mut self) -> (Process, u16) {
        let trace = self.folder.path().join(format!("trace-{}", self.traces.len()));
        self.traces.push(trace.clone());
        let config = NodeConfig { trace, ..self.config.clone() };
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "--nocapture", "node::when_told_so_this_process_is_a_node"])
            .env(TOLD, serde_json::to_string(&config).expect("plain data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let lines = BufReader::new(child.stdout.take().expect("its output is ours")).lines();
        let process = Process(child);
        let line = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("listening ").map(str::to_owned));
        (process, line.and_then(|port| port.parse().ok()).expect("a node says where it listens"))
    }

    /// Ends a node at once, with whatever it is doing (SIGKILL), and starts another in its place.
    pub(crate) fn replace(&mut self, at: usize) {
        self.kill(at);
        let (process, port) = self.launch();
        self.processes[at] = process;
        self.ports.write().expect("no panic under it")[at] = port;
    }

    pub(crate) fn kill(&mut self, at: usize) {
        self.processes[at].0.kill().expect("a child of ours");
        self.processes[at].0.wait().expect("a child of ours");
    }

    /// Stops a node where it is (SIGSTOP).
    pub(crate) fn pause(&self, at: usize) {
        signal("STOP", &[self.processes[at].0.id()]);
    }

    /// Lets it go on (SIGCONT).
    pub(crate) fn resume(&self, at: usize) {
        signal("CONT", &[self.processes[at].0.id()]);
    }

    pub(crate) fn id(&self, at: usize) -> u32 {
        self.processes[at].0.id()
    }
}

/// Nodes in this process, each with a handle of its own on the store: for tests that have to reach into all of them.
pub(crate) struct Tasks {
    ports: Arc<RwLock<Vec<u16>>>,
    traces: Vec<PathBuf>,
    tasks: tokio::task::JoinSet<()>,
    _folder: TempDir,
}

impl Tasks {
    /// Starts one for each of the handles.
    pub(crate) async fn start(handles: Vec<Arc<dyn LockStore>>, store: &StoreConfig, drain: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut nodes =
            Self { ports: Arc::default(), traces: Vec::new(), tasks: tokio::task::JoinSet::new(), _folder: folder };
        for (at, handle) in handles.into_iter().enumerate() {
            let trace = nodes._folder.path().join(format!("trace-{at}"));
            let config = NodeConfig { store: store.clone(), drain, trace: trace.clone() };
            let (port, server) = serve(handle, &config).await;
            nodes.traces.push(trace);
            nodes.tasks.spawn(server);
            nodes.ports.write().expect("no panic under it").push(port);
        }
        nodes
    }

    /// Where they listen.
    pub(crate) fn ports(&self) -> Arc<RwLock<Vec<u16>>> {
        self.ports.clone()
    }

    /// What they wrote down.
    pub(crate) fn traces(&self) -> &[PathBuf] {
        &self.traces
    }
}
