//! Checks whether TextUs sends this endpoint what the enabled handlers need. By default TextUs sends two of eight event
//! types, and nothing shows that the others are missing: no failure, no dead letter, no log line. So workers check
//! every hour, and `hookline webhooks verify` and `check --connect` judge the same way.

use std::sync::Arc;
use std::time::Duration;

use hookline_broker::topology;
use hookline_common::event::{START_RECEIVED, STOP_RECEIVED, TEXT_RECEIVED};
use hookline_common::names::{HandlerName, SubscriptionState};
use hookline_common::secret::Secret;
use hookline_common::service::reload::LiveSettings;
use hookline_common::service::telemetry::metrics::Metrics;
use hookline_common::settings::{OnFailedMessage, Settings, takes_posts_to};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::calls::log::CallLog;
use crate::destinations::error::DestinationError;
use crate::destinations::priority::Priority;
use crate::textus::client::TextUs;
use crate::textus::integrations::{Integration, Integrations};

/// Wait before another look after one that failed. The first look comes within `FIRST_WITHIN`.
const SOON: Duration = Duration::from_mins(5);
const FIRST_WITHIN: Duration = Duration::from_mins(1);

const TEXT_FAILED: &str = "message.failed";

/// Returns the event types without which the enabled handlers lack something of their work. `record_history` doesn't
/// count, since it only keeps what comes.
#[must_use]
pub fn needed(settings: &Settings) -> Vec<&'static str> {
    let takers = settings.handlers.enabled().into_iter().filter(|handler| *handler != HandlerName::RecordHistory);
    let takes_keywords = !settings.handlers.record_opt_out.keywords.is_empty();
    let as_sent = |name: &'static str| match name {
        // Ingest derives the keyword types from a text, so TextUs has to send texts.
        STOP_RECEIVED | START_RECEIVED => takes_keywords.then_some(TEXT_RECEIVED),
        name => Some(name),
    };
    let routed = takers.filter_map(topology::event_types).flatten();
    let mut needed: Vec<&str> = routed.copied().filter_map(as_sent).filter(|name| *name != TEXT_FAILED).collect();
    needed.sort_unstable();
    needed.dedup();
    needed
}

/// Returns the event types that are worth having: those that are needed, and `message.failed` where notes show it. A note
/// without the failed texts is still a note, so an endpoint that lacks them is not incomplete.
#[must_use]
pub fn wanted(settings: &Settings) -> Vec<&'static str> {
    let mut wanted = needed(settings);
    let shows_failed = settings.system_of_record.on_failed_message == OnFailedMessage::Note;
    if settings.handlers.log_note.basics.enabled && shows_failed {
        wanted.push(TEXT_FAILED);
        wanted.sort_unstable();
    }
    wanted
}

/// What is known about this endpoint's subscription.
pub struct Subscription {
    /// The integrations that post to this endpoint.
    pub ours: Vec<Integration>,
    /// Event types that are needed and that no active integration sends.
    pub missing: Vec<&'static str>,
    /// Event types that are wanted and that no active integration sends.
    pub unsent: Vec<&'static str>,
    pub findings: Vec<Finding>,
}

/// Something to fix or to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub remedy: String,
    pub about: About,
    /// Whether webhooks don't come or are refused.
    pub is_failure: bool,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    Subscription,
    Health,
    Secret,
    /// More than one integration posts to this endpoint.
    Repeats,
}

/// Why nothing is known about the subscription.
#[derive(Debug, thiserror::Error)]
pub enum NotKnown {
    #[error("the token may not see the integrations of {account} ({status})")]
    NotAllowed { account: String, status: u16 },
    #[error("TextUs does not list the integrations of {account}: {error}")]
    Failed { account: String, error: DestinationError },
    #[error("several integrations post to a path of this endpoint, on different hosts")]
    SeveralUrls,
    #[error("there is no source, so no integration can be told to be this endpoint's")]
    NoSource,
    #[error("the list of integrations is not whole, and none of those that can be read posts here")]
    NotWhole,
}

impl NotKnown {
    /// Returns what to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotAllowed { .. } => {
                "use the token of an organisation administrator, and name the primary account: [textus] primary_account, or \
                 --account"
            }
            Self::Failed { .. } => "try again, or look in TextUs under Settings > Account Settings > Integrations",
            Self::SeveralUrls => "say which is this one: [textus] webhook_url, or --url",
            Self::NoSource => "add [[sources]], or say where TextUs posts to: [textus] webhook_url, or --url",
            Self::NotWhole => "look in TextUs under Settings > Account Settings > Integrations > Webhooks",
        }
    }
}

