//! What a run does, all of it drawn from its seed before it begins.

use std::collections::BTreeSet;
use std::time::Duration;

use hookline_sandbox::{FaultRule, SampleFacts};

use crate::crm::Crm;

/// What lies below Hookline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below {
    /// The embedded broker and SQLite.
    OneMachine,
    RabbitMqAndPostgres,
}

pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) below: Below,
    /// How many of the two accounts are configured at first.
    pub(crate) accounts: usize,
    /// Whether the store is the sandbox's; else it is the real API's.
    pub(crate) is_sandbox: bool,
    /// The system of record; `None`: the built-in one.
    pub(crate) crm: Option<Crm>,
    /// What is in it, for whoever reads of its failure.
    pub(crate) about: Vec<&'static str>,
    pub(crate) said: Vec<Said>,
    pub(crate) troubles: Vec<Trouble>,
    /// In order.
    pub(crate) steps: Vec<(Duration, Step)>,
}

/// An event as its sender means it.
pub(crate) struct Said {
    pub(crate) what: What,
    /// Whom it is about; `phone` is E.164.
    pub(crate) facts: SampleFacts,
    /// How the number is written in it.
    pub(crate) written: String,
    /// The last segment of `optOut.id`; `None`: a record's number.
    pub(crate) opt_out_id: Option<String>,
    pub(crate) dated: Dated,
    /// What is wrong in its bytes that nobody needs, by number.
    pub(crate) blemish: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    OptOut,
    OptIn,
    Text,
    /// A text that is a stop word alone.
    StopWord,
    /// A text that asks for texts again.
    StartWord,
    /// A text of an account that the token may not see.
    ForbiddenText,
    Created,
    /// An opt-out of which nobody can say whose it is.
    NumberlessOptOut,
    /// Signed, and no event that can be read.
    Garbage,
    /// Of a type that nobody knows.
    Unheard,
}

/// When an event says that it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dated {
    /// So many milliseconds after it is sent, or before.
    FromNow(i64),
    /// The last moment of 2031.
    In2031,
}

/// A fault of the API.
pub(crate) struct Trouble {
    pub(crate) rule: FaultRule,
    /// Whether it may hold up an opt-out's PUT: then the oracle counts from its end.
    pub(crate) holds_puts: bool,
    /// Besides its end, so long: a Retry-After, or the pause after refused credentials.
    pub(crate) and_then: Duration,
    /// It goes on until every opt-out is PUT.
    pub(crate) is_lasting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Send(usize),
    /// The same bytes once more.
    SendAgain(usize),
    Begin(usize),
    End(usize),
    Pause,
    Resume,
    Restart {
        /// `kill -9` instead of SIGTERM.
        is_kill: bool,
        /// Seconds by which the clock is ahead afterwards.
        leap: i64,
    },
    AddAccount,
    RotateSecret,
    Replay(usize),
    /// The person opts in, and the webhook of it is lost.
    LostOptIn(usize),
    /// An operator erases the person whom this is about, by the number that it names.
    Erase(usize),
    /// And takes the business number for a person's.
    EraseOurselves(usize),
    /// The answers are the other world's: the sandbox's to a real store, or the real API's to a sandbox's.
    OtherWorld,
    /// They are the store's own again, and an operator resumes.
    OwnWorld,
    /// Nothing that waited for its delay comes back to its queue.
    Unroute,
    /// It does again, and an operator redrives what was kept.
    Route,
}

impl What {
    pub(crate) fn opts_out(self) -> bool {
        matches!(self, Self::OptOut | Self::StopWord)
    }

    /// Whether TextUs has something that a look-up finds.
    pub(crate) fn is_text_or_contact(self) -> bool {
        !matches!(self, Self::OptOut | Self::OptIn) && self.is_readable()
    }

    /// Whether every handler of its type can act on it.
    pub(crate) fn is_readable(self) -> bool {
        !matches!(self, Self::NumberlessOptOut | Self::Garbage | Self::Unheard)
    }
}

impl Plan {
    /// Every number of the people whom an operator erases.
    pub(crate) fn erased(&self) -> BTreeSet<&str> {
        let whom = self
            .steps
            .iter()
            .filter_map(|(_, step)| if let Step::Erase(said) = step { Some(&self.said[*said]) } else { None });
        whom.flat_map(Said::phones).collect()
    }
}

impl Said {
    /// Every number of whom it is about.
    pub(crate) fn phones(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.facts.phone.as_str()).chain(self.facts.more_phones.iter().map(String::as_str))
    }

    pub(crate) fn phone(&self) -> &str {
        &self.facts.phone
    }

    pub(crate) fn is_about_opting(&self) -> bool {
        matches!(self.what, What::OptOut | What::OptIn | What::StopWord | What::StartWord)
    }
}
