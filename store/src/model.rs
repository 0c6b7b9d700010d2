//! Arguments and results of the store's methods. Times are in milliseconds, phones in E.164.

pub use crate::db::page::Page;
pub use crate::deliveries::model::{
    AttemptRecord, Begin, Copied, DeadLetterFilter, DeadLetterRow, DeliveryRow, Ending, EventFilter, EventRow, Expired,
    HandlerCounts, Overdue, Parked, Payload, RequestRecord, Undelivered,
};
pub use crate::deliveries::waiting::Waiting;
pub use crate::effects::completed::CompletedEffect;
pub use crate::effects::model::{Claim, ClaimRequest, ClaimToken};
pub use crate::operations::model::{Erased, GateRow, GateStanding, Question, RemoteNote, WorkerAnswer, WorkerProcess};
pub use crate::opt_outs::model::{
    ConfirmedFlag, ExportedEntry, FlagConfirmation, FlagRow, LedgerCheck, LedgerEntry, LedgerKind, OptEvent, OptMethod,
    OptOutRow, OptStanding, Overtaking, PutAnswer, PutDecision, Unsent, UnsentSum, UnsentWhy,
};
pub use crate::records::model::{ContactLink, NewNote, NoteRow, OptFlagRow, PersonFacts, PersonRow, PhoneLock};
pub use crate::threads::model::{
    Doubt, JoinThread, Thread, ThreadFacts, ThreadLease, ThreadMessage, ThreadRow, ThreadStand, ThreadTurn,
    ThreadWrite, ThreadWritten, WrittenPart,
};
