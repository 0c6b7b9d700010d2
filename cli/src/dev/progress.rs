//! Follows events through the progress feed and describes each in one or two lines that a newcomer understands.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use hookline_broker::topology;
use hookline_common::event::{EventId, EventType};
use hookline_common::names::{HandlerName, Verdict};
use hookline_common::service::telemetry::progress::Milestone;

/// The events that are under way, and the totals of those that ended.
pub(crate) struct Progress {
    enabled: Vec<HandlerName>,
    under_way: HashMap<EventId, Travelling>,
    /// Events that have ended. Their repeats must not be counted again.
    arrived: HashSet<EventId>,
    pub(crate) sums: BTreeMap<Verdict, u64>,
}

struct Travelling {
    event_type: EventType,
    acknowledged_in: Option<Duration>,
    ends: BTreeMap<HandlerName, End>,
}

struct End {
    verdict: Verdict,
    words: String,
}

impl Progress {
    pub(crate) fn new(enabled: Vec<HandlerName>) -> Self {
        Self { enabled, under_way: HashMap::new(), arrived: HashSet::new(), sums: BTreeMap::new() }
    }

    /// Returns how many events that were acknowledged in this run are not settled yet. Events left by an earlier run
    /// don't count.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.values().filter(|travelling| travelling.acknowledged_in.is_some()).count()
    }

    pub(crate) fn has_ended(&self, event_id: &EventId) -> bool {
        self.arrived.contains(event_id)
    }

    /// Returns how many events have ended.
    pub(crate) fn ended(&self) -> usize {
        self.arrived.len()
    }

    /// Records a milestone and returns the lines that describe it.
    pub(crate) fn take(&mut self, milestone: Milestone) -> Vec<String> {
        match milestone {
            Milestone::Accepted { event_id, event_type, duplicate: true, .. } => {
                vec![format!("{event_type}  {event_id}  seen before: acknowledged, nothing done twice")]
            }
            Milestone::Accepted { event_id, event_type, took, .. } => {
                self.travelling(&event_id, &event_type).acknowledged_in = Some(took);
                self.report_if_ended(&event_id)
            }
            Milestone::Settled { event_id, event_type, handler, verdict, reason, steps, attempt, .. } => {
                let words = in_words(verdict, reason.as_deref(), &steps);
                match verdict {
                    Verdict::Parked => vec![format!("{event_type}  {event_id}  {handler}: attempt {attempt} {words}")],
                    Verdict::Released => Vec::new(),
                    // This is a redriven delivery whose event was already reported.
                    _ if self.arrived.contains(&event_id) => {
                        vec![format!("{event_type}  {event_id}  {handler} {words}")]
                    }
                    Verdict::Done | Verdict::Skipped | Verdict::DeadLettered => {
                        self.travelling(&event_id, &event_type).ends.insert(handler, End { verdict, words });
                        self.report_if_ended(&event_id)
                    }
                }
            }
        }
    }

    fn travelling(&mut self, event_id: &EventId, event_type: &EventType) -> &mut Travelling {
        self.under_way.entry(event_id.clone()).or_insert_with(|| Travelling {
            event_type: event_type.clone(),
            acknowledged_in: None,
            ends: BTreeMap::new(),
        })
    }

    fn report_if_ended(&mut self, event_id: &EventId) -> Vec<String> {
        let Some(travelling) = self.under_way.get(event_id) else { return Vec::new() };
        let complete = self
            .enabled
            .iter()
            .filter(|handler| topology::takes(**handler, &travelling.event_type))
            .all(|handler| travelling.ends.contains_key(handler));
        // A redriven delivery has no new acknowledgement; the event's other handlers ended long ago.
        if !complete || travelling.acknowledged_in.is_none() {
            return Vec::new();
        }
        let Some(travelling) = self.under_way.remove(event_id) else { return Vec::new() };
        self.arrived.insert(event_id.clone());
        for end in travelling.ends.values() {
            *self.sums.entry(end.verdict).or_default() += 1;
        }
        travelling.report(event_id)
    }
}

