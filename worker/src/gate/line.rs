//! Whose call is next: opt-outs, then contacts and notes in turn, each in the order in which they came. Where several
//! processes share the destination, what may be called is asked of the store in advance (`pump`).

use std::collections::VecDeque;
use std::time::Duration;

use hookline_common::names::HandlerName;
use hookline_common::time::Timestamp;
use tokio::time::Instant;

use super::ration::{Ask, End, Ration, Reply, View};
use super::{Gate, in_time};
use crate::destinations::error::DestinationError;

/// Of the time that a turn is waited for in hand: as many deliveries are taken as have their turns within it.
const AHEAD: f64 = 0.25;
/// What was asked for in advance and not used by then is given back.
const UNUSED: Duration = Duration::from_secs(1);

/// Which calls of a destination go first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    #[default]
    OptOut,
    Contact,
    Note,
}

impl Priority {
    pub(super) const fn index(self) -> usize {
        match self {
            Self::OptOut => 0,
            Self::Contact => 1,
            Self::Note => 2,
        }
    }
}

impl From<HandlerName> for Priority {
    fn from(handler: HandlerName) -> Self {
        match handler {
            HandlerName::RecordOptOut | HandlerName::FlagOptOut => Self::OptOut,
            HandlerName::CreateContact | HandlerName::SyncContact => Self::Contact,
            HandlerName::LogNote | HandlerName::RecordHistory => Self::Note,
        }
    }
}

#[derive(Debug)]
pub(super) struct Line {
    /// Where this process is alone.
    ration: Ration,
    waiting: [VecDeque<u64>; 3],
    tickets: u64,
    /// Calls begun and not ended.
    out: i64,
    /// Given by the store in advance.
    pool: [i64; 3],
    pooled: Instant,
    pool_is_probe: bool,
    /// Not told to the store yet.
    ended: Vec<End>,
    begun: Begun,
    again: [Option<Instant>; 3],
    view: View,
    /// When the store's view was taken, on this process's clock.
    probed: Option<Instant>,
}

/// Calls begun in this quarter of a second and the one before.
#[derive(Debug)]
struct Begun {
    since: Instant,
    counts: [[i64; 3]; 2],
}

impl Begun {
    const SPAN: Duration = Duration::from_millis(250);

    fn counts(&mut self, now: Instant) -> &mut [[i64; 3]; 2] {
        let past = now.duration_since(self.since);
        if past >= Self::SPAN {
            self.counts = if past < Self::SPAN * 2 { [[0; 3], self.counts[0]] } else { [[0; 3]; 2] };
            self.since = now;
        }
        &mut self.counts
    }
}

impl Default for Line {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            ration: Ration::default(),
            waiting: Default::default(),
            tickets: 0,
            out: 0,
            pool: [0; 3],
            pooled: now,
            pool_is_probe: false,
            ended: Vec::new(),
            begun: Begun { since: now, counts: [[0; 3]; 2] },
            again: [None; 3],
            view: View::default(),
            probed: None,
        }
    }
}

impl Line {
    /// The priority whose turn it is, where this process is alone.
    fn next(&self) -> Option<Priority> {
        let waits = |place: usize| i64::try_from(self.waiting[place].len()).unwrap_or(i64::MAX);
        self.ration.next([waits(0), waits(1), waits(2)]).map(|(priority, _)| priority)
    }

    fn is_first(&self, ticket: &Ticket<'_>) -> bool {
        self.waiting[ticket.priority.index()].front() == Some(&ticket.number)
    }

