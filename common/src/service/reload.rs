//! Settings that change while a process runs. On SIGHUP we read the whole file again; every two seconds we read the
//! files that hold secrets, as the configuration that is in force names them. We refuse settings that cannot be used and
//! keep the old ones.
//!
//! These keys take effect without a restart: the secrets of sources and of `[system_of_record.http]`, and of `[textus]` the
//! token, `opt_out_reserve` and `breaker`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::settings::{Loaded, Needs, Settings, load, load_again};

/// How soon we notice a changed secret.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The keys that take effect in a running process.
const TAKEN_OVER: [&str; 5] =
    ["sources.", "textus.token", "textus.opt_out_reserve", "textus.breaker.", "system_of_record.http.secrets"];

/// The current settings; the value changes when they do.
pub type LiveSettings = watch::Receiver<Arc<Settings>>;

/// Starts following the configuration that `settings` came from.
///
/// # Errors
/// If the process may not install a signal handler.
pub fn follow(config: Option<&Path>, needs: Needs, settings: &Settings) -> std::io::Result<LiveSettings> {
    let (sender, receiver) = watch::channel(Arc::new(settings.clone()));
    let mut hangup = signal(SignalKind::hangup())?;
    // A certificate that is about to be replaced, or is not renewed, must not keep new secrets from being read. The listener
    // reads certificates again by itself.
    let needs = Needs { certificates: false, ..needs };
    let in_force = load(config, needs).ok();
    let mut follower = Follower { config: config.map(Path::to_owned), needs, in_force, refused: String::new(), sender };
    tokio::spawn(async move {
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
            };
            follower.look(asked);
            if follower.sender.is_closed() {
                return;
            }
        }
    });
    Ok(receiver)
}

struct Follower {
    config: Option<PathBuf>,
    needs: Needs,
    /// The configuration as of the last SIGHUP or the start; later changes to its file take effect only at the next
    /// SIGHUP.
    in_force: Option<Loaded>,
    /// The problems that were last refused, so that they are logged once.
    refused: String,
    sender: watch::Sender<Arc<Settings>>,
}

impl Follower {
    fn look(&mut self, asked: bool) {
        let read = match self.in_force.as_ref().filter(|_| !asked) {
            Some(in_force) => load_again(in_force, self.needs),
            None => load(self.config.as_deref(), self.needs),
        };
        let loaded = match read {
            Ok(loaded) => loaded,
            Err(problems) => {
                let problems = problems.to_string();
                if asked || self.refused != problems {
                    tracing::error!(problems, "configuration.refused: the settings from before stay in force");
                }
                self.refused = problems;
                return;
            }
        };
        self.refused.clear();
        let before = Arc::clone(&self.sender.borrow());
        if asked {
            report_the_rest(&before, &loaded.settings);
        }
        let mut after = Settings::clone(&before);
        after.sources.clone_from(&loaded.settings.sources);
        after.textus.token.clone_from(&loaded.settings.textus.token);
        after.textus.opt_out_reserve = loaded.settings.textus.opt_out_reserve;
        after.textus.breaker.clone_from(&loaded.settings.textus.breaker);
        after.system_of_record.http.secrets.clone_from(&loaded.settings.system_of_record.http.secrets);
        self.in_force = Some(loaded);
        if after == *before {
            if asked {
                tracing::info!("configuration.unchanged");
            }
            return;
        }
        tracing::info!("configuration.reloaded");
        self.sender.send_replace(Arc::new(after));
    }
}

/// Logs which changed keys need a restart.
fn report_the_rest(before: &Settings, after: &Settings) {
    let (before, after) = (before.describe(), after.describe());
    let changed: Vec<&str> = after
        .iter()
        .filter(|pair| !before.contains(pair))
        .map(|(key, _)| key.as_str())
        .filter(|key| !TAKEN_OVER.iter().any(|taken| key.starts_with(taken)))
        .collect();
    if !changed.is_empty() {
        tracing::warn!(
            keys = changed.join(", "),
            "configuration.needs_restart: these keys count from the next start on"
        );
    }
}
