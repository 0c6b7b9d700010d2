//! One of our processes: its output, and the ways to end it.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::wait::{DEADLINE, eventually};

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ran {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Returns the single JSON document on stdout.
    ///
    /// # Panics
    /// If the command failed or printed something else.
    #[must_use]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started, or does not end within [`DEADLINE`].
pub async fn run(command: Command) -> Ran {
    run_within(command, DEADLINE).await
}

/// Like [`run`], with another deadline.
pub(crate) async fn run_within(mut command: Command, within: Duration) -> Ran {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(within, command.output()).await;
    let ended = ended.unwrap_or_else(|_| panic!("{command:?} does not end")).expect("the command starts");
    Ran {
        code: ended.status.code(),
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
    }
}

/// A running process; killed when dropped.
pub struct Process {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Process {
    /// Starts a process.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the process starts");
        let stdout = Lines::follow(child.stdout.take().expect("piped"));
        let stderr = Lines::follow(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    /// Returns the lines written to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// Returns the lines written to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.so_far()
    }

    /// Waits for a line on stdout or stderr for which `pick` returns a value.
    ///
    /// # Panics
    /// If the process ends first, or the line does not come.
    pub async fn line<T>(&mut self, what: &str, mut pick: impl FnMut(&str) -> Option<T>) -> T {
        eventually(what, async || {
            // The status is read before the lines, so that lines written just before the end still count.
            let ended = self.child.try_wait().expect("a child of ours");
            let found = self.stdout().iter().chain(&self.stderr()).find_map(|line| pick(line));
            assert!(found.is_some() || ended.is_none(), "{what}: ended with {ended:?}: {:?}", self.stderr());
            found
        })
        .await
    }

    /// Kills the process with `kill -9`, so that none of its code runs any more.
    ///
    /// # Panics
    /// If it has ended by itself.
    pub async fn kill(mut self) -> Ran {
        self.child.start_kill().expect("it was running");
        self.ended(DEADLINE).await
    }

    /// Returns whether the process still runs.
    ///
    /// # Panics
    /// Never: the process is our child.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }

    /// Returns the process id.
    ///
    /// # Panics
    /// If the process has ended.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id().expect("it is running")
    }

    /// Sends `kill -TERM`.
    ///
    /// # Panics
    /// If the process has ended by itself.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends `kill -HUP`, which makes the process read its configuration again.
    ///
    /// # Panics
    /// If the process has ended by itself.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends `kill -STOP`: its connections stay open, and none of its code runs until [`Self::thaw`].
    ///
    /// # Panics
    /// If the process has ended by itself.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Sends `kill -CONT`.
    ///
    /// # Panics
    /// If the process has ended by itself.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("it is running"), signal).expect("it is running");
    }

    /// Waits for the process to end, and returns its exit code and everything it wrote.
    ///
    /// # Panics
    /// If it does not end in `within`.
    pub async fn ended(mut self, within: Duration) -> Ran {
        let status: ExitStatus = tokio::time::timeout(within, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("still running after {within:?}: {:?}", self.stderr()))
            .expect("a child of ours");
        Ran { code: status.code(), stdout: self.stdout.whole().await, stderr: self.stderr.whole().await }
    }
}

/// Reads the lines of a pipe as they arrive, because a full pipe would stop the process.
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reading: JoinHandle<()>,
}

impl Lines {
    fn follow(pipe: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let shared = Arc::clone(&lines);
        let reading = tokio::spawn(async move {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                shared.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                line.clear();
            }
        });
        Self { lines, reading }
    }

    fn so_far(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn whole(self) -> String {
        let read = tokio::time::timeout(DEADLINE, self.reading).await.expect("the pipe closes with the process");
        read.expect("reading lines does not panic");
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}