    fn begin(&mut self, priority: Priority) {
        self.waiting[priority.index()].pop_front();
        self.out += 1;
        self.begun.counts(Instant::now())[0][priority.index()] += 1;
    }

    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }

    pub(super) fn view(&self) -> View {
        self.view
    }

    /// What to tell the store and to ask of it; `None`: nothing.
    pub(super) fn ask(&mut self, now: Instant) -> Option<Ask> {
        let is_unused = self.pool.iter().any(|calls| *calls > 0) && now.duration_since(self.pooled) > UNUSED;
        if is_unused {
            self.pool = [0; 3];
        }
        let recent = *self.begun.counts(now);
        let mut wants = [0; 3];
        for (place, want) in wants.iter_mut().enumerate() {
            let waiting = i64::try_from(self.waiting[place].len()).unwrap_or(i64::MAX);
            let ahead = recent[0][place].max(recent[1][place]).min(self.view.spare);
            let due = self.again[place].is_none_or(|again| again <= now) || place == 0;
            // Asked for again at half of what is used: not for each call.
            let enough = self.pool[place] > waiting + ahead / 2;
            *want = if enough || !due { 0 } else { (waiting + ahead - self.pool[place]).max(0) };
        }
        // While the breaker is open nobody here waits in line, and a probe that works elsewhere has to be heard of.
        if self.ended.is_empty() && wants == [0; 3] && !is_unused && !self.view.is_open {
            return None;
        }
        Some(Ask { ended: std::mem::take(&mut self.ended), out: self.out + self.pool.iter().sum::<i64>(), wants })
    }

    /// The store could not be asked.
    pub(super) fn not_told(&mut self, ask: Ask) {
        self.ended.splice(0..0, ask.ended);
        // Old answers say nothing any more.
        let surplus = self.ended.len().saturating_sub(1000);
        self.ended.drain(..surplus);
    }

    /// Takes the store's reply, whose times are on this process's clock.
    pub(super) fn told(&mut self, ask: &Ask, reply: &Reply, now: Instant, now_ms: i64) {
        let at = |ms: i64| now + Duration::from_millis(u64::try_from(ms - now_ms).unwrap_or(0));
        if self.view.is_open && !reply.view.is_open {
            // Until the next probe, they said.
            self.again = [None; 3];
        }
        for (place, calls) in reply.calls.into_iter().enumerate() {
            self.pool[place] += calls;
            if ask.wants[place] > 0 {
                self.again[place] = (calls < ask.wants[place]).then(|| at(reply.again_ms));
            }
        }
        if reply.calls != [0; 3] {
            self.pooled = now;
            self.pool_is_probe = reply.is_probe;
        }
        self.view = reply.view;
        self.probed = reply.view.probed_ms.map(at);
    }
}

/// A place in the line; left when it is dropped.
struct Ticket<'a> {
    gate: &'a Gate,
    priority: Priority,
    number: u64,
}

impl<'a> Ticket<'a> {
    fn draw(gate: &'a Gate, priority: Priority) -> Self {
        let mut line = gate.line();
        line.tickets += 1;
        let number = line.tickets;
        line.waiting[priority.index()].push_back(number);
        Self { gate, priority, number }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut line = self.gate.line();
        let waiting = &mut line.waiting[self.priority.index()];
        let before = waiting.len();
        waiting.retain(|number| *number != self.number);
        if waiting.len() < before && line.is_waited_for() {
            drop(line);
            self.gate.changed.notify_waiters();
        }
    }
}

/// Leave to make one call, as far as budget and breaker go. Dropped without an end: the call was not made.
pub(super) struct Slot<'a> {
    gate: &'a Gate,
    pub(super) is_probe: bool,
    has_ended: bool,
}

impl Slot<'_> {
    /// Tells how the call ended.
    pub(super) fn end(mut self, end: End) {
        self.has_ended = true;
        self.gate.ended(Some(end));
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.gate.ended(None);
        }
    }
}

enum Taken {
    Yes { is_probe: bool },
    NotBefore(Instant),
}

