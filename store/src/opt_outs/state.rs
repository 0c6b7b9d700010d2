//! The state that follows from a phone's opt-outs and opt-ins: a pure function of their set, whatever their order of
//! arrival. The table `opt_state` keeps it for lists.
//!
//! An event's time is never later than its receipt: nothing can have happened after we heard of it. An opt-in undoes an
//! opt-out only if it is newer both by the stated times and by the times capped at receipt, since our own clock may be
//! the one that is wrong. A person is opted out as long as any opt-out is not undone; on a tie the person stays opted
//! out.

use std::collections::VecDeque;

use hookline_common::names::SkipReason;
use hookline_common::time::Timestamp;
use sqlx::AssertSqlSafe;

use crate::db::dialect::{self, Connection, Dialect};
use crate::db::error::StoreError;
use crate::db::{row, statements};
use crate::opt_outs::ledger::{self, Entry};
use crate::opt_outs::model::{LedgerKind, OptMethod};

/// The name in `store_meta` of the rule that the table was last derived by.
const RULE: &str = "opt_state_rule";
const PRESENT_RULE: &str = "2";
/// Entries per read while the table is rebuilt.
const STRIDE: i64 = 1000;

/// The time of an event, as its sender stated it (`stated`) and capped at its receipt (`cut`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) stated: i64,
    pub(crate) cut: i64,
}

impl Times {
    /// Returns `None` for an opt-in without a readable time, which proves nothing. An opt-out without one counts as
    /// made when it was received.
    pub(crate) fn of(opted_out: bool, stated: Option<i64>, received: i64) -> Option<Self> {
        let stated = match stated {
            Some(stated) => stated,
            None if opted_out => received,
            None => return None,
        };
        Some(Self { stated, cut: stated.min(received) })
    }

    /// Whether an opt-in with these times undoes the opt-out.
    pub(crate) fn undoes(self, opt_out: Self) -> bool {
        self.stated > opt_out.stated && self.cut > opt_out.cut
    }
}

/// An opt-out or opt-in that has a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fact<'a> {
    pub(crate) opted_out: bool,
    pub(crate) times: Times,
    /// `None` if the entry's version does not record the id.
    source_event_id: Option<Option<&'a str>>,
}

impl<'a> Fact<'a> {
    pub(crate) fn of(entry: &'a Entry) -> Option<Self> {
        let opted_out = match entry.kind {
            LedgerKind::Received => true,
            LedgerKind::OptedIn => false,
            LedgerKind::PutSent | LedgerKind::PutAnswered | LedgerKind::ReadBack | LedgerKind::Skipped => return None,
        };
        let source_event_id = entry.names_source_event().then_some(entry.source_event_id.as_deref());
        Times::of(opted_out, entry.event_time_ms, received(entry)).map(|times| Self {
            opted_out,
            times,
            source_event_id,
        })
    }
}

/// Returns the times of a text that asked for texts again (START); `None` for any other entry. No API opts a person in,
/// so such a text changes no state. But a PUT from before it does not stand in for a later opt-out, and an earlier stop
/// word is outdated.
pub(crate) fn start(entry: &Entry) -> Option<Times> {
    let is_start = entry.kind == LedgerKind::Skipped
        && entry.reason.as_deref() == Some(SkipReason::NoAction.as_str())
        && is_keyword(entry);
    // A text without a time counts as sent when it was received, like an opt-out.
    if is_start { Times::of(true, entry.event_time_ms, received(entry)) } else { None }
}

/// An SQL condition for the rows of `opt_ledger`, named `l`, for which [`start`] returns times.
pub(crate) const IS_START: &str = "(l.kind = 'skipped' AND l.reason = 'no_action' AND l.method = 'keyword')";

pub(crate) fn is_keyword(entry: &Entry) -> bool {
    entry.method.as_deref() == Some(OptMethod::Keyword.as_str())
}

/// When the event was received. Entries of the first version do not say, but it was no later than they were written.
pub(crate) fn received(entry: &Entry) -> i64 {
    entry.received_ms.unwrap_or(entry.at_ms)
}

/// The times of [`Fact`] in SQL, for a row of `opt_ledger` named `l`: as stated, and capped at receipt. They are NULL
/// for an opt-in without a time.
///
/// Queries use them to skip entries. Within one kind and account, an entry stated before the newest `cut` adds nothing
/// to the state, since the event with that cut was stated no earlier. So a number that is opted out a thousand times
/// costs little.
pub(crate) const STATED: &str = "CASE WHEN l.kind = 'opted_in' THEN l.event_time_ms \
                                 ELSE COALESCE(l.event_time_ms, l.received_ms, l.at_ms) END";
