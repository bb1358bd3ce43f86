//! What a node writes down of the writes that it serves, line by line, so that a node that is killed leaves all behind that
//! it did.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Write,
    path::Path,
};

/// Nanoseconds of the one clock that all processes of a machine share.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(time.tv_sec).expect("since the start of the machine") * 1_000_000_000
        + u64::try_from(time.tv_nsec).expect("less than a second")
}

/// Where a node writes.
pub(crate) struct Trace(File);

impl Trace {
    pub(crate) fn create(path: &Path) -> Self {
        Self(File::options().create(true).append(true).open(path).expect("a file in a folder of the test"))
    }

    /// The write reached the service; its permit knows this generation.
    pub(crate) fn enter(&self, write: u64, generation: u64) {
        self.line(&format!("enter {write} {} {generation}\n", now()));
    }

    /// It changed something.
    pub(crate) fn step(&self, write: u64) {
        self.line(&format!("step {write} {}\n", now()));
    }

    /// It is about to answer.
    pub(crate) fn exit(&self, write: u64) {
        self.line(&format!("exit {write} {}\n", now()));
    }

    fn line(&self, line: &str) {
        (&self.0).write_all(line.as_bytes()).expect("the disk has room");
    }
}

/// What a service did for one write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served {
    pub(crate) generation: u64,
    /// When it reached the service.
    pub(crate) entered: u64,
    /// When it changed something.
    pub(crate) steps: Vec<u64>,
    /// When the service answered; not at all where it was dropped or killed before.
    pub(crate) answered: Option<u64>,
}

impl Served {
    /// The last time that the service is known to have run for it.
    pub(crate) fn last(&self) -> u64 {
        self.answered.or(self.steps.last().copied()).unwrap_or(self.entered)
    }
}

/// What the nodes that wrote these files have served, by the number of the write.
pub(crate) fn read<'p>(paths: impl IntoIterator<Item = &'p Path>) -> HashMap<u64, Served> {
    let mut served: HashMap<u64, Served> = HashMap::new();
    for path in paths {
        let text = fs::read_to_string(path).expect("a node has written it");
        // The last line of a node that was killed may be cut short.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let mut words = line.split(' ');
            let what = words.next().expect("a line has words");
            let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
            let write = number();
            let at = number();
            let one = served.entry(write).or_default();
            match what {
                "enter" => {
                    assert_eq!(one.entered, 0, "write {write} was served twice");
                    (one.entered, one.generation) = (at, number());
                }
                "step" => one.steps.push(at),
                "exit" => one.answered = Some(at),
                _ => panic!("{line}"),
            }
        }
    }
    served
}
