//! Bounds the memory of all bodies that were read and are not stored yet. Anybody may send a body, and its signature can
//! only be checked once all of it is here.
//!
//! Large bodies may take half of the bound together. The other half is for bodies up to [`SMALL`], as genuine webhooks
//! are, so that strangers with large bodies cannot shut them out. Only so many large bodies are read at a time as fit into
//! their half, so that those that were begun can end. What is read of a connection beside is bounded by `portions.rs`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The length up to which a body is small. A webhook of TextUs has a few KiB (docs/textus-api.md).
const SMALL: usize = 64 * 1024;

/// The bound, in bytes, and what is buffered now.
#[derive(Debug)]
pub(crate) struct BufferedBytes {
    max: usize,
    /// How many large bodies are read at a time.
    max_large: usize,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    all: usize,
    of_large: usize,
    /// How many large bodies there are.
    large: usize,
}

/// The buffered bytes of one body; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Reservation {
    buffered: Arc<BufferedBytes>,
    bytes: usize,
    is_large: bool,
}

impl BufferedBytes {
    pub(crate) fn new(max: usize, max_body_bytes: usize) -> Arc<Self> {
        let max_large = (max / 2 / max_body_bytes.max(1)).max(1);
        Arc::new(Self { max, max_large, now: Mutex::default() })
    }

    /// Returns a reservation of nothing yet. A body that is declared large counts as such before its first byte; `None` if
    /// there is no place for another.
    pub(crate) fn reservation(self: &Arc<Self>, declared: usize) -> Option<Reservation> {
        let is_large = declared > SMALL;
        if is_large {
            self.now().take_large(self.max_large)?;
        }
        Some(Reservation { buffered: Arc::clone(self), bytes: 0, is_large })
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // No code panics while it holds this lock, so the counts are consistent even if the lock is poisoned.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn take_large(&mut self, max: usize) -> Option<()> {
        if self.large >= max {
            return None;
        }
        self.large += 1;
        Some(())
    }
}

impl Reservation {
    /// Reserves `more` bytes; `None` if there is no room for them.
    pub(crate) fn grow(&mut self, more: usize) -> Option<()> {
        let bytes = self.bytes + more;
        let is_large = self.is_large || bytes > SMALL;
        let mut now = self.buffered.now();
        let of_large = match (self.is_large, is_large) {
            (true, _) => now.of_large + more,
            (false, true) => now.of_large + bytes,
            (false, false) => now.of_large,
        };
        let all = now.all + more;
        if all > self.buffered.max || is_large && of_large > self.buffered.max / 2 {
            return None;
        }
        if is_large && !self.is_large {
            now.take_large(self.buffered.max_large)?;
        }
        (now.all, now.of_large) = (all, of_large);
        (self.bytes, self.is_large) = (bytes, is_large);
        Some(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut now = self.buffered.now();
        now.all -= self.bytes;
        if self.is_large {
            now.of_large -= self.bytes;
            now.large -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_have_half_of_the_room_and_small_ones_what_is_left() {
        let buffered = BufferedBytes::new(4 * SMALL, SMALL);
        let mut declared = buffered.reservation(SMALL + 1).expect("a place");
        let mut grown = buffered.reservation(0).expect("a place");
        assert!(grown.grow(SMALL).is_some());
        assert!(declared.grow(SMALL).is_some());

        assert!(grown.grow(1).is_none(), "as a large one it would be over the half");
        let mut small: Vec<_> = (0..2).filter_map(|_| buffered.reservation(SMALL)).collect();
        assert!(small.iter_mut().all(|one| one.grow(SMALL).is_some()), "large ones leave the other half free");
        assert!(buffered.reservation(1).expect("a place").grow(1).is_none(), "all of it is taken");

        drop(declared);
        assert!(grown.grow(1).is_some());
        drop((grown, small));
        let now = buffered.now();
        assert_eq!((now.all, now.of_large, now.large), (0, 0, 0));
    }

    #[test]
    fn so_many_large_bodies_are_read_as_fit_into_their_half() {
        let buffered = BufferedBytes::new(16 * SMALL, 4 * SMALL);
        let declared = buffered.reservation(4 * SMALL).expect("a place");
        let mut grown = buffered.reservation(0).expect("a place");
        assert!(grown.grow(SMALL + 1).is_some());

        assert!(buffered.reservation(4 * SMALL).is_none(), "no place for a third");
        let mut third = buffered.reservation(0).expect("it may be small");
        assert!(third.grow(SMALL).is_some());
        assert!(third.grow(1).is_none(), "it is not");

        drop(declared);
        assert!(third.grow(1).is_some());
    }
}
