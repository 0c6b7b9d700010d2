//! Which PUTs are owed, and which were made: from what was posted and from the stand-in's own record.

use hookline_e2e::{ACCOUNT, SECOND_ACCOUNT};
use hookline_sandbox::{Endpoint, RecordedRequest};

use crate::clock::Ms;
use crate::plan::{Said, What};
use crate::play::{Play, Sent};
use crate::worlds;

/// An event that a PUT is no older than may be explained by it.
const ECHO: Ms = 300_000;

/// An opt-out that an account is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) sent: Sent,
    pub(crate) phone: String,
    pub(crate) account: &'static str,
}

/// Every opt-out that no later opt-in of that person undoes, for each account that was configured when it came.
pub(crate) fn owed(play: &Play<'_>) -> Vec<Owed> {
    let sent = play.sent();
    let said = |sent: &Sent| &play.plan.said[sent.said];
    let mut owed = Vec::new();
    for out in sent.iter().filter(|one| said(one).what.opts_out()) {
        let phone = said(out).phone();
        // START takes a stop word back, and nothing else.
        let takes_back = |what| what == What::OptIn || (what == What::StartWord && said(out).what == What::StopWord);
        let mut ins = sent.iter().filter(|one| takes_back(said(one).what) && said(one).phone() == phone);
        if ins.any(|opt_in| may_undo(opt_in, out)) {
            continue;
        }
        for account in &[ACCOUNT, SECOND_ACCOUNT][..out.accounts] {
            owed.push(Owed { sent: out.clone(), phone: phone.to_owned(), account });
        }
    }
    owed
}

/// Whether an opt-in is newer both as stated and cut at its receipt. Where the receipt is known to some milliseconds
/// only, the doubt is the opt-in's.
pub(crate) fn may_undo(opt_in: &Sent, out: &Sent) -> bool {
    opt_in.stated > out.stated && opt_in.stated.min(opt_in.accepted) > out.stated.min(out.posted)
}

/// Whether an opt-in surely undoes an opt-out.
pub(crate) fn surely_undoes(opt_in: &Sent, out: &Sent) -> bool {
    opt_in.stated > out.stated && opt_in.stated.min(opt_in.posted) > out.stated.min(out.accepted)
}

/// The calls that were made about opt-outs, by the clock that Hookline sees.
pub(crate) struct Calls {
    puts: Vec<(Ms, Ms, RecordedRequest)>,
    reads: Vec<(Ms, RecordedRequest)>,
    is_sandbox: bool,
}

impl Calls {
    pub(crate) fn of(play: &Play<'_>) -> Self {
        let requests = play.stage.all_in_one.sandbox.requests();
        let at = |recorded| play.clock.of(recorded, &play.leaps);
        let of_kind = |kind| requests.iter().filter(move |request| request.endpoint == Some(kind)).cloned();
        Self {
            puts: of_kind(Endpoint::PutOptOut)
                .map(|put| (at(put.at), at(put.answered_at.unwrap_or(put.at)), put))
                .collect(),
            reads: of_kind(Endpoint::GetOptOut).map(|read| (at(read.at), read)).collect(),
            is_sandbox: play.plan.is_sandbox,
        }
    }

    pub(crate) fn puts(&self) -> impl Iterator<Item = &RecordedRequest> {
        self.puts.iter().map(|(_, _, put)| put)
    }

    pub(crate) fn reads(&self) -> impl Iterator<Item = &RecordedRequest> {
        self.reads.iter().map(|(_, read)| read)
    }

    /// Whether what was answered can be proof: the other world's answers never are.
    pub(crate) fn counts(&self, request: &RecordedRequest) -> bool {
        !worlds::is_strange(request, self.is_sandbox)
    }

    /// Whether the account has this opt-out, with proof, by a PUT that counts for it.
    pub(crate) fn settle(&self, owed: &Owed, opt_ins: &[Sent]) -> bool {
        let is_its = |request: &RecordedRequest| {
            request.account.as_deref() == Some(owed.account)
                && request.phone.as_deref() == Some(&owed.phone)
                && self.counts(request)
        };
        let time = owed.sent.stated.min(owed.sent.posted);
        self.puts.iter().filter(|(_, _, put)| put.effect && is_its(put)).any(|(at, answered, put)| {
            let was_answered = put.status.is_some_and(|status| (200..300).contains(&status));
            let was_read = || {
                let shows = |read: &RecordedRequest| read.genuine && read.status == Some(200) && is_its(read);
                self.reads.iter().any(|(read_at, read)| read_at >= at && shows(read))
            };
            // A PUT that was made before is good for it where no opt-in was heard of since, however late.
            let is_earlier = *answered < owed.sent.posted;
            let opted_in_since = |opt_in: &Sent| opt_in.posted > *at && !may_undo(opt_in, &owed.sent);
            let counts = !is_earlier || (*answered >= time - ECHO && !opt_ins.iter().any(opted_in_since));
            counts && (was_answered || was_read())
        })
    }
}

