//! Bounds the memory of all bodies that were read and are not stored yet. Anybody may send a body, and its signature can
//! only be checked once all of it is here.
//!
//! Large bodies may take half of the bound together. The other half is for bodies up to [`SMALL`], as genuine webhooks
//! are, so that strangers with large bodies cannot shut them out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The length up to which a body is small. A webhook of TextUs has a few KiB (docs/textus-api.md).
const SMALL: usize = 64 * 1024;

/// The bound, in bytes, and what is buffered now.
#[derive(Debug)]
pub(crate) struct BufferedBytes {
    max: usize,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    all: usize,
    of_large: usize,
}

/// The buffered bytes of one body; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Reservation {
    buffered: Arc<BufferedBytes>,
    bytes: usize,
    is_large: bool,
}

impl BufferedBytes {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, now: Mutex::default() })
    }

    /// Returns a reservation of nothing yet. A body that is declared large counts as such from its first byte on.
    pub(crate) fn reservation(self: &Arc<Self>, declared: usize) -> Reservation {
        Reservation { buffered: Arc::clone(self), bytes: 0, is_large: declared > SMALL }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // No code panics while it holds this lock, so the counts are consistent even if the lock is poisoned.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_have_half_of_the_room_and_small_ones_what_is_left() {
        let buffered = BufferedBytes::new(4 * SMALL);
        let mut declared = buffered.reservation(SMALL + 1);
        let mut grown = buffered.reservation(0);
        assert!(grown.grow(SMALL).is_some());
        assert!(declared.grow(SMALL).is_some());

        assert!(grown.grow(1).is_none(), "as a large one it would be over the half");
        let mut small: Vec<_> = (0..2).map(|_| buffered.reservation(SMALL)).collect();
        assert!(small.iter_mut().all(|one| one.grow(SMALL).is_some()), "large ones leave the other half free");
        assert!(buffered.reservation(1).grow(1).is_none(), "all of it is taken");

        drop(declared);
        assert!(grown.grow(1).is_some());
        drop((grown, small));
        let now = buffered.now();
        assert_eq!((now.all, now.of_large), (0, 0));
    }
}
