//! The back-fill of notes: puts texts of the history that no thread has into their threads, finds out what of each thread
//! the system of record lacks, and writes that.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::bail;
use hookline_common::event::EventId;
use hookline_common::settings::{Settings, SystemOfRecordKind};
use hookline_common::time::Timestamp;
use hookline_store::Store;
use hookline_store::model::{Thread, ThreadFacts, ThreadMessage, ThreadStand};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::lanes::{Step, work_off};
use super::{LANES, Left, Progress, Tools, Tried, estimate};
use crate::delivery::handler::HandlerError;
use crate::handlers::log_note::fill::{FillNotes, Filled, Text};
use crate::handlers::log_note::writer::Due;

/// Threads and events that are read at once. A text may be as long as a webhook may be.
const PAGE: u32 = 50;
/// An event is received at most this long before the local day of its text begins: clocks and time zones differ.
const BEFORE: Duration = Duration::from_hours(48);

/// Lanes that wait until another has found its person. The others write notes meanwhile.
const SEEKERS: usize = 3;
/// How soon a thread comes again that finds too many of these.
const SEEK_AGAIN: Duration = Duration::from_millis(500);

/// The back-fill of notes.
pub struct NotesSync {
    tools: Tools,
    fill: FillNotes,
    since: String,
    people: People,
}

/// People are looked for one after the other. A search that is held is repeated with the calls before it, so that several
/// at once would cost more calls, and be no faster.
struct People {
    one: Semaphore,
    seekers: Semaphore,
    /// Those whose person is linked by now.
    known: Mutex<HashSet<String>>,
}

/// What there is to write.
#[derive(Default)]
pub struct NotesPlan {
    /// Threads since the day.
    pub threads: u64,
    /// Threads that the system of record has as they are.
    pub unchanged: u64,
    /// Notes to create and to change.
    pub new: u64,
    pub changed: u64,
    /// Texts that no thread had.
    pub filed: u64,
    /// Texts whose payload does not tell whose they are, or what they say.
    pub not_told: u64,
    /// Threads with an expired message, which cannot be written whole any more.
    pub expired: u64,
    /// About so many calls, and how long they take; `None` if nothing says how fast calls may be made.
    pub calls: u64,
    pub takes: Option<Duration>,
    /// Threads whose text cannot be made.
    pub left: Vec<Left>,
    /// What the cost consists of.
    people: HashSet<String>,
    /// The threads to write, by person, oldest first.
    groups: BTreeMap<String, VecDeque<Item>>,
}

/// A text that no thread has, without what it says: a history may hold more texts than fit into memory.
struct Loose {
    /// The hash of the message's id.
    message: [u8; 32],
    event_id: EventId,
    has_not_failed: bool,
    event_time: Timestamp,
}

impl Loose {
    fn of(message: &ThreadMessage) -> Self {
        let (has_not_failed, event_time, _) = message.rank();
        let hash = Sha256::digest(message.message_id.as_bytes()).into();
        Self { message: hash, event_id: message.event_id.clone(), has_not_failed, event_time }
    }

    /// Orders copies of one message as [`ThreadMessage::rank`] does.
    fn rank(&self) -> (bool, Timestamp, &str) {
        (self.has_not_failed, self.event_time, self.event_id.as_str())
    }
}

struct Item {
    thread_id: String,
    whose: String,
    tries: u32,
}

/// What was written.
#[derive(Default)]
pub struct NotesWritten {
    /// Threads that were written.
    pub threads: u64,
    /// Notes that were created or changed.
    pub notes: u64,
    /// Threads of nobody whom the system of record knows, where `on_unknown_contact` is `skip`.
    pub skipped: u64,
    pub left: Vec<Left>,
    pub calls: u64,
    /// Why the rest was not tried.
    pub stopped: Option<String>,
}

impl NotesPlan {
    /// Returns how many threads have to be written.
    #[must_use]
    pub fn to_write(&self) -> u64 {
        self.groups.values().map(|group| group.len() as u64).sum()
    }
}