/// Returns the account's integrations.
///
/// # Errors
/// `NotAllowed` if the token may not see the integrations or the account has none to see; otherwise `Failed`.
pub async fn list(textus: &TextUs, log: &CallLog, account: &str) -> Result<Integrations, NotKnown> {
    textus.integrations(log, account).await.map_err(|error| {
        let account = account.to_owned();
        match error.status() {
            Some(status @ (401 | 403 | 404)) => NotKnown::NotAllowed { account, status },
            Some(_) | None => NotKnown::Failed { account, error },
        }
    })
}

/// Judges the integrations that post to `url` or, without one, to the path of a configured source.
///
/// # Errors
/// When it isn't clear which integrations belong to this endpoint.
pub fn judge(settings: &Settings, url: Option<&Url>, listed: &Integrations) -> Result<Subscription, NotKnown> {
    let webhooks = || listed.all.iter().filter(|integration| integration.is_webhook());
    let ours: Vec<Integration> = match url {
        Some(url) => webhooks().filter(|integration| integration.posts_to(url)).cloned().collect(),
        None => {
            let is_ours = |integration: &&Integration| {
                integration.url().is_some_and(|url| settings.source_names().any(|name| takes_posts_to(name, &url)))
            };
            if settings.source_names().next().is_none() {
                return Err(NotKnown::NoSource);
            }
            webhooks().filter(is_ours).cloned().collect()
        }
    };
    let first = ours.first().and_then(Integration::url);
    if first.is_some_and(|first| ours.iter().any(|integration| !integration.posts_to(&first))) {
        return Err(NotKnown::SeveralUrls);
    }
    if ours.is_empty() && !listed.is_whole {
        return Err(NotKnown::NotWhole);
    }
    Ok(Subscription::of(ours, &needed(settings), wanted(settings), &secrets(settings)))
}

/// Returns the secrets of this endpoint's sources; empty if this program can't read them.
#[must_use]
pub fn secrets(settings: &Settings) -> Vec<Secret> {
    settings.sources.iter().flat_map(|source| source.secrets.iter().cloned()).collect()
}

impl Subscription {
    fn of(ours: Vec<Integration>, needed: &[&'static str], wanted: Vec<&'static str>, secrets: &[Secret]) -> Self {
        let active: Vec<&Integration> = ours.iter().filter(|integration| integration.is_active()).collect();
        let is_sent =
            |event_type: &&str| active.iter().any(|integration| integration.event_types().contains(*event_type));
        let unsent: Vec<&str> = wanted.into_iter().filter(|event_type| !is_sent(event_type)).collect();
        let missing: Vec<&str> = needed.iter().copied().filter(|event_type| unsent.contains(event_type)).collect();
        let mut findings = findings(&ours, &active, &missing, secrets);
        if missing.is_empty() && !ours.is_empty() && !unsent.is_empty() {
            findings.push(Finding {
                what: format!("TextUs does not send {}, which notes could show", unsent.join(", ")),
                remedy: "run `hookline webhooks register` to have it".to_owned(),
                about: About::Subscription,
                is_failure: false,
            });
        }
        Self { missing, unsent, findings, ours }
    }

    #[must_use]
    pub fn state(&self) -> SubscriptionState {
        if !self.missing.is_empty() {
            SubscriptionState::Incomplete
        } else if self.findings.iter().any(|finding| finding.is_failure) {
            SubscriptionState::Unhealthy
        } else {
            SubscriptionState::Complete
        }
    }
}

fn findings(ours: &[Integration], active: &[&Integration], missing: &[&str], secrets: &[Secret]) -> Vec<Finding> {
    const REGISTER: &str = "run `hookline webhooks register`";
    let mut found = Vec::new();
    let mut add =
        |about, what: String, remedy: String, is_failure| found.push(Finding { what, remedy, about, is_failure });
    let needs_more = !missing.is_empty();
    if ours.is_empty() {
        add(
            About::Subscription,
            "no integration of the account posts to this endpoint".to_owned(),
            REGISTER.to_owned(),
            needs_more,
        );
    } else if active.is_empty() {
        let what = format!("{} is not active: TextUs sends nothing", names(ours.iter()));
        add(About::Subscription, what, REGISTER.to_owned(), needs_more);
    } else if needs_more {
        let what = format!("{} does not send {}", names(active.iter().copied()), missing.join(", "));
        add(About::Subscription, what, REGISTER.to_owned(), true);
    }
    for integration in active {
        let id = integration.id();
        if integration.is_healthy() == Some(false) {
            let remedy = "see that its URL is reached from the internet and answers 2xx (`hookline healthcheck`, the proxy's \
                          log), then run `hookline webhooks register`";
            add(About::Health, format!("TextUs marks {id} as unhealthy"), remedy.to_owned(), true);
        }
        if !secrets.is_empty() && integration.secret().is_some_and(|secret| !secrets.contains(&secret)) {
            let what =
                format!("the secret of {id} is none of the [[sources]] secrets: what it posts is refused with 401");
            add(
                About::Secret,
                what,
                format!("{REGISTER}: the secret is written into a file; name that under [[sources]]"),
                true,
            );
        }
    }
    if let [kept, others @ ..] = active
        && !others.is_empty()
    {
        let others = names(others.iter().copied());
        let what = format!("{} and {others} post here: each event comes several times", kept.id());
        add(About::Repeats, what, format!("`hookline webhooks disable {others}`"), false);
    }
    found
}

fn names<'a>(integrations: impl Iterator<Item = &'a Integration>) -> String {
    integrations.map(Integration::id).collect::<Vec<_>>().join(" ")
}

