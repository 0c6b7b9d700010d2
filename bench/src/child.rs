//! A measured process, from the benchmark's side: starts it, asks it, reads its /proc and ends it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::process::{Kind, Ready};

const TO_BE_READY: Duration = Duration::from_secs(30);
const TO_END: Duration = Duration::from_secs(15);

pub(crate) struct Child {
    kind: Kind,
    pid: u32,
    process: tokio::process::Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    listening: Option<SocketAddr>,
}

impl Child {
    /// Starts `executable process KIND`, sends it its specification, and waits until it is ready. It is killed when
    /// dropped.
    pub(crate) async fn start(executable: &Path, kind: Kind, spec: &impl Serialize) -> anyhow::Result<Self> {
        let mut process = Command::new(executable)
            .args(["process", kind.as_str()])
            // Logging costs time, so the process logs only trouble.
            .env_remove("RUST_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {} for the benchmark", executable.display()))?;
        let pid = process.id().context("a process that was just started has an id")?;
        let stdin = process.stdin.take().context("stdin is piped")?;
        let stdout = process.stdout.take().context("stdout is piped")?;
        let lines = BufReader::new(stdout).lines();
        let mut child = Self { kind, pid, process, stdin, lines, listening: None };
        let ready: Ready = child.ask(spec, TO_BE_READY).await?;
        child.listening = ready.listening;
        Ok(child)
    }

    /// Returns the address at which the process listens.
    pub(crate) fn addr(&self) -> anyhow::Result<SocketAddr> {
        self.listening.with_context(|| format!("{} does not listen", self.kind))
    }

    /// Sends one line and reads one.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &mut self,
        question: &impl Serialize,
        within: Duration,
    ) -> anyhow::Result<T> {
        let mut line = serde_json::to_string(question).context("writing a question")?;
        line.push('\n');
        let answer = timeout(within, async {
            self.stdin.write_all(line.as_bytes()).await?;
            self.lines.next_line().await
        });
        match answer.await {
            Err(_) => bail!("the process {} did not answer in {} s", self.kind, within.as_secs()),
            Ok(Ok(Some(answer))) => {
                serde_json::from_str(&answer).with_context(|| format!("an answer of {}", self.kind))
            }
            Ok(Ok(None) | Err(_)) => bail!("the process {} ended; what it said is above", self.kind),
        }
    }

    /// Returns the current resident set, in MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        self.status("VmRSS:")
    }

    /// Returns the largest resident set since the start, in MiB.
    pub(crate) fn peak_resident_mib(&self) -> anyhow::Result<f64> {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).context("reading /proc")?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("no {key} there"))?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().context("reading /proc")?;
        Ok(kib / 1024.0)
    }

    /// Returns the user and system time used so far.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).context("reading /proc")?;
        cpu_seconds_of(&stat).context("reading /proc/PID/stat")
    }

    /// Lets the process end by itself, and kills it if it doesn't.
    pub(crate) async fn stop(self) {
        let Self { mut process, stdin, .. } = self;
        drop(stdin);
        if timeout(TO_END, process.wait()).await.is_err() {
            // The drop would kill the process too; here we also wait until it is gone.
            let _ = process.kill().await;
        }
    }
}

/// Sums fields 14 and 15 of `/proc/PID/stat`. The fields are counted after the name, because the name may contain
/// blanks.
fn cpu_seconds_of(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_past_a_name_with_blanks() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 100 0 0 0 300 50 0 0 20 0 1 0 100 1000 10";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_seconds_of(stat), Some(350.0 / ticks));
    }
}