pub(crate) const CUT: &str = "CASE WHEN l.kind = 'opted_in' AND l.event_time_ms IS NULL THEN NULL \
                              WHEN l.event_time_ms < COALESCE(l.received_ms, l.at_ms) THEN l.event_time_ms \
                              ELSE COALESCE(l.received_ms, l.at_ms) END";

/// The opt-out state of a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) opted_out: bool,
    /// The newest times of each kind; `stated` and `cut` are each the newest on their own.
    newest_out: Option<Times>,
    newest_in: Option<Times>,
    /// The sender's own id of the event that decides; `None` if its entry's version does not record the id.
    source_event_id: Option<Option<String>>,
}

impl State {
    /// Returns `None` if no event has a time.
    pub(crate) fn of(facts: &[Fact<'_>]) -> Option<Self> {
        let newest = |opted_out: bool| {
            facts
                .iter()
                .filter(|fact| fact.opted_out == opted_out)
                .map(|fact| fact.times)
                .reduce(|one, other| Times { stated: one.stated.max(other.stated), cut: one.cut.max(other.cut) })
        };
        let opt_ins: Vec<Times> = facts.iter().filter(|fact| !fact.opted_out).map(|fact| fact.times).collect();
        let stands = |fact: &&Fact<'_>| fact.opted_out && !opt_ins.iter().any(|opt_in| opt_in.undoes(fact.times));
        let newest_of = |one: &Fact<'_>| (one.times.cut, one.times.stated);
        let standing = facts.iter().filter(stands).max_by_key(|fact| newest_of(fact));
        let decides = standing.or_else(|| facts.iter().filter(|fact| !fact.opted_out).max_by_key(|f| newest_of(f)))?;
        Some(Self {
            opted_out: standing.is_some(),
            newest_out: newest(true),
            newest_in: newest(false),
            source_event_id: decides.source_event_id.map(|id| id.map(str::to_owned)),
        })
    }

    /// Returns whether the phone is opted out, and when that was last changed or confirmed. A new fact never lowers
    /// this time, so a later state never looks older.
    pub(crate) fn newest(&self) -> Option<(bool, Timestamp)> {
        let cut = |times: Option<Times>| times.map(|times| times.cut);
        let newest = cut(self.newest_out).max(cut(self.newest_in))?;
        Some((self.opted_out, Timestamp::from_millis(newest)))
    }
}

/// The present state of an account and phone.
pub(crate) struct PhoneState {
    pub(crate) account: String,
    pub(crate) phone: String,
    pub(crate) state: State,
}

/// Writes the states. No two may be of the same account and phone.
pub(crate) async fn write(connection: &mut Connection, standings: &[PhoneState]) -> Result<(), StoreError> {
    for names_source in [true, false] {
        let named = |standing: &&PhoneState| standing.state.source_event_id.is_some() == names_source;
        let standings: Vec<&PhoneState> = standings.iter().filter(named).collect();
        // If the entry's version does not record the id, the row may still have it.
        let source = if names_source { "excluded" } else { "opt_state" };
        for chunk in statements::chunks(&standings) {
            let statement = format!(
                "INSERT INTO opt_state (account, phone, opted_out, opted_out_ms, opted_out_stated_ms, opted_in_ms,
                     opted_in_stated_ms, source_event_id) VALUES {}
                 ON CONFLICT (account, phone) DO UPDATE SET
                     opted_out = excluded.opted_out,
                     opted_out_ms = excluded.opted_out_ms, opted_out_stated_ms = excluded.opted_out_stated_ms,
                     opted_in_ms = excluded.opted_in_ms, opted_in_stated_ms = excluded.opted_in_stated_ms,
                     source_event_id = {source}.source_event_id",
                statements::values(chunk.len(), 8)
            );
            let mut insert = sqlx::query(AssertSqlSafe(statement));
            for PhoneState { account, phone, state } in chunk {
                insert = insert
                    .bind(account.as_str())
                    .bind(phone.as_str())
                    .bind(i64::from(state.opted_out))
                    .bind(state.newest_out.map(|times| times.cut))
                    .bind(state.newest_out.map(|times| times.stated))
                    .bind(state.newest_in.map(|times| times.cut))
                    .bind(state.newest_in.map(|times| times.stated))
                    .bind(state.source_event_id.clone().flatten());
            }
            insert.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Derives the whole table from the ledger, once after an upgrade from a version with another rule.
pub(crate) async fn rebuild_once(dialect: &Dialect, connection: &mut Connection) -> Result<(), StoreError> {
    if is_present(connection).await? {
        return Ok(());
    }
    let mut transaction = sqlx::Connection::begin_with(connection, dialect.begin(dialect::Begin::Long)).await?;
    // The lock keeps others from appending. A process that waited for it finds the work done.
    ledger::lock(&mut transaction).await?;
    if !is_present(&mut transaction).await? {
        rebuild(&mut transaction).await?;
        sqlx::query(
            "INSERT INTO store_meta (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(RULE)
        .bind(PRESENT_RULE)
        .execute(&mut *transaction)
        .await?;
    }
    Ok(transaction.commit().await?)
}

/// Whether the table was derived by the present rule.
pub(crate) async fn is_present(connection: &mut Connection) -> Result<bool, StoreError> {
    let rule =
        sqlx::query("SELECT value FROM store_meta WHERE name = $1").bind(RULE).fetch_optional(connection).await?;
    Ok(rule.map(|row| row::text(&row, "value")).transpose()?.is_some_and(|rule| rule == PRESENT_RULE))
}

async fn rebuild(connection: &mut Connection) -> Result<(), StoreError> {
    let mut phones = PhonesOfLedger::new();
    while let Some(entries) = phones.next(connection).await? {
        rebuild_phone(connection, &entries).await?;
    }
    Ok(())
}

/// The entries that states follow from, one phone after the other.
pub(crate) struct PhonesOfLedger {
    /// The last entry that was read.
    after: (String, i64),
    /// Entries that were read but not yet returned.
    entries: VecDeque<Entry>,
    ended: bool,
}

impl PhonesOfLedger {
    pub(crate) fn new() -> Self {
        Self { after: (String::new(), 0), entries: VecDeque::new(), ended: false }
    }

    /// Returns all entries of the next phone, in order; `None` after the last phone.
    pub(crate) async fn next(&mut self, connection: &mut Connection) -> Result<Option<Vec<Entry>>, StoreError> {
        loop {
            if let Some(first) = self.entries.front() {
                let of_first = self.entries.iter().take_while(|entry| entry.phone == first.phone).count();
                if self.ended || of_first < self.entries.len() {
                    return Ok(Some(self.entries.drain(..of_first).collect()));
                }
            } else if self.ended {
                return Ok(None);
            }
            self.read(connection).await?;
        }
    }

    async fn read(&mut self, connection: &mut Connection) -> Result<(), StoreError> {
        let statement = format!(
            "SELECT seq, {} FROM opt_ledger WHERE kind IN ('received', 'opted_in') AND (phone, seq) > ($1, $2)
             ORDER BY phone, seq LIMIT $3",
            Entry::COLUMNS
        );
        let (phone, seq) = self.after.clone();
        let rows =
            sqlx::query(AssertSqlSafe(statement)).bind(phone).bind(seq).bind(STRIDE).fetch_all(connection).await?;
        self.ended = rows.is_empty();
        for row in &rows {
            let entry = Entry::read(row)?;
            self.after = (entry.phone.clone(), row::number(row, "seq")?);
            self.entries.push_back(entry);
        }
        Ok(())
    }
}

/// A row of `opt_state`.
pub(crate) struct Row {
    pub(crate) account: String,
    pub(crate) phone: String,
    opted_out: Option<i64>,
    /// The cut time and the stated time.
    newest_out: (Option<i64>, Option<i64>),
    newest_in: (Option<i64>, Option<i64>),
    source_event_id: Option<String>,
}

impl Row {
    /// Whether this row is what [`write`] makes of the state.
    pub(crate) fn is(&self, state: &State) -> bool {
        let times = |times: Option<Times>| (times.map(|times| times.cut), times.map(|times| times.stated));
        self.opted_out == Some(i64::from(state.opted_out))
            && self.newest_out == times(state.newest_out)
            && self.newest_in == times(state.newest_in)
            && state.source_event_id.as_ref().is_none_or(|source| *source == self.source_event_id)
    }
}

/// Returns the rows of the phones after `from`, up to `to` or to the end.
pub(crate) async fn rows(connection: &mut Connection, from: &str, to: Option<&str>) -> Result<Vec<Row>, StoreError> {
    let end = if to.is_some() { "AND phone <= $2" } else { "" };
    let statement = format!(
        "SELECT account, phone, opted_out, opted_out_ms, opted_out_stated_ms, opted_in_ms, opted_in_stated_ms,
             source_event_id FROM opt_state WHERE phone > $1 {end}"
    );
    let mut query = sqlx::query(AssertSqlSafe(statement)).bind(from);
    if let Some(to) = to {
        query = query.bind(to);
    }
    let rows = query.fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(Row {
                account: row::text(row, "account")?,
                phone: row::text(row, "phone")?,
                opted_out: row::maybe_number(row, "opted_out")?,
                newest_out: (row::maybe_number(row, "opted_out_ms")?, row::maybe_number(row, "opted_out_stated_ms")?),
                newest_in: (row::maybe_number(row, "opted_in_ms")?, row::maybe_number(row, "opted_in_stated_ms")?),
                source_event_id: row::maybe_text(row, "source_event_id")?,
            })
        })
        .collect()
}

async fn rebuild_phone(connection: &mut Connection, entries: &[Entry]) -> Result<(), StoreError> {
    write(connection, &standings(entries)).await?;
    let state = State::of(&entries.iter().filter_map(Fact::of).collect::<Vec<_>>());
    if let (Some(entry), Some((opted_out, since))) = (entries.first(), state.and_then(|state| state.newest())) {
        // A flag dated in the future would make every later event look outdated.
        sqlx::query(
            "UPDATE records_opt_flags SET opted_out = $2, event_time_ms = $3 WHERE phone = $1 AND event_time_ms > $3",
        )
        .bind(entry.phone.as_str())
        .bind(i64::from(opted_out))
        .bind(since.as_millis())
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Returns one phone's state in each account.
pub(crate) fn standings(entries: &[Entry]) -> Vec<PhoneState> {
    let mut accounts: Vec<&str> = entries.iter().map(|entry| entry.account.as_str()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let of_account = |account: &str| {
        let of_it = entries.iter().filter(|entry| entry.account == account);
        let (phone, facts) = (of_it.clone().next()?.phone.clone(), of_it.filter_map(Fact::of).collect::<Vec<_>>());
        Some(PhoneState { account: account.to_owned(), phone, state: State::of(&facts)? })
    };
    accounts.into_iter().filter_map(of_account).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fact(opted_out: bool, stated: i64, received: i64) -> Fact<'static> {
        let times = Times::of(opted_out, Some(stated), received).expect("a time");
        Fact { opted_out, times, source_event_id: None }
    }

    #[test]
    fn an_opt_in_undoes_what_it_is_newer_than_both_as_stated_and_as_received() {
        const LATER_YEAR: i64 = 1_000_000;
        for (name, facts, opted_out) in [
            ("an opt-in dated years ahead, then a stop", vec![(false, LATER_YEAR, 10), (true, 20, 21)], true),
            ("the same, the stop dated ahead as well", vec![(false, LATER_YEAR, 10), (true, LATER_YEAR, 21)], true),
            ("a later opt-in", vec![(true, 10, 11), (false, 20, 21)], false),
            ("a later opt-in, whose stop was dated ahead of it", vec![(true, 30, 11), (false, 20, 21)], true),
            ("our clock is behind: an older opt-in heard later", vec![(true, 100, 50), (false, 90, 60)], true),
            ("our clock is behind: a newer opt-in", vec![(true, 100, 50), (false, 110, 60)], false),
            ("a tie", vec![(true, 10, 11), (false, 10, 20)], true),
            ("a tie of what was cut", vec![(true, 30, 20), (false, 40, 20)], true),
            (
                "two opt-ins that are newer in one way each undo nothing",
                vec![(false, LATER_YEAR, 50), (false, 60, 60), (true, 70, 55)],
                true,
            ),
        ] {
            let facts: Vec<_> = facts.into_iter().map(|(out, stated, received)| fact(out, stated, received)).collect();
            assert_eq!(State::of(&facts).expect("a state").opted_out, opted_out, "{name}");
        }
    }

    #[test]
    fn without_a_time_an_opt_out_counts_as_received_and_an_opt_in_not_at_all() {
        assert_eq!(Times::of(true, None, 7), Some(Times { stated: 7, cut: 7 }));
        assert_eq!(Times::of(false, None, 7), None);
    }

    fn facts() -> impl Strategy<Value = Vec<(bool, i64, i64)>> {
        prop::collection::vec((any::<bool>(), 0..8_i64, 0..8_i64), 1..8)
    }

    proptest! {
        #[test]
        fn the_state_is_a_function_of_the_set(facts in facts().prop_flat_map(|facts| (Just(facts.clone()), Just(facts).prop_shuffle()))) {
            let state = |facts: &[(bool, i64, i64)]| {
                let facts: Vec<_> = facts.iter().map(|(out, stated, received)| fact(*out, *stated, *received)).collect();
                State::of(&facts)
            };
            let (one, other) = facts;
            prop_assert_eq!(state(&one), state(&other));

            let is_undone = |out: &(bool, i64, i64)| {
                one.iter().any(|fact| !fact.0 && fact.1 > out.1 && fact.1.min(fact.2) > out.1.min(out.2))
            };
            let opted_out = one.iter().any(|fact| fact.0 && !is_undone(fact));
            prop_assert_eq!(state(&one).map(|state| state.opted_out), Some(opted_out));
        }
    }
}