/// Checks until `shutdown`: soon after the start, then every `[textus] webhook_check_every`.
pub(crate) async fn run(
    settings: Settings,
    live: Option<LiveSettings>,
    textus: TextUs,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let every = settings.textus.webhook_check_every;
    if every.is_zero() {
        return shutdown.cancelled().await;
    }
    let watch = Watch { settings, live, textus, metrics };
    let looking = async {
        let mut last = None;
        let mut wait = every.min(FIRST_WITHIN).mul_f64(0.25 + rand::random::<f64>() / 4.0);
        loop {
            tokio::time::sleep(wait).await;
            wait = watch.look(&mut last).await.unwrap_or(every.min(SOON)).mul_f64(0.9 + rand::random::<f64>() / 5.0);
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = looking => {}
    }
}

struct Watch {
    settings: Settings,
    live: Option<LiveSettings>,
    textus: TextUs,
    metrics: Arc<Metrics>,
}

/// The state and findings that were last logged.
type LastReport = Option<(SubscriptionState, Vec<String>)>;

impl Watch {
    /// Checks once and returns when to check again; `None` means soon, because TextUs didn't answer.
    async fn look(&self, last: &mut LastReport) -> Option<Duration> {
        // Secrets and the token may have changed since the start.
        let settings = self.live.as_ref().map_or_else(|| self.settings.clone(), |live| live.borrow().as_ref().clone());
        let textus = &settings.textus;
        // The lowest priority: every other call that waits for quota goes first.
        let log = CallLog::default().within(Arc::new(Semaphore::new(1)), Priority::Note);
        let listed = list(&self.textus, &log, textus.primary_account()).await;
        if matches!(listed, Err(NotKnown::NotAllowed { status: 401, .. })) {
            // A token that may not see integrations can be valid for everything else. The check tells: a 401 there
            // pauses the destination, and any other answer changes nothing.
            let _ = self.textus.check_token(&log).await;
        }
        let judged = listed.and_then(|listed| judge(&settings, textus.webhook_url.as_ref(), &listed));
        let (now, missing) = match judged {
            Ok(found) => {
                let failures = found.findings.iter().filter(|finding| finding.is_failure);
                let words = failures.map(|finding| format!("{}; {}", finding.what, finding.remedy)).collect();
                ((found.state(), words), found.missing)
            }
            // Keep the previous metrics: what is missing must not look as if it were there.
            Err(error @ NotKnown::Failed { .. }) => {
                tracing::debug!(%error, "webhooks.not_looked: trying again");
                return None;
            }
            Err(error) => ((SubscriptionState::NotKnown, vec![format!("{error}; {}", error.remedy())]), Vec::new()),
        };
        self.metrics.worker.subscription(now.0, &missing);
        if last.as_ref() != Some(&now) {
            report(now.0, &now.1.join(". "));
            *last = Some(now);
        }
        Some(textus.webhook_check_every)
    }
}

fn report(state: SubscriptionState, findings: &str) {
    match state {
        SubscriptionState::Complete => {
            tracing::info!("webhooks.subscribed: TextUs sends what the handlers need");
        }
        SubscriptionState::Incomplete => {
            tracing::error!(findings, "webhooks.not_subscribed: TextUs does not send here what the handlers need");
        }
        SubscriptionState::Unhealthy => {
            tracing::error!(findings, "webhooks.unhealthy: what TextUs sends does not arrive, or is not taken");
        }
        SubscriptionState::NotKnown => {
            tracing::warn!(findings, "webhooks.not_known: whether TextUs sends what the handlers need cannot be seen");
        }
    }
}

#[cfg(test)]
mod tests {
    use hookline_common::event::SourceName;
    use hookline_common::settings::{SourceKind, SourceSettings};
    use serde_json::json;

    use super::*;

    fn settings() -> Settings {
        let mut settings = Settings::defaults();
        let name = SourceName::new("textus").unwrap();
        let secrets = vec![Secret::new("textus-old"), Secret::new("textus-new")];
        settings.sources = vec![SourceSettings { name, kind: SourceKind::TextUs, secrets }];
        settings
    }

    fn listed(urls: &[&str]) -> Integrations {
        let all = urls.iter().enumerate().map(|(n, url)| {
            let config = json!({ "baseUrl": url, "webhookSecret": "textus-new" });
            let fields =
                json!({ "id": format!("/integrations/{n}"), "provider": "webhook", "active": true, "config": config });
            Integration::read(fields).unwrap()
        });
        Integrations { all: all.collect(), is_whole: true }
    }

    #[test]
    fn needed_is_what_enabled_handlers_take_besides_the_history() {
        let mut settings = settings();
        let all = ["contact.created", "contact.opted_in", "contact.opted_out", "message.delivered", "message.received"];
        assert_eq!(needed(&settings), all);

        for basics in [
            &mut settings.handlers.create_contact.basics,
            &mut settings.handlers.log_note.basics,
            &mut settings.handlers.record_opt_out.basics,
        ] {
            basics.enabled = false;
        }
        assert!(needed(&settings).contains(&"contact.opted_out"), "flag_opt_out needs it as well");
        assert!(needed(&settings).contains(&"contact.created"), "so does sync_contact");
        assert!(needed(&settings).contains(&"message.received"), "STOP may come as a text alone");
        settings.handlers.record_opt_out.keywords.clear();
        assert!(!needed(&settings).contains(&"message.received"), "no text is an opt-out");
        settings.handlers.flag_opt_out.basics.enabled = false;
        settings.handlers.sync_contact.basics.enabled = false;
        assert_eq!(needed(&settings), [""; 0]);
        let found = judge(&settings, None, &listed(&[])).unwrap();
        assert_eq!(found.state(), SubscriptionState::Complete, "nothing is needed");
    }

    #[test]
    fn without_a_url_the_sources_path_tells_and_two_hosts_tell_nothing() {
        let (one, other) = ("https://a.example.com/in/webhooks/textus", "https://b.example.com/webhooks/textus/");
        let strangers =
            ["https://a.example.com/textus", "https://a.example.com/webhooks/nottextus", "https://a.example.com/"];
        let mut settings = settings();

        let ours =
            |settings: &Settings, urls: &[&str]| judge(settings, None, &listed(urls)).map(|found| found.ours.len());
        assert_eq!(ours(&settings, &strangers).unwrap(), 0);
        assert_eq!(ours(&settings, &[strangers[0], one, "https://A.example.com/in/webhooks/textus/"]).unwrap(), 2);
        assert!(matches!(ours(&settings, &[one, other]), Err(NotKnown::SeveralUrls)));
        let url = Url::parse("https://b.example.com/webhooks/textus").unwrap();
        assert_eq!(judge(&settings, Some(&url), &listed(&[one, other])).unwrap().ours.len(), 1);

        settings.spared_sources = settings.sources.drain(..).map(|source| source.name).collect();
        assert_eq!(ours(&settings, &[one]).unwrap(), 1, "the secrets are not at hand, the name is");
        settings.spared_sources.clear();
        assert!(matches!(ours(&settings, &[one]), Err(NotKnown::NoSource)));
    }

    #[test]
    fn what_may_be_on_a_part_of_the_list_that_cannot_be_read_is_not_known() {
        let cut = |urls: &[&str]| Integrations { is_whole: false, ..listed(urls) };
        let here = "https://a.example.com/webhooks/textus";
        assert!(matches!(judge(&settings(), None, &cut(&[])), Err(NotKnown::NotWhole)));
        assert_eq!(judge(&settings(), None, &cut(&[here])).unwrap().ours.len(), 1);
    }

    #[test]
    fn one_secret_of_several_is_enough_and_none_at_hand_is_not_compared() {
        let listed = listed(&["https://a.example.com/webhooks/textus"]);
        let about_secret = |settings: &Settings| {
            let found = judge(settings, None, &listed).unwrap();
            found.findings.iter().any(|finding| finding.about == About::Secret)
        };
        let mut settings = settings();
        assert!(!about_secret(&settings));
        settings.sources[0].secrets.pop();
        assert!(about_secret(&settings));
        settings.spared_sources = settings.sources.drain(..).map(|source| source.name).collect();
        assert!(!about_secret(&settings));
    }
}
