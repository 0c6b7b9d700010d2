//! How many calls a destination still takes in its window, and how fast they are made: the rate-limit headers of every
//! answer, read as a budget that all workers share. Pure: the caller brings the clock, in milliseconds of one clock.
//!
//! What is left is never guessed: it is the smallest `X-RateLimit-Remaining` of the window less the calls that are out
//! and not answered, so calls of other programs on the same token are in it. It is spread over what is left of the
//! window. Where no such headers come, the pace is found: doubled answer by answer, halved at each 429 and raised
//! slowly from there.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::Priority;

/// Of the limit: what may be called at once after a quiet time, as much as the pace would have let through meanwhile.
/// Whoever has the half of a window's calls to make should not wait for them; a backlog is spread evenly after that.
const BURST: f64 = 0.5;
/// Of the window, at its end: over it the reserve for opt-outs shrinks to zero.
const RESERVE_SHRINKS_OVER: f64 = 0.2;
/// Calls of others that may come between an answer and our next call, in seconds of their pace.
const FOREIGN_AHEAD_S: f64 = 0.1;
/// A limit from which one call may be left over: it makes up for windows that do not end when they are thought to.
const SLACK_FROM: i64 = 20;
/// Of a window's length, one part: what it must be known to before calls are made to fit it.
const CLOSE_ENOUGH: i64 = 10;
/// Of the limit, one part: by more than this what is left grows where a window ends. Less is an answer that was overtaken.
const CAME_BACK: i64 = 10;
/// How long one call is awaited that shows whether a new window has begun, before another is made.
const PROBE_WAIT_MS: i64 = 2_000;
/// A window that is longer is no window; `MAX_WAIT` of the headers.
const WINDOW_MAX_MS: i64 = 15 * 60 * 1000;
/// The slowest pace that is found where no headers come, per second, and what it is raised by in a second.
const PACE_MIN: f64 = 0.2;
const PACE_STEP: f64 = 0.05;
/// 429s that come within this time are of one burst.
const ONE_REFUSAL_MS: i64 = 1_000;

/// Kept in the store, where several processes share a destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Budget {
    window: Option<Window>,
    /// Learned, because the headers tell a window's end in whole seconds only: it lasts at least and at most so long.
    least_ms: Option<i64>,
    most_ms: Option<i64>,
    /// Calls of others on the same token, per second, as the last windows had them.
    foreign_per_second: f64,
    found: Pace,
    /// Calls that may be made at once now, as of `tokens_at_ms`.
    tokens: f64,
    tokens_at_ms: Option<i64>,
    /// The first call of a window that is not known yet was let through then.
    probed_ms: Option<i64>,
    /// Opt-outs were refused somewhere: until then nothing else goes.
    opt_outs_first_until_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Window {
    limit: i64,
    /// The smallest that was told.
    remaining: i64,
    /// Its end as told, on the server's clock. It alone does not tell one window from another: some servers count it
    /// from each answer, and it wavers by a second.
    reset_ms: i64,
    /// Its end as told, on ours; not too early.
    told_end_ms: i64,
    /// It was opened after this, where that is known, and before the first answer of it came.
    opened_after_ms: Option<i64>,
    opened_before_ms: i64,
    /// When the last call was sent that was answered in it.
    last_sent_ms: i64,
    /// What the first answer of it told.
    first_remaining: i64,
    /// Our calls that were answered after that one.
    ours: i64,
}

/// Where no headers come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Pace {
    /// Calls in flight, until the first 429; doubles with each round of answers.
    at_once: i64,
    /// Calls per second, from then on.
    per_second: Option<f64>,
    raised_ms: i64,
    halved_ms: i64,
    /// Answers of this second and of the one before.
    second: i64,
    answers: [i64; 2],
}

impl Default for Pace {
    fn default() -> Self {
        Self { at_once: 1, per_second: None, raised_ms: 0, halved_ms: 0, second: 0, answers: [0; 2] }
    }
}

/// One answer, on the clock of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// When the answer came.
    pub(super) at_ms: i64,
    /// When the call was sent.
    pub(super) sent_ms: i64,
    pub(super) too_many: bool,
    pub(super) window: Option<WindowTold>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WindowTold {
    pub(super) limit: i64,
    pub(super) remaining: i64,
    /// As sent.
    pub(super) reset_ms: i64,
    /// How long the window still lasts by the answer's own `Date`; never too short.
    pub(super) lasts_ms: i64,
}

/// What is given to one asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) calls: i64,
    /// Where fewer than asked for: when to ask again.
    pub(super) again_ms: i64,
}

