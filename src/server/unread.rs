//! Bytes that a connection has received and no call has read yet: HTTP/2 keeps them, up to a window for each call. They
//! are counted as it comes in and as calls read it, and where the connection's share of the memory set aside for it is
//! used up, no more is received.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_util::task::AtomicWaker;

use crate::memory::{Charge, MemoryBudget};

/// The bytes that aren't charged: what is received at a time has to be somewhere.
const FREE: usize = 16 << 10;
/// The bytes that are charged at a time: more would be held in vain, less would be asked for often.
const STEP: usize = 64 << 10;
/// The length of a frame's header (RFC 9113, section 4.1): three bytes of length, the type, flags, and the stream.
pub(super) const FRAME_HEADER: usize = 9;
/// The type of frames that have a body's bytes.
const DATA: u8 = 0;

/// A count of the bytes of bodies that a connection has received and nobody has read.
#[derive(Debug, Default)]
pub(super) struct UnreadBytes {
    bytes: AtomicUsize,
    waits: AtomicWaker,
}

impl UnreadBytes {
    /// Notes that a call has read so many. (Not all are: what comes for a call that is over is counted, and thrown away
    /// by HTTP/2.)
    pub(super) fn taken(&self, bytes: usize) {
        // It never fails: there is always a new value.
        let _ = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |unread| {
                Some(unread.saturating_sub(bytes))
            });
        self.waits.wake();
    }

    /// Forgets what was counted: there is no call that could read it.
    pub(super) fn forget(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.waits.wake();
    }
}

type ChargeFuture = Pin<Box<dyn Future<Output = Charge> + Send>>;

/// A gate, which lets a connection receive.
pub(super) struct ReceiveGate {
    unread: Arc<UnreadBytes>,
    memory: MemoryBudget,
    frames: FrameCursor,
    charge: Charge,
    more: Option<ChargeFuture>,
}

impl ReceiveGate {
    /// `charge` is where what it takes is charged to; it has nothing yet.
    pub(super) fn new(unread: Arc<UnreadBytes>, memory: MemoryBudget, charge: Charge) -> Self {
        ReceiveGate {
            unread,
            memory,
            frames: FrameCursor::default(),
            charge,
            more: None,
        }
    }

    /// Whether more may be received.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut is_awaited = false;
        loop {
            let unread = self.unread.bytes.load(Ordering::Relaxed);
            let needed = unread.saturating_sub(FREE).div_ceil(STEP) * STEP;
            // One step more stays, so that it isn't taken and given back all the time.
            if self.charge.bytes() > needed + STEP {
                self.charge.shrink_to(needed + STEP);
            }
            if needed <= self.charge.bytes() {
                self.more = None;
                return Poll::Ready(());
            }
            // Only who waits is woken, or every call's reading would wake its connection. Then it is looked again: some
            // may have been read just before.
            if !is_awaited {
                self.unread.waits.register(cx.waker());
                is_awaited = true;
                continue;
            }
            let (memory, holder) = (&self.memory, self.charge.holder());
            let more = self.more.get_or_insert_with(|| {
                let memory = memory.clone();
                Box::pin(async move { memory.take_to_receive(holder, STEP).await })
            });
            let more = ready!(more.as_mut().poll(cx));
            self.charge.join(more);
            self.more = None;
        }
    }

    /// Counts what has been received.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        let data = self.frames.data_in(bytes);
        if data > 0 {
            self.unread.bytes.fetch_add(data, Ordering::Relaxed);
        }
    }
}

/// A position in HTTP/2's frames.
#[derive(Default)]
struct FrameCursor {
    header: [u8; FRAME_HEADER],
    /// How much of the header is there.
    filled: usize,
    /// How much of the frame is missing.
    missing: usize,
}

impl FrameCursor {
    /// How many of the next bytes are in frames of data.
    fn data_in(&mut self, mut bytes: &[u8]) -> usize {
        let mut data = 0;
        while !bytes.is_empty() {
            if self.missing == 0 {
                let count = bytes.len().min(FRAME_HEADER - self.filled);
                let (head, rest) = bytes.split_at(count);
                self.header[self.filled..self.filled + count].copy_from_slice(head);
                self.filled += count;
                bytes = rest;
                if self.filled < FRAME_HEADER {
                    return data;
                }
                self.filled = 0;
                self.missing = payload(&self.header);
            }
            let count = bytes.len().min(self.missing);
            if self.header[3] == DATA {
                data += count;
            }
            self.missing -= count;
            bytes = &bytes[count..];
        }
        data
    }
}

/// How many bytes follow a frame's header.
pub(super) fn payload(header: &[u8; FRAME_HEADER]) -> usize {
    let [a, b, c, ..] = header.map(usize::from);
    a << 16 | b << 8 | c
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::fair::Holder;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        [
            &[0, 0, length, kind, 0, 0, 0, 0, 1][..],
            &vec![7; usize::from(length)],
        ]
        .concat()
    }

    #[test]
    fn data_is_counted_however_frames_are_cut() {
        let bytes = [
            frame(4, 6),
            frame(1, 20),
            frame(DATA, 100),
            frame(DATA, 0),
            frame(DATA, 5),
            frame(8, 4),
        ]
        .concat();
        for at_a_time in [1, 2, 8, 9, 10, 1000] {
            let mut frames = FrameCursor::default();
            let counted: usize = bytes.chunks(at_a_time).map(|part| frames.data_in(part)).sum();
            assert_eq!(counted, 105, "{at_a_time}");
        }
    }

    #[test]
    fn who_has_received_its_share_waits_until_some_is_read() {
        let memory = MemoryBudget::new(1 << 20);
        let unread = Arc::new(UnreadBytes::default());
        let charge = memory.nothing(Holder::of(0, 1));
        let mut gate = ReceiveGate::new(Arc::clone(&unread), memory, charge);
        let mut cx = Context::from_waker(Waker::noop());
        // An eighth of the budget is for this, and half of that for one alone.
        unread.bytes.store(FREE + STEP, Ordering::Relaxed);
        assert!(gate.poll_open(&mut cx).is_ready());
        unread.bytes.store(FREE + STEP + 1, Ordering::Relaxed);
        assert!(gate.poll_open(&mut cx).is_pending());
        unread.taken(1);
        assert!(gate.poll_open(&mut cx).is_ready());
        unread.forget();
        assert!(gate.poll_open(&mut cx).is_ready());
        assert_eq!(gate.charge.bytes(), STEP);
    }
}
