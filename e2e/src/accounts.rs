//! Accounts for accepted events by their ids: per handler that takes its type, an event is in exactly one state. The
//! accounts are read from what an operator reads (`events list`, `status --ids` and `status`), and compared with each
//! other and with the answers that the sender got. Nothing is subtracted.

use std::collections::{BTreeMap, BTreeSet};

use crate::commands::Commands;

pub const HANDLERS: [&str; 6] =
    ["record_opt_out", "flag_opt_out", "log_note", "create_contact", "sync_contact", "record_history"];
pub const STATES: [&str; 5] = ["waiting", "done", "skipped", "dead_lettered", "discarded"];

/// Returns the handlers that take an event type. The list is repeated here on purpose, so that a mistake in the code
/// under test shows.
#[must_use]
pub fn handlers_of(event_type: &str) -> &'static [&'static str] {
    match event_type {
        "contact.opted_out" | "contact.opted_in" => &["flag_opt_out", "record_history", "record_opt_out"],
        "message.received" | "message.delivered" | "message.failed" => &["log_note", "record_history"],
        "contact.created" => &["create_contact", "record_history", "sync_contact"],
        _ => &["record_history"],
    }
}

/// The handlers that take a text consisting only of a stop keyword, or only of a keyword that asks for texts again.
pub const KEYWORD_HANDLERS: [&str; 4] = ["flag_opt_out", "log_note", "record_history", "record_opt_out"];

/// The accounts that the history gives.
#[derive(Clone, Debug)]
pub struct Accounts {
    /// Event ids with their types.
    pub events: BTreeMap<String, String>,
    /// The ids of texts that consist of a keyword alone.
    pub keywords: BTreeSet<String>,
    /// The event ids per handler and state.
    pub deliveries: BTreeMap<(String, String), BTreeSet<String>>,
    /// Why a delivery is skipped, dead-lettered or discarded, per event id and handler.
    pub reasons: BTreeMap<(String, String), String>,
}

impl Accounts {
    /// Reads the lists and checks that they agree.
    ///
    /// # Panics
    /// If an event is missing, appears twice, or is in two states of one handler, or if a count is not the size of its
    /// set.
    pub(crate) async fn read(commands: &Commands) -> Self {
        let mut accounts = Self {
            events: BTreeMap::new(),
            keywords: BTreeSet::new(),
            deliveries: BTreeMap::new(),
            reasons: BTreeMap::new(),
        };
        for row in commands.rows(&["events", "list"], "events").await {
            let text = |key: &str| row[key].as_str().expect("a text").to_owned();
            let (id, event_type) = (text("event_id"), text("event_type"));
            let mut handlers = Vec::new();
            for delivery in row["deliveries"].as_array().expect("deliveries") {
                let text = |key: &str| delivery[key].as_str().unwrap_or_default().to_owned();
                let (handler, state) = (text("handler"), text("state"));
                if let Some(reason) = delivery["reason"].as_str() {
                    accounts.reasons.insert((id.clone(), handler.clone()), reason.to_owned());
                }
                accounts.deliveries.entry((handler.clone(), state)).or_default().insert(id.clone());
                handlers.push(handler);
            }
            handlers.sort();
            if event_type == "message.received" && handlers == KEYWORD_HANDLERS {
                accounts.keywords.insert(id.clone());
            } else {
                assert_eq!(handlers, handlers_of(&event_type), "each handler of {event_type} once: {id}");
            }
            assert_eq!(accounts.events.insert(id.clone(), event_type), None, "{id} is listed twice");
        }
        accounts.agree_with_status(commands).await;
        accounts
    }

    async fn agree_with_status(&self, commands: &Commands) {
        let status = commands.json(&["status"]).await;
        for handler in HANDLERS {
            let counts = status["handlers"].as_array().expect("handlers");
            let counts = counts.iter().find(|counts| counts["handler"] == handler).expect("every handler");
            let mut all = BTreeSet::new();
            for state in STATES {
                let listed = commands.cli(&["status", "--ids", handler, "--state", state]).await;
                let listed: BTreeSet<String> = listed.stdout.lines().map(str::to_owned).collect();
                assert_eq!(&listed, self.of(handler, state), "{handler} {state}");
                assert_eq!(counts[state], listed.len(), "{handler} {state}");
                for id in listed {
                    assert!(all.insert(id.clone()), "{handler}: {id} is in two states");
                }
            }
            assert_eq!(counts["accepted"], all.len(), "{handler}");
            let is_keyword = |id: &String| self.keywords.contains(id) && KEYWORD_HANDLERS.contains(&handler);
            let takes = |(id, kind): &(&String, &String)| is_keyword(id) || handlers_of(kind).contains(&handler);
            let expected = self.events.iter().filter(takes);
            assert_eq!(all, expected.map(|(id, _)| id.clone()).collect(), "{handler}");
        }
    }

    /// Returns the event ids in one state of a handler.
    #[must_use]
    pub fn of(&self, handler: &str, state: &str) -> &BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        self.deliveries.get(&(handler.to_owned(), state.to_owned())).unwrap_or(&NONE)
    }

    /// Returns how one event ended at a handler, for example `done` or `skipped: echo`.
    ///
    /// # Panics
    /// If the handler does not take the event.
    #[must_use]
    pub fn ending(&self, id: &str, handler: &str) -> String {
        let state = STATES.iter().find(|state| self.of(handler, state).contains(id)).expect("the handler takes it");
        match self.reasons.get(&(id.to_owned(), handler.to_owned())) {
            Some(reason) => format!("{state}: {reason}"),
            None => (*state).to_owned(),
        }
    }

    /// Asserts that every accepted event is here with its type, and that the other events are `echoes` of our own
    /// writes.
    ///
    /// # Panics
    /// If an event is missing or there are more.
    pub fn hold(&self, accepted: &BTreeMap<String, String>, echoes: u64) {
        for (id, event_type) in accepted {
            assert_eq!(self.events.get(id), Some(event_type), "{id} was accepted");
        }
        let others = self.events.keys().filter(|id| !accepted.contains_key(*id)).count();
        assert_eq!(others as u64, echoes, "events that nobody sent");
        for state in ["waiting", "dead_lettered", "discarded"] {
            for handler in HANDLERS {
                assert_eq!(self.of(handler, state), &BTreeSet::new(), "{handler} {state}");
            }
        }
    }
}