impl Budget {
    /// Asks for `want` calls, with `out` calls given before and not answered yet, by whomever.
    pub(super) fn take(&mut self, now_ms: i64, out: i64, priority: Priority, want: i64, reserve: f64) -> Given {
        let given = self.may(now_ms, out, priority, want, reserve);
        if given.calls > 0 && !self.is_known(now_ms) {
            self.probed_ms = Some(now_ms);
        }
        if priority == Priority::OptOut && given.calls < want {
            self.opt_outs_first_until_ms = given.again_ms.max(now_ms) + 500;
        }
        if priority != Priority::OptOut {
            #[expect(clippy::cast_precision_loss, reason = "calls at once are far below 2^52")]
            let taken = given.calls as f64;
            self.tokens = (self.tokens - taken).max(0.0);
        }
        given
    }

    fn may(&mut self, now_ms: i64, out: i64, priority: Priority, want: i64, reserve: f64) -> Given {
        let held_back = priority != Priority::OptOut && now_ms < self.opt_outs_first_until_ms;
        if held_back {
            return Given { calls: 0, again_ms: (now_ms + 100).min(self.opt_outs_first_until_ms) };
        }
        let Some(window) = self.window.clone() else { return self.unknown(now_ms, out, priority, want) };
        let (earliest, latest) = self.ends(&window);
        if now_ms >= latest {
            return self.first_of_window(now_ms, want);
        }
        let unused = window.remaining - out;
        let left = unused - window.slack(now_ms, out);
        // All is called before the window can be over: what it has left then is lost.
        let lasts = (earliest - now_ms).max(10);
        let kept = if priority == Priority::OptOut { 0.0 } else { window.reserve(lasts, self.most_ms, reserve) };
        #[expect(clippy::cast_precision_loss, reason = "calls and milliseconds of a window are far below 2^52")]
        let (left, lasts, limit) = (left as f64 - kept, lasts as f64, window.limit as f64);
        if left < 1.0 {
            if now_ms >= earliest && unused >= 1 {
                return self.first_of_window(now_ms, want);
            }
            // Those that are out may be answered without having been counted; the reserve shrinks.
            let soon = out > 0 || kept > 0.0 || now_ms >= earliest;
            return Given { calls: 0, again_ms: if soon { (now_ms + 20).min(latest) } else { earliest } };
        }
        // What others will take of it is theirs.
        let per_ms = (left / lasts - self.foreign_per_second / 1000.0).max(0.0);
        self.fill(now_ms, per_ms, (limit * BURST).max(1.0));
        let at_once = if priority == Priority::OptOut { left } else { left.min(self.tokens) };
        given(now_ms, want, at_once, per_ms, 1.0 - self.tokens)
    }

    /// When a window may be over, and when it surely is. It was opened a moment before its first answer came, at the
    /// pace at which calls are made.
    fn ends(&self, window: &Window) -> (i64, i64) {
        let Some(most) = self.most_ms else { return (window.told_end_ms, window.told_end_ms) };
        let latest = (window.opened_before_ms + most).min(window.told_end_ms);
        // Too wide a guess would only make calls come sooner than they need to, and use up what others count on.
        let least = self.least_ms.filter(|least| (most - least) * CLOSE_ENOUGH <= most);
        (least.map_or(latest, |least| (window.opened_before_ms + least).min(latest)), latest)
    }

    /// No window was ever told.
    fn unknown(&mut self, now_ms: i64, out: i64, priority: Priority, want: i64) -> Given {
        let Some(per_second) = self.found.per_second else {
            #[expect(clippy::cast_precision_loss, reason = "calls in flight are far below 2^52")]
            let at_once = (self.found.at_once - out).max(0) as f64;
            // A call that hangs must not hold all others.
            let waited = self.probed_ms.is_none_or(|probed| now_ms - probed >= PROBE_WAIT_MS);
            let at_once = if at_once < 1.0 && waited { 1.0 } else { at_once };
            return given(now_ms, want, at_once, 0.0, 0.0);
        };
        let raised = (now_ms - self.found.raised_ms).max(0);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since a moment ago are far below 2^52")]
        let seconds = (raised as f64 / 1000.0).min(60.0);
        let per_second = per_second + seconds * (per_second * PACE_STEP).max(PACE_MIN);
        self.found.per_second = Some(per_second);
        self.found.raised_ms = now_ms;
        self.fill(now_ms, per_second / 1000.0, 1.0);
        let ahead = if priority == Priority::OptOut { 1.0 } else { 0.0 };
        given(now_ms, want, self.tokens + ahead, per_second / 1000.0, 1.0 - self.tokens)
    }