impl NotesSync {
    /// `since` is a local day: `2026-11-02`.
    ///
    /// # Errors
    /// When the system of record is the built-in one, or a client cannot be built.
    pub async fn new(settings: &Settings, store: Store, since: &str) -> anyhow::Result<Self> {
        if settings.system_of_record.kind == SystemOfRecordKind::Builtin {
            bail!("the built-in system of record is part of the store and lacks nothing that the store knows");
        }
        let (tools, textus) = Tools::new(settings, store).await?;
        let fill = FillNotes::new(settings, (tools.store.clone(), &tools.records), textus)?;
        let people = People { one: Semaphore::new(1), seekers: Semaphore::new(SEEKERS), known: Mutex::default() };
        Ok(Self { tools, fill, since: since.to_owned(), people })
    }

    /// Makes sure that calls can be made.
    ///
    /// # Errors
    /// When the destination is paused or refuses the credentials.
    pub async fn begin(&self) -> anyhow::Result<()> {
        self.tools.begin().await
    }

    /// Finds out what there is to write. Puts texts of the history into their threads, unless this is a `trial`, which
    /// changes nothing.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn plan(&self, trial: bool) -> anyhow::Result<NotesPlan> {
        let mut plan = NotesPlan::default();
        let loose = self.loose_texts(&mut plan, trial).await?;
        let mut seen = HashSet::new();
        if trial {
            for (facts, texts) in loose {
                let events: Vec<EventId> = texts.into_iter().map(|text| text.event_id).collect();
                let messages = self.fill.read_again(&events).await?;
                if messages.is_empty() {
                    continue;
                }
                let stand = self.tools.store.open_stand(self.tools.records.name(), &facts).await?;
                let stand = with_messages(stand, facts, messages);
                seen.insert(stand.thread.thread_id.clone());
                self.look_at(&stand, &mut plan).await?;
            }
        }
        let mut cursor = None;
        loop {
            let system = self.tools.records.name();
            let page = self.tools.store.threads_since(system, &self.since, PAGE, cursor.as_deref()).await?;
            for stand in page.rows.iter().filter(|stand| !seen.contains(&stand.thread.thread_id)) {
                self.look_at(stand, &mut plan).await?;
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let cost = self.tools.records.cost();
        let people = plan.people.len() as u64;
        plan.calls = plan.new * cost.new_note + plan.changed * cost.changed_note + people * cost.person;
        let gates = self.tools.store.gates().await?;
        plan.takes = estimate::time_for(plan.calls, people * cost.person_searches, cost, &gates);
        Ok(plan)
    }

    /// Writes what the plan says, and calls `progress` after each thread. Another run goes on where this one ends,
    /// however it does.
    pub async fn run(
        &self,
        plan: NotesPlan,
        stop: &CancellationToken,
        progress: impl Fn(Progress<'_>),
    ) -> NotesWritten {
        let written = Mutex::new(NotesWritten { left: plan.left, ..NotesWritten::default() });
        let change =
            |with: &dyn Fn(&mut NotesWritten)| with(&mut written.lock().unwrap_or_else(PoisonError::into_inner));
        let groups = plan.groups.into_values().collect();
        let strangers = plan.people;
        let work = work_off(groups, LANES, stop, async |item: &mut Item| {
            let is_known = |whose: &str| {
                !strangers.contains(whose)
                    || self.people.known.lock().unwrap_or_else(PoisonError::into_inner).contains(whose)
            };
            let mut turn = None;
            if !is_known(&item.whose) {
                let Ok(seeker) = self.people.seekers.try_acquire() else {
                    return Step::Again(Timestamp::now().plus(SEEK_AGAIN));
                };
                turn = Some((seeker, self.people.one.acquire().await));
            }
            let tried = self.write(&item.thread_id).await;
            drop(turn);
            if tried.is_ok() {
                let mut known = self.people.known.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(item.whose.clone());
            }
            match self.tools.tried(tried, &mut item.tries) {
                Tried::Done(Filled::Written(0)) => {}
                Tried::Done(Filled::Written(notes)) => change(&|written| {
                    written.threads += 1;
                    written.notes += notes as u64;
                }),
                Tried::Done(Filled::Skipped) => change(&|written| written.skipped += 1),
                Tried::Again(at) => return Step::Again(at),
                Tried::Left(reason, detail) => change(&|written| {
                    written.left.push(Left { what: item.thread_id.clone(), reason, detail: detail.clone() });
                }),
                Tried::Stop(why) => {
                    change(&|written| written.stopped = Some(why.clone()));
                    stop.cancel();
                    // Not done, and not tried again in this run.
                    return Step::Again(Timestamp::now());
                }
            }
            self.tools.held.done();
            progress(Progress::Done);
            Step::Done
        });
        tokio::select! {
            () = work => {}
            () = self.tools.held.watch(&progress) => {}
        }
        let mut written = written.into_inner().unwrap_or_else(PoisonError::into_inner);
        written.calls = self.tools.calls.load(Ordering::Relaxed);
        written
    }

    async fn write(&self, thread_id: &str) -> Result<Filled, HandlerError> {
        let owner = self.tools.next_owner();
        let mut made = None;
        let filled = self
            .fill
            .write(thread_id, &owner, |about| {
                let calls = self.tools.call_log(about);
                made = Some(calls.clone());
                calls
            })
            .await;
        if let Some(calls) = &made {
            self.tools.count(calls);
        }
        filled
    }

    /// Returns the texts that no thread has by thread, or puts them into their threads unless this is a `trial`.
    async fn loose_texts(
        &self,
        plan: &mut NotesPlan,
        trial: bool,
    ) -> anyhow::Result<BTreeMap<ThreadFacts, Vec<Loose>>> {
        let mut loose: BTreeMap<ThreadFacts, Vec<Loose>> = BTreeMap::new();
        let midnight = Timestamp::parse(&format!("{}T00:00:00Z", self.since)).unwrap_or(Timestamp::EPOCH);
        let mut cursor = None;
        loop {
            let page = self.tools.store.texts_without_thread(midnight.minus(BEFORE), PAGE, cursor.as_deref()).await?;
            for event in &page.rows {
                let (facts, message) = match self.fill.read(event).await? {
                    Text::Of(text) => *text,
                    Text::NotTold => {
                        plan.not_told += 1;
                        continue;
                    }
                    Text::Nothing => continue,
                };
                if facts.day < self.since {
                    continue;
                }
                if !trial {
                    plan.filed += 1;
                    self.fill.file(facts, message).await?;
                    continue;
                }
                let (text, texts) = (Loose::of(&message), loose.entry(facts).or_default());
                match texts.iter_mut().find(|known| known.message == text.message) {
                    Some(known) if text.rank() > known.rank() => *known = text,
                    Some(_) => {}
                    None => {
                        plan.filed += 1;
                        texts.push(text);
                    }
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(loose);
            }
        }
    }

    async fn look_at(&self, stand: &ThreadStand, plan: &mut NotesPlan) -> anyhow::Result<()> {
        let thread = &stand.thread;
        plan.threads += 1;
        if stand.is_closed {
            plan.expired += u64::from(stand.parts.is_empty());
            return Ok(());
        }
        let due = match self.fill.due(stand) {
            Ok(due) => due,
            Err(error) => {
                if let HandlerError::GiveUp { reason, detail, .. } = error {
                    plan.left.push(Left { what: thread.thread_id.clone(), reason, detail });
                }
                return Ok(());
            }
        };
        if due == Due::default() || thread.messages.is_empty() {
            plan.unchanged += 1;
            return Ok(());
        }
        plan.new += due.new as u64;
        plan.changed += due.changed as u64;
        let whose = thread.phone.as_ref().or(thread.contact_id.as_ref()).cloned().unwrap_or_default();
        if self.fill.known_person(thread).await?.is_none() {
            plan.people.insert(whose.clone());
        }
        let item = Item { thread_id: thread.thread_id.clone(), whose: whose.clone(), tries: 0 };
        plan.groups.entry(whose).or_default().push_back(item);
        Ok(())
    }
}

/// Returns a thread as it would be with these messages.
fn with_messages(stand: Option<ThreadStand>, facts: ThreadFacts, messages: Vec<ThreadMessage>) -> ThreadStand {
    let mut stand = stand.unwrap_or_else(|| ThreadStand {
        thread: Thread {
            thread_id: String::new(),
            account: facts.account,
            phone: facts.phone,
            contact_id: facts.contact_id,
            business_number: facts.business_number,
            day: facts.day,
            messages: Vec::new(),
        },
        is_closed: false,
        parts: Vec::new(),
    });
    let all = &mut stand.thread.messages;
    all.extend(messages);
    all.sort_by(|a, b| (a.occurred_at, &a.message_id).cmp(&(b.occurred_at, &b.message_id)));
    stand
}