impl Travelling {
    fn report(&self, event_id: &EventId) -> Vec<String> {
        let took = self.acknowledged_in.unwrap_or_default();
        let mut first = format!("{}  {event_id}  stored and acknowledged in {:.1} ms", self.event_type, millis(took));
        let mut second = String::new();
        for (handler, end) in &self.ends {
            // Every event is recorded in the history, so only a failure to do so is worth a mention.
            if *handler == HandlerName::RecordHistory && end.verdict == Verdict::Done {
                continue;
            }
            let separator = if second.is_empty() { "    " } else { "; " };
            let _ = write!(second, "{separator}{handler} {}", end.words);
        }
        if second.is_empty() {
            first.push_str("; kept in the history, nothing else to do");
            return vec![first];
        }
        vec![first, second]
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn in_words(verdict: Verdict, reason: Option<&str>, steps: &[String]) -> String {
    let steps = if steps.is_empty() { String::new() } else { format!(" ({})", steps.join(", ")) };
    match verdict {
        Verdict::Done => format!("done{steps}"),
        Verdict::Skipped => format!("skipped: {}{steps}", explain(reason.unwrap_or_default())),
        Verdict::Parked => format!("{}{steps}", reason.unwrap_or("waits")),
        Verdict::DeadLettered => format!("dead-lettered: {}{steps}", reason.unwrap_or_default()),
        Verdict::Released => "given back".to_owned(),
    }
}

/// Explains a skip reason to a newcomer. The reason itself comes first, as lists and metrics show it.
fn explain(reason: &str) -> String {
    let words = match reason {
        "duplicate" => "this was done before, for another webhook about the same thing",
        "echo" => "this webhook was caused by our own call",
        "no_action" => "it asks for none (START as a text alone, or a text that no person sent)",
        "stale" => "a newer opt-in or opt-out is known",
        "unchanged" => "the record says so already",
        "already_done" => "it is there already",
        "unknown_contact" => "nobody has this phone in the system of record",
        "opt_in" => "recorded in the ledger; no call is needed",
        _ => return reason.to_owned(),
    };
    format!("{reason}, {words}")
}

#[cfg(test)]
mod tests {
    use hookline_common::event::SourceName;

    use super::*;

    fn settled(event_id: &EventId, handler: HandlerName, verdict: Verdict, steps: &[&str]) -> Milestone {
        Milestone::Settled {
            event_id: event_id.clone(),
            event_type: EventType::new("message.received"),
            handler,
            verdict,
            reason: None,
            steps: steps.iter().map(|step| (*step).to_owned()).collect(),
            attempt: 1,
            took: Duration::from_millis(3),
        }
    }

    #[test]
    fn a_journey_is_told_once_when_every_handler_has_ended_whatever_comes_first() {
        let source = SourceName::new("textus").expect("a name");
        let id = EventId::derive(&source, Some("a"), b"");
        let mut progress = Progress::new(HandlerName::ALL.to_vec());

        let early = progress.take(settled(&id, HandlerName::RecordHistory, Verdict::Done, &[]));
        let accepted = progress.take(Milestone::Accepted {
            event_id: id.clone(),
            event_type: EventType::new("message.received"),
            duplicate: false,
            took: Duration::from_millis(2),
        });
        assert!(early.is_empty() && accepted.is_empty());
        assert_eq!(progress.under_way(), 1);
        let last = progress.take(settled(&id, HandlerName::LogNote, Verdict::Done, &["GET /messages/x → 200"]));

        assert_eq!(last.len(), 2);
        assert!(last[1].contains("log_note done (GET /messages/x → 200)"), "{last:?}");
        assert!(progress.has_ended(&id));
        assert_eq!(progress.sums.get(&Verdict::Done), Some(&2));
    }
}
