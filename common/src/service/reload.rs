//! Settings that change while a process runs. On SIGHUP we read the whole file again; every two seconds we read the
//! files that hold secrets, as the configuration that is in force names them. We refuse settings that cannot be used and
//! keep the old ones.
//!
//! `TAKEN_OVER` lists the keys that take effect without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::settings::{Loaded, Needs, Settings, SystemOfRecordSettings, load, load_again};

/// How soon we notice a changed secret.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The keys that take effect in a running process.
const TAKEN_OVER: [&str; 13] = [
    "sources.",
    "textus.token",
    "textus.opt_out_reserve",
    "textus.breaker.",
    "textus.paused_probe",
    "textus.rate_limit_window",
    "system_of_record.hubspot.token",
    "system_of_record.salesforce.client_id",
    "system_of_record.salesforce.client_secret",
    "system_of_record.salesforce.jwt_key",
    "system_of_record.salesforce.username",
    "system_of_record.salesforce.audience",
    "system_of_record.http.secrets",
];

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
        take_over(&mut after, &loaded.settings);
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

/// Puts the values of the keys in [`TAKEN_OVER`] into the settings of the running process.
fn take_over(running: &mut Settings, read: &Settings) {
    running.sources.clone_from(&read.sources);
    running.textus.token.clone_from(&read.textus.token);
    running.textus.opt_out_reserve = read.textus.opt_out_reserve;
    running.textus.breaker.clone_from(&read.textus.breaker);
    running.textus.paused_probe = read.textus.paused_probe;
    running.textus.rate_limit_window = read.textus.rate_limit_window;
    take_over_records(&mut running.system_of_record, &read.system_of_record);
}

/// Takes over the credentials, unless they are for another system or address: those count from the next start on, together
/// with it.
fn take_over_records(running: &mut SystemOfRecordSettings, read: &SystemOfRecordSettings) {
    let is_same = running.kind == read.kind
        && running.hubspot.base_url == read.hubspot.base_url
        && running.salesforce.base_url == read.salesforce.base_url
        && running.http.url == read.http.url;
    if !is_same {
        return;
    }
    running.hubspot.token.clone_from(&read.hubspot.token);
    running.salesforce.client_id.clone_from(&read.salesforce.client_id);
    running.salesforce.client_secret.clone_from(&read.salesforce.client_secret);
    running.salesforce.jwt_key.clone_from(&read.salesforce.jwt_key);
    running.salesforce.username.clone_from(&read.salesforce.username);
    running.salesforce.audience.clone_from(&read.salesforce.audience);
    running.http.secrets.clone_from(&read.http.secrets);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{TAKEN_OVER, take_over};
    use crate::secret::Secret;
    use crate::settings::{Settings, SystemOfRecordKind, secret_keys};

    /// A process opens its connections with these once. The database and RabbitMQ answer a wrong one at the next start.
    const OF_CONNECTIONS: [&str; 3] = ["broker.url", "store.url", "store.ledger_key"];

    #[test]
    fn every_secret_of_a_source_or_a_destination_counts_without_a_restart() {
        let secrets = secret_keys();
        assert!(secrets.len() > OF_CONNECTIONS.len(), "{secrets:?}");
        for key in secrets.iter().filter(|key| !OF_CONNECTIONS.contains(key)) {
            assert!(TAKEN_OVER.iter().any(|taken| key.starts_with(taken)), "{key}");
        }
    }

    fn changed() -> Settings {
        let mut settings = Settings::defaults();
        let secret = || Some(Secret::new("another-synthetic-secret"));
        settings.textus.token = secret();
        settings.textus.opt_out_reserve = 0.5;
        settings.textus.breaker.open_max = Duration::from_secs(7);
        settings.textus.paused_probe = Duration::from_secs(7);
        settings.textus.rate_limit_window = Duration::from_secs(7);
        let records = &mut settings.system_of_record;
        records.hubspot.token = secret();
        records.salesforce.client_id = secret();
        records.salesforce.client_secret = secret();
        records.salesforce.jwt_key = secret();
        records.salesforce.username = Some("hookline@example.com".to_owned());
        records.salesforce.audience = Some("https://test.salesforce.com".parse().unwrap());
        records.http.secrets.extend(secret());
        settings
    }

    #[test]
    fn credentials_and_limits_are_taken_over() {
        let mut running = Settings::defaults();
        take_over(&mut running, &changed());
        assert!(running == changed());
    }

    #[test]
    fn credentials_for_another_system_or_address_wait_for_the_next_start() {
        let mut other_kind = changed();
        other_kind.system_of_record.kind = SystemOfRecordKind::Salesforce;
        let mut other_org = changed();
        other_org.system_of_record.salesforce.base_url = Some("https://acme.my.salesforce.com".parse().unwrap());
        for read in [other_kind, other_org] {
            let mut running = Settings::defaults();
            take_over(&mut running, &read);
            assert!(running.system_of_record == Settings::defaults().system_of_record);
            assert!(running.textus == read.textus);
        }
    }
}
