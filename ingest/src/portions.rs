//! Reads each connection in portions, so that 1,024 strangers with long bodies take little memory. actix-http reads up to
//! 128 KiB of a connection before a handler can refuse or wait, and again as much beside what the handler has not taken
//! (`read_available` in <https://docs.rs/actix-http/3.20.0/src/actix_http/h1/dispatcher.rs.html>).
//!
//! After a portion, a read waits: while a request is in hand, until its handler has taken bytes of the body; otherwise,
//! until actix has looked at the bytes it has. What was not read yet stays with the kernel, which stops the sender.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of one portion. A webhook of TextUs has a few KiB with its head, so it is read in one.
const PORTION: usize = 16 * 1024;

/// How much of the portion of a connection has been read.
#[derive(Default)]
pub(crate) struct Portion {
    read: Cell<usize>,
    /// Whether a handler takes the body, which alone knows when there is room for more.
    in_hand: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Portion {
    pub(crate) fn set_in_hand(&self, in_hand: bool) {
        self.in_hand.set(in_hand);
        self.next();
    }

    /// Lets the connection read its next portion, because the bytes of the one before were taken.
    pub(crate) fn next(&self) {
        self.read.set(0);
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Returns how many bytes may be read. With none left, the task is woken once there are.
    fn left(&self, cx: &Context<'_>) -> usize {
        let left = PORTION.saturating_sub(self.read.get());
        if left == 0 && self.in_hand.get() {
            *self.waiting.borrow_mut() = Some(cx.waker().clone());
        } else if left == 0 {
            self.read.set(0);
            cx.waker().wake_by_ref();
        }
        left
    }
}

/// A connection, or what TLS makes of it, that is read in portions.
pub(crate) struct Portioned<T> {
    io: T,
    portion: Rc<Portion>,
}

impl<T> Portioned<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { io, portion: Rc::default() }
    }

    pub(crate) fn get_ref(&self) -> &T {
        &self.io
    }

    pub(crate) fn portion(&self) -> Rc<Portion> {
        Rc::clone(&self.portion)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Portioned<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = self.portion.left(cx);
        if left == 0 {
            return Poll::Pending;
        }
        // actix doubles a buffer that is full and offers all of it, so each read is bounded as well.
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(left.min(buf.remaining())));
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut part);
        let read = part.filled().len();
        buf.advance(read);
        self.portion.read.set(self.portion.read.get() + read);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Portioned<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// Counts how often a task is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads until the connection has to wait, as actix does; returns how much that was, and how often it was woken.
    fn read_all(io: &mut Portioned<&[u8]>, woken: &Arc<Woken>) -> usize {
        let waker = Arc::clone(woken).into();
        let mut buffer = vec![0; 8 * PORTION];
        let mut buf = ReadBuf::new(&mut buffer);
        while Pin::new(&mut *io).poll_read(&mut Context::from_waker(&waker), &mut buf).is_ready() {}
        buf.filled().len()
    }

    #[test]
    fn a_body_is_read_on_once_its_handler_took_bytes() {
        let (sent, woken) = (vec![0; 4 * PORTION], Arc::<Woken>::default());
        let mut io = Portioned::new(&sent[..]);
        let portion = io.portion();
        portion.set_in_hand(true);

        assert_eq!(read_all(&mut io, &woken), PORTION);
        assert_eq!(read_all(&mut io, &woken), 0, "the handler has taken nothing");
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        portion.next();

        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the task reads on");
        assert_eq!(read_all(&mut io, &woken), PORTION);
        portion.set_in_hand(false);

        assert_eq!(woken.0.load(Ordering::Relaxed), 2, "the next request may be there");
        assert_eq!(read_all(&mut io, &woken), PORTION);
    }

    #[test]
    fn without_a_handler_actix_looks_at_each_portion() {
        let (sent, woken) = (vec![0; 4 * PORTION], Arc::<Woken>::default());
        let mut io = Portioned::new(&sent[..]);

        for times in 1..=3 {
            assert_eq!(read_all(&mut io, &woken), PORTION);
            assert_eq!(woken.0.load(Ordering::Relaxed), times);
        }
    }
}
