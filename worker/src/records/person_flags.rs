//! The opt-out of a person in a CRM: one flag, and the date of each kind of news, for all numbers of the person. A person
//! is opted out as long as any of the numbers is. The store knows the state of each number. A CRM knows more only if its
//! dates are newer than all that the store has of these numbers.

use hookline_common::phone::Phone;
use hookline_common::time::Timestamp;
use hookline_store::Store;

use super::OptOutFlag;
use crate::delivery::handler::HandlerError;

/// What the fields of a person say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PersonFlags {
    pub(super) opted_out: bool,
    pub(super) opted_out_at: Option<Timestamp>,
    pub(super) opted_in_at: Option<Timestamp>,
}

/// What has to be done to the fields of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlagDue {
    Write(PersonFlags),
    /// The fields say so already.
    Nothing,
    /// The fields have newer news, which stay.
    NewerThere,
}

impl PersonFlags {
    /// Returns the same flags with dates as precise as the system keeps them.
    pub(super) fn rounded(self, round: fn(Timestamp) -> Timestamp) -> Self {
        Self { opted_out_at: self.opted_out_at.map(round), opted_in_at: self.opted_in_at.map(round), ..self }
    }

    fn newest(&self) -> Option<Timestamp> {
        self.opted_out_at.max(self.opted_in_at)
    }

    /// Returns the flags that follow from news about one number, without the person's others.
    fn of_number(flag: &OptOutFlag) -> Self {
        let dated = |at: Option<Timestamp>, is_it: bool| {
            at.or(Some(flag.since).filter(|since| is_it && *since > Timestamp::EPOCH))
        };
        Self {
            opted_out: flag.opted_out,
            opted_out_at: dated(flag.opted_out_at, flag.opted_out),
            opted_in_at: dated(flag.opted_in_at, !flag.opted_out),
        }
    }
}

/// Decides what news about one number mean for a person with these numbers, whose fields say `present`. `round` makes a
/// time as precise as the system keeps it.
///
/// # Errors
/// When the store does not answer.
pub(super) async fn due(
    store: &Store,
    present: PersonFlags,
    numbers: &[Phone],
    (phone, flag): (&Phone, &OptOutFlag),
    round: fn(Timestamp) -> Timestamp,
) -> Result<FlagDue, HandlerError> {
    let (mut all, mut newest) = (PersonFlags::of_number(flag), flag.since);
    for other in numbers.iter().filter(|other| *other != phone) {
        let Some((opted_out, since)) = store.newest_state(other).await? else { continue };
        let [opted_out_at, opted_in_at] = store.opt_dates(other).await?;
        all.opted_out |= opted_out;
        all.opted_out_at = all.opted_out_at.max(opted_out_at);
        all.opted_in_at = all.opted_in_at.max(opted_in_at);
        newest = newest.max(since);
    }
    let all = all.rounded(round);
    let newest = round(newest).max(all.newest().unwrap_or(Timestamp::EPOCH));
    Ok(compare(present, all, newest))
}

fn compare(present: PersonFlags, all: PersonFlags, newest: Timestamp) -> FlagDue {
    let wanted = PersonFlags {
        opted_out_at: all.opted_out_at.max(present.opted_out_at),
        opted_in_at: all.opted_in_at.max(present.opted_in_at),
        ..all
    };
    // A flag without a date was set by hand, and only a newer opt-out is surely no older than it.
    let is_undated = present.opted_out && present.opted_out_at.is_none();
    if present == wanted {
        FlagDue::Nothing
    } else if present.newest().is_some_and(|there| there > newest) || (is_undated && !wanted.opted_out) {
        FlagDue::NewerThere
    } else {
        FlagDue::Write(wanted)
    }
}