    /// The window is over, or may be: one call shows it.
    fn first_of_window(&self, now_ms: i64, want: i64) -> Given {
        match self.probed_ms {
            Some(probed) if now_ms - probed < PROBE_WAIT_MS => Given { calls: 0, again_ms: now_ms + 20 },
            _ => Given { calls: want.min(1), again_ms: now_ms + 20 },
        }
    }

    fn fill(&mut self, now_ms: i64, per_ms: f64, most: f64) {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since a moment ago are far below 2^52")]
        let since = self.tokens_at_ms.map(|at| (now_ms - at).max(0) as f64);
        // Nothing was called for as long as is known.
        self.tokens = since.map_or(most, |since| (self.tokens + since * per_ms).min(most));
        self.tokens_at_ms = Some(now_ms);
    }

    /// Whether a call now is no probe.
    fn is_known(&self, now_ms: i64) -> bool {
        self.window.as_ref().is_some_and(|window| now_ms < self.ends(window).0)
    }

    /// Takes one answer in.
    pub(super) fn told(&mut self, told: Told) {
        match told.window {
            Some(window) => {
                self.told_window(told.at_ms, told.sent_ms, window);
                self.probed_ms = None;
            }
            None => {
                if self.window.as_ref().is_some_and(|window| told.at_ms >= self.ends(window).1) {
                    self.window = None;
                }
                self.found.told(told);
            }
        }
    }

    fn told_window(&mut self, at_ms: i64, sent_ms: i64, told: WindowTold) {
        let before = match self.window.take() {
            Some(window) if !self.is_next(&window, at_ms, told) => {
                self.window = Some(self.same_window(window, at_ms, sent_ms, told));
                return;
            }
            before => before,
        };
        if let Some(before) = &before {
            self.foreign_per_second = (self.foreign_per_second + before.foreign_per_second()) / 2.0;
            if let Some(opened) = before.opened_after_ms {
                self.lasts_at_most(at_ms - opened);
            }
        }
        let is_opener = told.remaining >= told.limit - 1;
        let after_last = before.as_ref().map(|before| before.last_sent_ms);
        self.window = Some(Window {
            limit: told.limit,
            remaining: told.remaining,
            reset_ms: told.reset_ms,
            told_end_ms: at_ms + told.lasts_ms,
            opened_after_ms: if is_opener { Some(sent_ms) } else { after_last },
            opened_before_ms: at_ms,
            last_sent_ms: sent_ms,
            first_remaining: told.remaining,
            ours: 0,
        });
    }

    /// Whether an answer is of a later window than this one: its end is later, and calls came back. After this one's
    /// end any other is, whatever the server's clock was set to.
    fn is_next(&self, window: &Window, at_ms: i64, told: WindowTold) -> bool {
        let is_over = at_ms >= self.ends(window).1;
        let came_back = told.remaining - window.remaining > told.limit / CAME_BACK;
        match told.reset_ms.cmp(&window.reset_ms) {
            Ordering::Greater => is_over || came_back,
            Ordering::Equal => false,
            Ordering::Less => is_over,
        }
    }

    fn same_window(&mut self, mut window: Window, at_ms: i64, sent_ms: i64, told: WindowTold) -> Window {
        if told.reset_ms < window.reset_ms {
            // An answer that was overtaken.
            return window;
        }
        if told.reset_ms > window.reset_ms {
            (window.reset_ms, window.told_end_ms) = (told.reset_ms, at_ms + told.lasts_ms);
        }
        window.remaining = window.remaining.min(told.remaining);
        window.limit = told.limit;
        window.ours += 1;
        window.last_sent_ms = window.last_sent_ms.max(sent_ms);
        self.lasts_at_least(sent_ms - window.opened_before_ms);
        window
    }

    fn lasts_at_least(&mut self, least_ms: i64) {
        self.least_ms = self.least_ms.max(Some(least_ms));
        self.agree();
    }

    fn lasts_at_most(&mut self, most_ms: i64) {
        if (1..=WINDOW_MAX_MS).contains(&most_ms) {
            self.most_ms = Some(self.most_ms.map_or(most_ms, |known| known.min(most_ms)));
            self.agree();
        }
    }

    /// Windows became shorter or longer than they were: learned anew.
    fn agree(&mut self) {
        if self.least_ms.zip(self.most_ms).is_some_and(|(least, most)| least > most) {
            (self.least_ms, self.most_ms) = (None, None);
        }
    }

