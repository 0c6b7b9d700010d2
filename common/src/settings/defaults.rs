//! What each setting is when it is left out: the one place where defaults are written.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use url::Url;

use super::*;
use crate::keywords;

const DAY: Duration = Duration::from_hours(24);

/// The vendor's documents give this host for every call (<https://apidocs.next.textus.com/overview/making_requests/>).
const TEXTUS_URL: &str = "https://next.textus.com";

impl Settings {
    /// The settings of an empty `hookline.toml`.
    #[must_use]
    pub fn defaults() -> Self {
        Self {
            data_dir: PathBuf::from("./.hookline"),
            // Kubernetes kills 30 s after it asked (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/>).
            shutdown_grace: Duration::from_secs(25),
            ingest: IngestSettings {
                listen: loopback(8080),
                max_body_bytes: 1 << 20,
                request_timeout: Duration::from_secs(10),
                min_body_rate: 1 << 10,
                max_in_flight: 1024,
                on_broker_outage: OnBrokerOutage::Spool,
                spool_max_bytes: 4 << 30,
                tls: None,
            },
            admin: AdminSettings { listen: None },
            broker: BrokerSettings { url: Vec::new(), ca: None, missing_after: Duration::from_mins(2) },
            store: StoreSettings { url: None, retention: 30 * DAY, ledger_key: None },
            sources: Vec::new(),
            spared_sources: Vec::new(),
            textus: TextUsSettings {
                base_url: Url::parse(TEXTUS_URL).expect("a URL"),
                account: String::new(),
                token: None,
                primary_account: None,
                webhook_url: None,
                webhook_check_every: Duration::from_hours(1),
                timeout: Duration::from_secs(10),
                opt_out_reserve: 0.1,
                paused_probe: Duration::from_mins(1),
                breaker: BreakerSettings { open_min: Duration::from_secs(5), open_max: Duration::from_mins(5) },
                rate_limit_window: Duration::from_mins(5),
                max_response_bytes: 1 << 20,
            },
            handlers: HandlersSettings::defaults(),
            sandbox: SandboxSettings { listen: loopback(0) },
            system_of_record: SystemOfRecordSettings { kind: SystemOfRecordKind::Builtin },
            log: LogSettings { format: None },
        }
    }
}

impl HandlersSettings {
    fn defaults() -> Self {
        let basics = HandlerBasics { enabled: true, concurrency: 32, retry: RetrySettings::defaults() };
        Self {
            record_opt_out: RecordOptOutSettings {
                // An opt-out goes out soon after TextUs takes it again, however long that was away.
                basics: HandlerBasics {
                    retry: RetrySettings { max: Duration::from_mins(5), ..basics.retry },
                    ..basics
                },
                accounts: Vec::new(),
                keywords: keywords::STOP.map(str::to_owned).to_vec(),
            },
            flag_opt_out: FlagOptOutSettings { basics },
            log_note: LogNoteSettings {
                basics,
                message_lookup: MessageLookup::Auto,
                on_unknown_contact: OnUnknownContact::default_for(SystemOfRecordKind::Builtin),
                not_found_grace: Duration::from_secs(30),
            },
            create_contact: CreateContactSettings { basics, accounts: Vec::new() },
            sync_contact: SyncContactSettings { basics },
            record_history: RecordHistorySettings { basics },
        }
    }
}

impl RetrySettings {
    fn defaults() -> Self {
        Self {
            initial: Duration::from_secs(5),
            multiplier: 2.0,
            max: Duration::from_hours(6),
            max_attempts: 0,
            max_age: 7 * DAY,
        }
    }
}

impl OnUnknownContact {
    /// The built-in system of record is ours to add people to; in a CRM that is for a person to decide.
    pub(super) fn default_for(kind: SystemOfRecordKind) -> Self {
        match kind {
            SystemOfRecordKind::Builtin => Self::Create,
        }
    }
}

impl Settings {
    /// Fills in what is, where left out, what another setting says.
    pub(super) fn complete(&mut self, on_unknown_contact_is_given: bool) {
        let handlers = &mut self.handlers;
        for accounts in [&mut handlers.record_opt_out.accounts, &mut handlers.create_contact.accounts] {
            if accounts.is_empty() && !self.textus.account.is_empty() {
                accounts.push(self.textus.account.clone());
            }
        }
        if !on_unknown_contact_is_given {
            handlers.log_note.on_unknown_contact = OnUnknownContact::default_for(self.system_of_record.kind);
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
