//! The back-fill of opt-outs: what is known of each number goes onto every record that has it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use hookline_common::event::{Event, EventId, EventType, SourceName};
use hookline_common::phone::Phone;
use hookline_common::settings::{Settings, SystemOfRecordKind};
use hookline_common::time::Timestamp;
use hookline_store::{Store, StoreError};
use tokio_util::sync::CancellationToken;

use super::lanes::{Step, work_off};
use super::{LANES, Left, Progress, Tools, Tried, estimate};
use crate::delivery::handler::{Attempt, HandlerError};
use crate::handlers::flag_opt_out::{Flagged, flag_known};

/// A back-fill that was interrupted longer ago begins anew: what is known of the numbers before its place may be other
/// by now.
const GOES_ON_WITHIN: Duration = Duration::from_hours(24);

/// The back-fill of opt-outs.
pub struct OptOutsSync {
    tools: Tools,
    /// What its progress is recorded as.
    name: String,
}

/// What there is to look at.
pub struct OptOutsPlan {
    /// Numbers with a known state, and how many of them an interrupted run did.
    pub numbers: u64,
    pub done_before: u64,
    /// Calls if each number is on one record, and how long they take; `None` if nothing says how fast they may be made.
    pub calls: u64,
    pub takes: Option<Duration>,
    phones: Vec<Phone>,
}

/// What was written.
#[derive(Default)]
pub struct OptOutsWritten {
    /// Records whose flag or dates changed.
    pub flagged: u64,
    /// Numbers whose records had the state already.
    pub unchanged: u64,
    /// Numbers that no record has.
    pub unknown: u64,
    pub left: Vec<Left>,
    pub calls: u64,
    /// Why the rest was not tried.
    pub stopped: Option<String>,
}

struct Item {
    number: usize,
    phone: Phone,
    tries: u32,
}

/// Which numbers are done: all before the first that isn't need not be looked at again.
#[derive(Default)]
struct Done {
    up_to: usize,
    beyond: BTreeSet<usize>,
}

impl Done {
    /// Notes a number. Returns how many are done in their order, if that rose.
    fn note(&mut self, number: usize) -> Option<usize> {
        self.beyond.insert(number);
        let before = self.up_to;
        while self.beyond.remove(&self.up_to) {
            self.up_to += 1;
        }
        (self.up_to > before).then_some(self.up_to)
    }
}

impl OptOutsSync {
    /// # Errors
    /// When the system of record is the built-in one, or a client cannot be built.
    pub async fn new(settings: &Settings, store: Store) -> anyhow::Result<Self> {
        if settings.system_of_record.kind == SystemOfRecordKind::Builtin {
            bail!("the built-in system of record is part of the store and lacks nothing that the store knows");
        }
        let (tools, _textus) = Tools::new(settings, store).await?;
        let name = format!("opt_outs {}", tools.records.name());
        Ok(Self { tools, name })
    }

    /// Makes sure that calls can be made.
    ///
    /// # Errors
    /// When the destination is paused or refuses the credentials.
    pub async fn begin(&self) -> anyhow::Result<()> {
        self.tools.begin().await
    }

    /// Finds out which numbers there are. Changes nothing.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn plan(&self) -> anyhow::Result<OptOutsPlan> {
        let done_to = self.tools.store.sync_done(&self.name, GOES_ON_WITHIN).await?;
        let done_to = done_to.as_deref().and_then(Phone::parse);
        let (done, phones) = self.tools.store.phones_with_state(done_to.as_ref()).await?;
        let cost = self.tools.records.cost();
        let left = phones.len() as u64;
        let calls = left * cost.flag;
        let gates = self.tools.store.gates().await?;
        let takes = estimate::time_for(calls, left, cost, &gates);
        Ok(OptOutsPlan { numbers: done + left, done_before: done, calls, takes, phones })
    }

    /// Flags the records of each number, and calls `progress` after each. Another run goes on where this one was
    /// interrupted.
    pub async fn run(
        &self,
        plan: OptOutsPlan,
        stop: &CancellationToken,
        progress: impl Fn(Progress<'_>),
    ) -> OptOutsWritten {
        let written = Mutex::new(OptOutsWritten::default());
        let change =
            |with: &dyn Fn(&mut OptOutsWritten)| with(&mut written.lock().unwrap_or_else(PoisonError::into_inner));
        let done = Mutex::new(Done::default());
        let phones = plan.phones.clone();
        let items = plan.phones.into_iter().enumerate();
        let groups = items.map(|(number, phone)| VecDeque::from([Item { number, phone, tries: 0 }])).collect();
        let work = work_off(groups, LANES, stop, async |item: &mut Item| {
            let tried = self.flag(&item.phone).await;
            let mut is_done = true;
            match self.tools.tried(tried, &mut item.tries) {
                Tried::Done(None) => {}
                Tried::Done(Some(flagged)) => change(&|written| {
                    written.flagged += flagged.remarks.len() as u64;
                    written.unknown += u64::from(!flagged.is_anybody);
                    written.unchanged += u64::from(flagged.is_anybody && flagged.remarks.is_empty());
                }),
                Tried::Again(at) => return Step::Again(at),
                Tried::Left(reason, detail) => {
                    // If this is interrupted, the next run tries it again.
                    is_done = false;
                    let left = Left { what: item.phone.masked(), reason, detail };
                    change(&|written| written.left.push(left.clone()));
                }
                Tried::Stop(why) => {
                    change(&|written| written.stopped = Some(why.clone()));
                    stop.cancel();
                    return Step::Again(Timestamp::now());
                }
            }
            let up_to = if is_done { note(&done, item.number) } else { None };
            if let Some(last) = up_to.and_then(|up_to| phones.get(up_to - 1))
                && let Err(error) = self.save(Some(last)).await
            {
                // The next run then looks at these numbers again.
                tracing::debug!(%error, "back_fill.place_not_saved");
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
        if !stop.is_cancelled()
            && let Err(error) = self.save(None).await
        {
            written.stopped = Some(format!("all numbers are done, and that could not be recorded: {error}"));
        }
        written.calls = self.tools.calls.load(Ordering::Relaxed);
        written
    }

    async fn save(&self, last: Option<&Phone>) -> Result<(), StoreError> {
        self.tools.store.save_sync(&self.name, last.map(Phone::as_e164)).await
    }

    async fn flag(&self, phone: &Phone) -> Result<Option<Flagged>, HandlerError> {
        let owner = self.tools.next_owner();
        let calls = self.tools.call_log(Bytes::new());
        let event = about_number(phone);
        let attempt = Attempt { event: &event, owner: &owner, calls: &calls, first_claim: None };
        let flagged = flag_known(&self.tools.store, self.tools.records.as_ref(), &attempt, phone).await;
        self.tools.count(&calls);
        flagged
    }
}

fn note(done: &Mutex<Done>, number: usize) -> Option<usize> {
    done.lock().unwrap_or_else(PoisonError::into_inner).note(number)
}

/// Returns an event that stands for what the ledger knows of a number.
fn about_number(phone: &Phone) -> Event {
    let id = EventId::derive(&SourceName::of_store(), Some(phone.as_e164()), b"");
    Event::of_store(id, EventType::new("contact.opted_out"), Timestamp::now(), Bytes::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_behind_everything_that_is_not_done() {
        let mut done = Done { up_to: 2, beyond: BTreeSet::new() };

        let noted: Vec<_> = [4, 3, 2, 6, 5].into_iter().map(|number| done.note(number)).collect();

        assert_eq!(noted, [None, None, Some(5), None, Some(7)]);
    }
}