    /// The window's end is known better than the headers tell it.
    pub(super) fn knows_length(&self) -> bool {
        self.most_ms.is_some()
    }

    /// What a call would be given now, without taking it.
    pub(super) fn look(&self, now_ms: i64, out: i64, priority: Priority, reserve: f64) -> Given {
        self.clone().may(now_ms, out, priority, 1, reserve)
    }

    /// How many calls could be made in advance without anybody missing them.
    pub(super) fn spare(&self, out: i64) -> i64 {
        let left = match (&self.window, self.found.per_second) {
            (Some(window), _) => window.remaining - out,
            // No limit was met yet.
            (None, None) => self.found.at_once - out,
            (None, Some(_)) => 0,
        };
        (left / 20).max(0)
    }

    /// Calls per second from now on, for an estimate of when a backlog is done; `None` where nothing is known.
    pub(super) fn per_second(&self) -> Option<f64> {
        match (&self.window, self.found.per_second) {
            (Some(window), _) => {
                let length = self.most_ms.unwrap_or(window.told_end_ms - window.opened_before_ms).max(1);
                #[expect(clippy::cast_precision_loss, reason = "calls and milliseconds of a window are far below 2^52")]
                Some(window.limit as f64 * 1000.0 / length as f64)
            }
            (None, found) => found,
        }
    }
}

impl Window {
    /// Calls of others since its first answer.
    fn foreign(&self) -> i64 {
        (self.first_remaining - self.remaining - self.ours).max(0)
    }

    fn slack(&self, now_ms: i64, out: i64) -> i64 {
        // Those of ours that are out may be counted already, and look foreign.
        let foreign = (self.foreign() - out).max(0);
        let ahead = if foreign == 0 { 0 } else { self.foreign_ahead(now_ms, foreign) };
        ahead + i64::from(self.limit >= SLACK_FROM)
    }

    #[expect(clippy::cast_precision_loss, reason = "calls and milliseconds of a window are far below 2^52")]
    fn foreign_per_second(&self) -> f64 {
        let foreign = self.foreign() as f64;
        // While there were calls left: afterwards others were refused too.
        foreign * 1000.0 / (self.last_sent_ms - self.opened_before_ms).max(500) as f64
    }

    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "calls of a window")]
    fn foreign_ahead(&self, now_ms: i64, foreign: i64) -> i64 {
        let seconds = ((now_ms - self.opened_before_ms).max(200) as f64) / 1000.0;
        (foreign as f64 / seconds * FOREIGN_AHEAD_S).ceil() as i64
    }

    #[expect(clippy::cast_precision_loss, reason = "calls and milliseconds of a window are far below 2^52")]
    fn reserve(&self, lasts_ms: i64, length_ms: Option<i64>, share: f64) -> f64 {
        let length = length_ms.unwrap_or(self.told_end_ms - self.opened_before_ms).max(1) as f64;
        self.limit as f64 * share * (lasts_ms as f64 / (length * RESERVE_SHRINKS_OVER)).min(1.0)
    }
}

impl Pace {
    fn told(&mut self, told: Told) {
        let second = told.at_ms.div_euclid(1000);
        if second != self.second {
            self.answers = if second == self.second + 1 { [0, self.answers[0]] } else { [0, 0] };
            self.second = second;
        }
        if !told.too_many {
            self.answers[0] += 1;
            self.at_once = self.at_once.saturating_add(1).min(10_000);
            return;
        }
        // The calls that were on their way all get a 429: they are one.
        if self.per_second.is_some() && told.at_ms - self.halved_ms < ONE_REFUSAL_MS {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "answers of a second are far below 2^52")]
        let achieved = (self.answers.iter().sum::<i64>() as f64 / 2.0).max(PACE_MIN * 2.0);
        let before = self.per_second.map_or(achieved, |pace| pace.min(achieved));
        self.per_second = Some((before / 2.0).max(PACE_MIN));
        (self.raised_ms, self.halved_ms) = (told.at_ms, told.at_ms);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "both are bounded by what was asked for and by a window")]
fn given(now_ms: i64, want: i64, at_once: f64, per_ms: f64, missing: f64) -> Given {
    let calls = want.min(at_once.max(0.0).floor() as i64);
    let wait = if per_ms > 0.0 { (missing.max(0.0) / per_ms).ceil().clamp(5.0, 1000.0) as i64 } else { 20 };
    Given { calls, again_ms: now_ms + wait }
}