impl Gate {
    /// Waits for a call's turn, but not for long.
    pub(super) async fn slot(&self, priority: Priority) -> Result<Slot<'_>, DestinationError> {
        let deadline = Instant::now() + self.in_hand();
        let ticket = Ticket::draw(self, priority);
        loop {
            let changed = self.changed.notified();
            let again = match self.held_until(deadline)? {
                Some(until) => until,
                None => match self.try_take(&ticket) {
                    Taken::Yes { is_probe } => return Ok(Slot { gate: self, is_probe, has_ended: false }),
                    Taken::NotBefore(again) => again,
                },
            };
            if again > deadline || Instant::now() >= deadline {
                return Err(self.closed(again, "its turn is not yet"));
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(again) => {}
            }
        }
    }

    fn try_take(&self, ticket: &Ticket<'_>) -> Taken {
        let now = Instant::now();
        let mut line = self.line();
        let place = ticket.priority.index();
        if self.is_shared() {
            if line.pool[place] > 0 && line.is_first(ticket) {
                line.pool[place] -= 1;
                line.begin(ticket.priority);
                let is_probe = std::mem::take(&mut line.pool_is_probe);
                if line.pool[place] > 0 && !line.waiting[place].is_empty() {
                    drop(line);
                    self.changed.notify_waiters();
                }
                return Taken::Yes { is_probe };
            }
            let again = line.again[place].filter(|again| *again > now);
            drop(line);
            self.wanted.notify_one();
            return Taken::NotBefore(again.unwrap_or(now + Duration::from_millis(100)));
        }
        if line.next() != Some(ticket.priority) || !line.is_first(ticket) {
            // Woken when whoever is before it goes.
            return Taken::NotBefore(now + Duration::from_secs(1));
        }
        let mut ask = Ask { out: line.out, ..Ask::default() };
        ask.wants[place] = 1;
        let now_ms = self.now_ms();
        let reply = line.ration.exchange(now_ms, "", &ask, self.pacing());
        line.view = reply.view;
        if reply.calls[place] == 0 {
            let wait = u64::try_from(reply.again_ms - now_ms).unwrap_or(0).max(1);
            return Taken::NotBefore(now + Duration::from_millis(wait));
        }
        line.begin(ticket.priority);
        if line.is_waited_for() {
            drop(line);
            self.changed.notify_waiters();
        }
        Taken::Yes { is_probe: reply.is_probe }
    }

    /// A call has ended, or was not made.
    fn ended(&self, end: Option<End>) {
        let mut line = self.line();
        line.out -= 1;
        if self.is_shared() {
            line.ended.extend(end);
            drop(line);
            self.wanted.notify_one();
            return;
        }
        let ask = Ask { ended: end.into_iter().collect(), out: line.out, ..Ask::default() };
        let reply = line.ration.exchange(self.now_ms(), "", &ask, self.pacing());
        line.view = reply.view;
        if line.is_waited_for() {
            drop(line);
            self.changed.notify_waiters();
        }
    }

    /// How long not to take deliveries whose calls have this priority: they can wait in their queue. `None`: take them.
    #[must_use]
    pub fn no_room_for(&self, priority: Priority) -> Option<Duration> {
        let now = Instant::now();
        if let Some(until) = self.open_at() {
            return Some(until.since(Timestamp::now()));
        }
        let mut line = self.line();
        let place = priority.index();
        let until = if self.is_shared() {
            line.probed.filter(|_| line.view.is_open).max(line.again[place])
        } else {
            let now_ms = self.now_ms();
            line.view = line.ration.view(now_ms);
            let held = line.ration.held_until(now_ms, priority, self.pacing());
            held.map(|until| now + Duration::from_millis(u64::try_from(until - now_ms).unwrap_or(0)))
        };
        let wait = until.map(|until| until.saturating_duration_since(now)).unwrap_or_default();
        if (line.view.is_open && !wait.is_zero()) || wait > self.in_hand() {
            return Some(wait);
        }
        // One that has its turn soon, of whatever rate.
        #[expect(clippy::cast_precision_loss, reason = "processes are few")]
        let rate = line.view.per_second.unwrap_or(1000.0) / line.view.askers.max(1) as f64;
        #[expect(clippy::cast_precision_loss, reason = "those that wait are few")]
        let is_crowded = line.waiting[place].len() as f64 >= (rate * self.in_hand().as_secs_f64() * AHEAD).max(1.0);
        is_crowded.then_some(Duration::from_millis(20))
    }

    /// Until when the breaker holds calls, where it is open.
    pub(super) fn broken_until(&self) -> Option<Timestamp> {
        let line = self.line();
        if !line.view.is_open {
            return None;
        }
        let wait = if self.is_shared() {
            line.probed.map(|probed| probed.saturating_duration_since(Instant::now()))
        } else {
            line.view.probed_ms.and_then(|at| u64::try_from(at - self.now_ms()).ok()).map(Duration::from_millis)
        };
        Some(in_time(wait.unwrap_or_default()))
    }

    pub(super) fn closed(&self, again: Instant, why: &str) -> DestinationError {
        let wait = again.saturating_duration_since(Instant::now());
        let why = if self.line().view.is_open { "it fails; one probe at a time is let through" } else { why };
        // Apart, so that they do not come back together.
        let wait = wait.max(Duration::from_millis(500)) + Duration::from_millis(rand::random_range(0..500));
        DestinationError::GateClosed {
            until: in_time(wait),
            why: format!("calls to {} are held: {why}", self.destination),
        }
    }
}
