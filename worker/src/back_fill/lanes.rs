//! Works groups of items off, several groups at once and the items of one group in their order. An item that has to wait
//! makes only its own group wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use hookline_common::time::Timestamp;
use tokio_util::sync::CancellationToken;

/// How often a lane without work looks whether a group is due.
const LOOK: Duration = Duration::from_millis(100);

/// What became of an item.
pub(super) enum Step {
    Done,
    /// The item comes again at this time.
    Again(Timestamp),
}

struct Groups<T> {
    /// By when each is due, and its number.
    waiting: BTreeMap<(Timestamp, usize), VecDeque<T>>,
    in_hand: usize,
}

/// Works all groups off, or stops between two items once `stop` is cancelled.
pub(super) async fn work_off<T>(
    groups: Vec<VecDeque<T>>,
    lanes: usize,
    stop: &CancellationToken,
    work: impl AsyncFn(&mut T) -> Step,
) {
    let now = Timestamp::EPOCH;
    let waiting = groups.into_iter().enumerate().map(|(number, group)| ((now, number), group)).collect();
    let groups = Mutex::new(Groups { waiting, in_hand: 0 });
    join_all((0..lanes).map(|_| lane(&groups, stop, &work))).await;
}

async fn lane<T>(groups: &Mutex<Groups<T>>, stop: &CancellationToken, work: &impl AsyncFn(&mut T) -> Step) {
    while !stop.is_cancelled() {
        let taken = {
            let mut groups = lock(groups);
            let due = groups.waiting.first_entry().filter(|first| first.key().0 <= Timestamp::now());
            let due = due.map(|first| (first.key().1, first.remove()));
            if due.is_none() && groups.waiting.is_empty() && groups.in_hand == 0 {
                return;
            }
            groups.in_hand += usize::from(due.is_some());
            due
        };
        let Some((number, mut group)) = taken else {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
            continue;
        };
        let mut again = None;
        while let Some(item) = group.front_mut().filter(|_| !stop.is_cancelled()) {
            match work(item).await {
                Step::Done => drop(group.pop_front()),
                Step::Again(at) => {
                    again = Some(at);
                    break;
                }
            }
        }
        let mut groups = lock(groups);
        groups.in_hand -= 1;
        if let Some(at) = again {
            groups.waiting.insert((at, number), group);
        }
    }
}

fn lock<T>(groups: &Mutex<Groups<T>>) -> MutexGuard<'_, Groups<T>> {
    groups.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_group_keeps_its_order_and_waits_alone() {
        let groups = (0..3).map(|group| (0..4).map(|item| (group, item, 0)).collect()).collect();
        let done = Mutex::new(Vec::new());

        work_off(groups, 2, &CancellationToken::new(), async |(group, item, tries)| {
            *tries += 1;
            // The first item of the first group comes a second time.
            if (*group, *item, *tries) == (0, 0, 1) {
                return Step::Again(Timestamp::now().plus(Duration::from_millis(300)));
            }
            done.lock().expect("no panic").push((*group, *item));
            Step::Done
        })
        .await;

        let done = done.into_inner().expect("no panic");
        assert_eq!(done.len(), 12);
        for group in 0..3 {
            let items: Vec<i32> = done.iter().filter(|(of, _)| *of == group).map(|(_, item)| *item).collect();
            assert_eq!(items, [0, 1, 2, 3], "{group}");
        }
        assert_eq!(done.last().map(|(group, _)| *group), Some(0), "{done:?}");
    }

    #[tokio::test]
    async fn nothing_begins_after_a_stop() {
        let stop = CancellationToken::new();
        let begun = Mutex::new(0);

        work_off(vec![(0..9).collect::<VecDeque<i32>>(); 3], 2, &stop, async |_item| {
            *begun.lock().expect("no panic") += 1;
            stop.cancel();
            Step::Done
        })
        .await;

        assert!(begun.into_inner().expect("no panic") <= 2);
    }
}
