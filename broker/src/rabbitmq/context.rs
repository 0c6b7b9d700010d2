//! State that the parts of a RabbitMQ broker share: the options, the connections that are up, and the signals to end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lapin::Connection;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{RabbitOptions, RabbitRole};
use crate::BrokerState;
use crate::metrics::{ConnectionRole, ReconnectCause};
use crate::topology::WorkClass;

/// In a deployment everything starts at the same time: a broker that is not there yet is nothing to warn of for so long.
const STARTING: Duration = Duration::from_secs(60);
/// After how many tries a lasting outage is logged again.
const REPORT_AGAIN: u32 = 20;

pub(super) struct RabbitContext {
    pub(super) options: RabbitOptions,
    pub(super) state: watch::Sender<BrokerState>,
    /// The consuming connection, while it is up.
    pub(super) consuming: watch::Sender<Option<Arc<Connection>>>,
    /// Notified when an object is missing, so that it is declared at once.
    pub(super) declare_now: Notify,
    /// Notified when a publishing connection is up, so that the others do not wait for their next try.
    pub(super) publishing_again: Notify,
    /// Cancelled to make consumers give back what was not taken, and end.
    pub(super) closing: CancellationToken,
    /// Cancelled to end the connections.
    pub(super) stop: CancellationToken,
    outages: Mutex<Outages>,
    started: Instant,
    has_been_up: AtomicBool,
}

/// One connection of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Publish(WorkClass),
    Consume,
}

impl Link {
    pub(super) const fn role(self) -> ConnectionRole {
        match self {
            Self::Publish(_) => ConnectionRole::Publish,
            Self::Consume => ConnectionRole::Consume,
        }
    }