/// What was accepted that ends what an earlier PUT is good for: the person's opt-ins, and every START where none may be
/// newer than the opt-out.
pub(crate) fn opt_ins(play: &Play<'_>, owed: &Owed) -> Vec<Sent> {
    let of = |what: What| {
        let is_it = move |said: &Said| said.what == what && said.phone() == owed.phone;
        play.sent().into_iter().filter(move |sent| is_it(&play.plan.said[sent.said]))
    };
    let starts: Vec<Sent> = of(What::StartWord).collect();
    let is_outdone = starts.iter().any(|start| may_undo(start, &owed.sent));
    of(What::OptIn).chain(starts.into_iter().filter(|_| !is_outdone)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hookline_sandbox::Method;
    use jiff::Timestamp;

    use super::*;

    const PHONE: &str = "+12025550147";

    fn sent(stated: Ms, received: Ms) -> Sent {
        let ready = Duration::ZERO;
        Sent { said: 0, stated, posted: received, accepted: received + 10, id: "evt".to_owned(), ready, accounts: 1 }
    }

    fn request(endpoint: Endpoint, status: u16, effect: bool) -> RecordedRequest {
        RecordedRequest {
            at: Timestamp::UNIX_EPOCH,
            method: Method::PUT,
            path: String::new(),
            endpoint: Some(endpoint),
            account: Some(ACCOUNT.to_owned()),
            phone: Some(PHONE.to_owned()),
            effect,
            status: Some(status),
            answered_at: None,
            genuine: true,
            marked: false,
            idempotency_key: None,
        }
    }

    #[test]
    fn an_opt_in_undoes_what_is_older_as_stated_and_cut() {
        for (opt_in, out, undoes) in [
            (sent(2_000, 2_000), sent(1_000, 1_000), true),
            (sent(1_000, 2_000), sent(1_000, 1_000), false),
            (sent(500, 2_000), sent(1_000, 1_000), false),
            // Dated ahead, and older by its receipt.
            (sent(9_000_000, 1_000), sent(2_000, 2_000), false),
            (sent(9_000_000, 3_000), sent(2_000, 2_000), true),
            // The opt-out is dated ahead: nothing that is stated to be earlier undoes it.
            (sent(3_000, 3_000), sent(9_000_000, 2_000), false),
        ] {
            assert_eq!(may_undo(&opt_in, &out), undoes, "{opt_in:?} {out:?}");
            assert_eq!(surely_undoes(&opt_in, &out), undoes, "{opt_in:?} {out:?}");
        }
        let (opt_in, out) = (sent(2_000, 1_005), sent(1_000, 1_000));
        assert!(may_undo(&opt_in, &out) && !surely_undoes(&opt_in, &sent(1_500, 1_000)), "received at about one time");
    }

    #[test]
    fn a_put_settles_what_is_owed_by_what_was_carried_out_and_answered() {
        let owed = Owed { sent: sent(1_000_000, 1_000_000), phone: PHONE.to_owned(), account: ACCOUNT };
        let settles = |at, status, effect, reads: &[(Ms, RecordedRequest)], opt_ins: &[Sent]| {
            let put = (at, at + 5, request(Endpoint::PutOptOut, status, effect));
            Calls { puts: vec![put], reads: reads.to_vec(), is_sandbox: false }.settle(&owed, opt_ins)
        };
        let read = |at| vec![(at, request(Endpoint::GetOptOut, 200, false))];

        assert!(settles(1_000_100, 201, true, &[], &[]));
        assert!(!settles(1_000_100, 200, false, &[], &[]), "a page, say: nothing was carried out");
        assert!(!settles(1_000_100, 500, true, &[], &[]), "no proof");
        let marked = RecordedRequest { marked: true, ..request(Endpoint::PutOptOut, 201, true) };
        let strange = Calls { puts: vec![(1_000_100, 1_000_105, marked)], reads: Vec::new(), is_sandbox: false };
        assert!(!strange.settle(&owed, &[]), "the other world's answer");
        assert!(settles(1_000_100, 500, true, &read(1_000_200), &[]), "read back");
        assert!(!settles(1_000_100, 500, true, &read(900_000), &[]), "read before");

        assert!(settles(900_000, 201, true, &[], &[]), "made before, and less than five minutes");
        assert!(!settles(600_000, 201, true, &[], &[]), "more than five minutes before");
        assert!(!settles(900_000, 201, true, &[], &[sent(950_000, 950_000)]), "an opt-in between");
        assert!(settles(900_000, 201, true, &[], &[sent(800_000, 800_000)]), "an opt-in before");
    }
}
