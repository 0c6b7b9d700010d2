//! The folder of this test process's nodes, and the reaper, which outlives the process to end them.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{PATH, wait_for};

/// The folder with a folder for each node of this process. The first call makes it, and starts its reaper.
///
/// # Panics
/// If the folder cannot be made, or there is no `sh`.
pub fn root() -> &'static Path {
    struct Root {
        path: PathBuf,
        _open_while_we_live: ChildStdin,
    }
    static ROOT: OnceLock<Root> = OnceLock::new();
    &ROOT
        .get_or_init(|| {
            let path = tempfile::Builder::new().prefix("hookline-nodes.").tempdir().expect("a directory").keep();
            // PostgreSQL's user must be able to reach its own folder.
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711)).expect("our own directory");
            let mut reaper = Command::new("sh");
            reaper.args(["-c", include_str!("reaper.sh"), "reaper"]).arg(&path);
            // The reaper has its own process group, because a Ctrl-C is meant for the tests.
            reaper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
            let stdin = reaper.spawn().expect("sh runs").stdin.take().expect("piped");
            Root { path, _open_while_we_live: stdin }
        })
        .path
}

/// Makes a folder for a server; `name` must be unique in this process.
pub(super) fn folder(name: &str) -> PathBuf {
    let folder = root().join(name);
    std::fs::create_dir(&folder).expect("a new folder");
    folder
}

/// A server's process. The file `pid` in its folder holds its id.
pub(super) struct Server {
    folder: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Server {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, child: Mutex::new(None) }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the program that `arguments` begin with, in this environment only; its output goes to `console.log`.
    ///
    /// # Panics
    /// If the server runs already.
    pub(super) fn start(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        environment: impl IntoIterator<Item = (&'static str, String)>,
    ) {
        assert!(!self.runs(), "{} runs already", self.folder.display());
        let console = std::fs::File::create(self.folder.join("console.log")).expect("a log");
        let mut command = Command::new("sh");
        // The shell writes its id before it becomes the server, so there is no moment in which the reaper can miss it.
        command.args(["-ec", "echo $$ >\"$0\"; exec \"$@\""]).arg(self.folder.join("pid")).args(arguments);
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").envs(environment);
        command.current_dir(&self.folder).process_group(0).stdin(Stdio::null());
        command.stdout(console.try_clone().expect("a log")).stderr(console);
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(command.spawn().expect("sh runs"));
    }

    pub(super) fn runs(&self) -> bool {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.as_mut().is_some_and(|child| child.try_wait().expect("a child of ours").is_none())
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Child::id)
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            // The process may have ended by itself. Its number is still its own, because nobody has waited for it.
            let _ = kill_process(pid, signal);
        }
    }

    /// Sends the signal and waits for the process to end.
    ///
    /// # Panics
    /// If the process does not end.
    pub(super) async fn end(&self, signal: Signal) {
        self.signal(signal);
        wait_for(|| (!self.runs()).then_some(())).await.expect("a signalled server ends");
        self.forget();
    }

    fn forget(&self) {
        let _ = std::fs::remove_file(self.folder.join("pid"));
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Ends the process from a `Drop` and removes its folder.
    pub(super) fn discard(&self, signal: Signal) {
        self.signal(signal);
        for _ in 0..1000 {
            if !self.runs() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.forget();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