    /// The name for logs, and for RabbitMQ's own list of connections.
    pub(super) fn name(self) -> String {
        match self {
            Self::Publish(class) => format!("publish {}", class.as_str()),
            Self::Consume => "consume".to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LinkState {
    /// The first try has not ended yet.
    Connecting,
    Up,
    /// The text says why.
    Down(String),
    /// Publishes of this class were not confirmed, or all refused: a queue's trouble, which says nothing of other classes.
    Unconfirmed(String),
}

impl LinkState {
    fn why_not(&self) -> Option<String> {
        match self {
            Self::Up => None,
            Self::Connecting => Some("connecting to RabbitMQ".to_owned()),
            Self::Down(why) | Self::Unconfirmed(why) => Some(why.clone()),
        }
    }

    fn after(cause: ReconnectCause, why: String) -> Self {
        match cause {
            ReconnectCause::Unconfirmed => Self::Unconfirmed(why),
            ReconnectCause::Lost | ReconnectCause::Refused | ReconnectCause::Topology => Self::Down(why),
        }
    }
}

struct Outages {
    publishing: [LinkState; WorkClass::ALL.len()],
    consuming: LinkState,
    /// An alarm of the broker's memory or disk blocks every connection that publishes.
    blocked: [bool; WorkClass::ALL.len()],
    /// How the broker's objects differ from what they must be, while they do.
    mismatch: Option<String>,
}

impl Outages {
    fn link(&mut self, link: Link) -> &mut LinkState {
        match link {
            Link::Publish(class) => &mut self.publishing[class as usize],
            Link::Consume => &mut self.consuming,
        }
    }

    /// Why RabbitMQ counts as away. Where it was away, it is back when every connection is; a queue that does not confirm keeps
    /// only its own class away.
    fn publishing(&self) -> Option<String> {
        let is_own_trouble = |state: &LinkState| matches!(state, LinkState::Up | LinkState::Unconfirmed(_));
        if self.publishing.iter().all(is_own_trouble) && self.publishing.contains(&LinkState::Up) {
            return None;
        }
        // A reason says more than that a connection is being made.
        let known = self.publishing.iter().filter(|state| **state != LinkState::Connecting);
        known.chain(&self.publishing).find_map(LinkState::why_not)
    }
}

impl RabbitContext {
    pub(super) fn new(options: RabbitOptions) -> Self {
        let consumes = options.role != RabbitRole::Ingest;
        let outages = Outages {
            publishing: WorkClass::ALL.map(|_| LinkState::Connecting),
            consuming: if consumes { LinkState::Connecting } else { LinkState::Up },
            blocked: WorkClass::ALL.map(|_| false),
            mismatch: None,
        };
        let context = Self {
            options,
            state: watch::Sender::new(BrokerState::NotReady(String::new())),
            consuming: watch::Sender::new(None),
            declare_now: Notify::new(),
            publishing_again: Notify::new(),
            closing: CancellationToken::new(),
            stop: CancellationToken::new(),
            outages: Mutex::new(outages),
            started: Instant::now(),
            has_been_up: AtomicBool::new(false),
        };
        context.publish_state(&context.outages());
        context
    }

    pub(super) fn up(&self, link: Link) {
        tracing::info!(connection = link.name(), "broker.connected");
        self.has_been_up.store(true, Ordering::Relaxed);
        self.change(link, LinkState::Up);
        if link.role() == ConnectionRole::Publish {
            self.publishing_again.notify_waiters();
        }
    }

    pub(super) fn down(&self, link: Link, cause: ReconnectCause, why: &str) {
        self.blocked(link, false);
        self.change(link, LinkState::after(cause, format!("RabbitMQ is away: {why}")));
    }

    /// Records that a try or a connection failed; `tries` counts failures in a row.
    pub(super) fn faulty(&self, link: Link, cause: ReconnectCause, why: &str, tries: u32) {
        let connection = link.name();
        self.options.metrics.reconnect(link.role(), cause);
        match cause {
            ReconnectCause::Topology => {
                self.change(link, LinkState::Down(why.to_owned()));
                tracing::error!(connection, tries, "broker.topology: {why}");
            }
            ReconnectCause::Refused | ReconnectCause::Lost | ReconnectCause::Unconfirmed => {
                self.change(link, LinkState::after(cause, format!("RabbitMQ is away: {why}")));
                let is_starting = !self.has_been_up.load(Ordering::Relaxed) && self.started.elapsed() < STARTING;
                if is_starting && tries == 1 {
                    tracing::info!(connection, cause = cause.as_str(), "broker.not_there_yet: {why}; trying again");
                } else if tries == 1 || tries.is_multiple_of(REPORT_AGAIN) {
                    tracing::warn!(connection, cause = cause.as_str(), tries, "broker.away: {why}; trying again");
                }
            }
        }
    }

    pub(super) fn blocked(&self, link: Link, blocked: bool) {
        let mut outages = self.outages();
        match link {
            Link::Consume => self.options.metrics.blocked(link.role(), blocked),
            Link::Publish(class) => {
                if outages.blocked[class as usize] != blocked {
                    outages.blocked[class as usize] = blocked;
                    self.publish_state(&outages);
                }
                self.options.metrics.blocked(link.role(), outages.blocked.contains(&true));
            }
        }
    }

    /// Records how the broker's objects differ from what they must be; `None` if they don't.
    pub(super) fn mismatch(&self, words: Option<String>) {
        let mut outages = self.outages();
        if words.is_some() {
            // Each time, because the alert looks at the last minutes.
            self.options.metrics.reconnect(ConnectionRole::Publish, ReconnectCause::Topology);
        }
        if outages.mismatch == words {
            return;
        }
        if let Some(why) = &words {
            tracing::error!("broker.topology: {why}");
        }
        outages.mismatch = words;
        self.publish_state(&outages);
    }

    /// Why nothing can be done on this connection now.
    pub(super) fn why_not(&self, link: Link) -> String {
        let mut outages = self.outages();
        if let Link::Publish(class) = link
            && outages.blocked[class as usize]
        {
            return BLOCKED.to_owned();
        }
        outages.link(link).why_not().unwrap_or_default()
    }

    /// The classes of work that cannot be published although others can, each with the reason.
    pub(super) fn degraded(&self) -> Vec<String> {
        let outages = self.outages();
        if outages.publishing().is_some() {
            return Vec::new();
        }
        let classes = WorkClass::ALL.iter().zip(&outages.publishing);
        let down = classes.filter_map(|(class, state)| Some((class, state.why_not()?)));
        down.map(|(class, why)| format!("{} cannot be published: {why}", class.as_str())).collect()
    }

    fn change(&self, link: Link, state: LinkState) {
        let mut outages = self.outages();
        *outages.link(link) = state;
        self.publish_state(&outages);
    }

    fn publish_state(&self, outages: &Outages) {
        let away = outages.publishing().or_else(|| outages.consuming.why_not());
        let blocked = outages.blocked.contains(&true).then(|| BLOCKED.to_owned());
        self.options.metrics.connected.set(i64::from(away.is_none()));
        let why = away.or_else(|| outages.mismatch.clone()).or(blocked);
        let state = why.map_or(BrokerState::Ready, BrokerState::NotReady);
        self.state.send_if_modified(|current| {
            let changed = *current != state && !matches!(current, BrokerState::Failed(_));
            if changed {
                *current = state;
            }
            changed
        });
    }

    /// Reports that a task is gone without which nothing can be promised. Nothing withdraws this state.
    pub(super) fn failed(&self, reason: String) {
        self.options.metrics.connected.set(0);
        self.state.send_replace(BrokerState::Failed(reason));
    }

    fn outages(&self) -> MutexGuard<'_, Outages> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const BLOCKED: &str = "RabbitMQ takes no publishes: an alarm of its memory or disk blocks this connection";
