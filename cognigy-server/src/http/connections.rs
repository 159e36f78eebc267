//! Every connection the server holds, what each is doing, and which one has to go.
//!
//! actix-web takes a bounded number of connections and lets the next ones wait. By itself it closes an
//! idle one after the keep-alive, and a connection that has begun a second head or does not read its
//! answer never. Here, the longest idle ones are closed as soon as places run short, those of the
//! sender that holds the most first; and what stalls is ended whether places are short or not. A
//! connection with a request under way is never closed for want of places.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;

use crate::admission::{Share, Shares, TrustedProxies, UNKNOWN, UsedUp, group};

/// A head has to be complete within this time: of the connection for its first one, of the head's
/// first byte for later ones.
pub(super) const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// An idle connection is kept this long: longer than the usual 60 s of a balancer in front, so
/// that the balancer and not the server is the one to close it.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// From these eighths of the limit on idle connections are closed for new ones. What is left is for
/// those that come while others are being closed.
const CROWDED_EIGHTHS: usize = 7;
/// So many more are closed than is needed at once: looking for the longest idle ones means to look
/// at all.
const AT_ONCE: usize = 64;
/// Who does not read an answer has this long until the kernel's buffers have to move, …
const WRITE_GRACE: Duration = Duration::from_secs(10);
/// … and then has to read so many bytes a second.
const LEAST_WRITE_RATE: u64 = 1024;
/// A head of up to so many bytes is nobody's concern; nearly all are a tenth of that.
const SMALL_HEAD: usize = 16 * 1024;
/// What longer ones may hold together before they are complete, in bytes, and what those of one
/// sender may. Without a bound, connections times the longest head there is (128 KiB) would be more
/// than the memory that the deployments grant.
const HEADS: usize = 32 * 1024 * 1024;
const SENDERS_HEADS: usize = HEADS / 2;
/// So many bytes of answers may wait to be sent before the next request of the connection is begun.
const UNSENT: usize = 16 * 1024;
/// How often stalled connections are looked for.
const SWEEP: Duration = Duration::from_millis(500);
/// What idles this much longer than the keep-alive has slipped through actix-web's own timer.
const SLIPPED_THROUGH: Duration = Duration::from_secs(5);

/// The connections of one server.
pub(super) struct Connections {
    started: Instant,
    crowded: usize,
    trusted: TrustedProxies,
    open: Mutex<Open>,
    heads: Arc<Shares>,
    all_heads: Arc<Shares>,
    pub(super) closed_idle: AtomicU64,
    pub(super) closed_stalled: AtomicU64,
}

#[derive(Default)]
struct Open {
    next: u64,
    states: HashMap<u64, Arc<State>>,
    by_sender: HashMap<IpAddr, usize>,
}

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    /// It may stay.
    Stay,
    /// It is idle and closes, unless a request is on its way already.
    Leave,
    /// Its head does not come: 408.
    HeadTimedOut,
    /// Its head is long, as too many others are: 503.
    HeadRefused,
    /// Its answer is not read.
    Cut,
}

/// What one connection is doing. Its own thread writes, others look.
pub(super) struct State {
    number: u64,
    pub(super) peer: IpAddr,
    sender: IpAddr,
    clock: Instant,
    /// Requests under way, and whether the body of the last one is being read.
    busy: AtomicUsize,
    in_body: AtomicBool,
    /// Whether something has come that is not read yet, since it is for a later request.
    held_back: AtomicBool,
    /// Whether there has been a request; until then actix-web's own timer is at work.
    served: AtomicBool,
    /// Whether part of a head is here, how long that is in bytes, and the memory for it if that is
    /// long: its sender's share, and all senders'.
    in_head: AtomicBool,
    head_bytes: AtomicUsize,
    head_memory: Mutex<Option<(Share, Share)>>,
    /// Since when it is idle, or since when its head has been coming. In milliseconds, as all times
    /// here.
    since: AtomicU64,
    /// Since when an answer waits to be read, and how much has been read since; 0: none waits.
    blocked: AtomicU64,
    written: AtomicU64,
    /// How many bytes of answers are not sent, and what wakes the request that waits for them.
    unsent: AtomicUsize,
    room: AtomicWaker,
    verdict: AtomicU8,
    /// Wakes the connection to hear the verdict, and to read on.
    pub(super) task: AtomicWaker,
}

impl Connections {
    /// Those of a server that takes at most `limit`.
    pub(super) fn new(limit: usize, trusted: TrustedProxies) -> Arc<Self> {
        Self::with_room_for(limit / 8 * CROWDED_EIGHTHS, trusted)
    }

    fn with_room_for(crowded: usize, trusted: TrustedProxies) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            crowded,
            trusted,
            open: Mutex::default(),
            heads: Shares::of(SENDERS_HEADS),
            all_heads: Shares::of(HEADS),
            closed_idle: AtomicU64::new(0),
            closed_stalled: AtomicU64::new(0),
        })
    }

    /// A new one, for which idle ones make room.
    pub(super) fn enter(&self, peer: IpAddr) -> Arc<State> {
        let mut open = self.open();
        open.next += 1;
        let state = Arc::new(State::new(open.next, peer, self.started));
        open.states.insert(state.number, Arc::clone(&state));
        *open.by_sender.entry(state.sender).or_default() += 1;
        if open.states.len() > self.crowded {
            self.make_room(&open, state.number);
        }
        state
    }

    /// One that is closed.
    pub(super) fn leave(&self, state: &State) {
        let mut open = self.open();
        open.states.remove(&state.number);
        if let Some(count) = open.by_sender.get_mut(&state.sender) {
            *count -= 1;
            if *count == 0 {
                open.by_sender.remove(&state.sender);
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.open().states.len()
    }

    /// Ends what stalls, for as long as the server runs.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.sweep();
        }
    }

    fn sweep(&self) {
        for state in self.open().states.values() {
            if let Some(verdict) = state.stalls() {
                self.closed_stalled.fetch_add(1, Relaxed);
                state.judge(verdict);
            }
        }
    }

    /// Has idle connections close until so many are left as are wanted; not the newest, whose request
    /// is on its way.
    fn make_room(&self, open: &Open, newest: u64) {
        let staying = open.states.values().filter(|state| state.verdict() == Verdict::Stay).count();
        let Some(too_many) = staying.checked_sub(self.crowded).filter(|more| *more > 0) else {
            return;
        };
        let others = open.states.values().filter(|state| state.number != newest);
        let mut idle: Vec<_> = others.filter(|state| state.may_leave()).collect();
        // A balancer's are the last to go. Of the others' each is worth as much less as its sender
        // has more; and the longest idle one is the least likely to be used again.
        idle.sort_by_cached_key(|state| {
            let count = open.by_sender.get(&state.sender).copied().unwrap_or(0);
            (self.trusted.include(state.peer), Reverse(count), state.since.load(Relaxed))
        });
        for state in idle.into_iter().take(too_many + AT_ONCE) {
            self.closed_idle.fetch_add(1, Relaxed);
            let in_head = state.in_head.load(Relaxed);
            state.judge(if in_head { Verdict::HeadTimedOut } else { Verdict::Leave });
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(number: u64, peer: IpAddr, clock: Instant) -> Self {
        let state = Self {
            number,
            peer,
            sender: group(peer),
            clock,
            busy: AtomicUsize::new(0),
            in_body: AtomicBool::new(false),
            held_back: AtomicBool::new(false),
            served: AtomicBool::new(false),
            in_head: AtomicBool::new(false),
            head_bytes: AtomicUsize::new(0),
            head_memory: Mutex::default(),
            since: AtomicU64::new(0),
            blocked: AtomicU64::new(0),
            written: AtomicU64::new(0),
            unsent: AtomicUsize::new(0),
            room: AtomicWaker::new(),
            verdict: AtomicU8::new(Verdict::Stay as u8),
            task: AtomicWaker::new(),
        };
        state.since.store(state.now(), Relaxed);
        state
    }

    /// Never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn for_longer_than(&self, since: &AtomicU64, time: Duration) -> bool {
        let waited = self.now().saturating_sub(since.load(Relaxed));
        u128::from(waited) > time.as_millis()
    }

    /// A request begins: its head is complete.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.in_body.store(false, Relaxed);
        self.busy.fetch_add(1, Relaxed);
        self.served.store(true, Relaxed);
        self.in_head.store(false, Relaxed);
        if self.head_bytes.swap(0, Relaxed) > SMALL_HEAD {
            drop(self.head_memory().take());
        }
        Busy(Arc::clone(self))
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Relaxed) > 0
    }

    /// The request under way has a body, which is read now.
    pub(super) fn reads_a_body(&self) {
        self.in_body.store(true, Relaxed);
        self.read_on();
    }

    /// The body of the request under way is complete.
    pub(super) fn body_is_complete(&self) {
        self.in_body.store(false, Relaxed);
    }

    /// Whether what the sender sends next is for a later request, which begins after this one's end.
    pub(super) fn reads_later(&self) -> bool {
        self.is_busy() && !self.in_body.load(Relaxed)
    }

    /// Something has come for a later request.
    pub(super) fn hold_back(&self) {
        self.held_back.store(true, Relaxed);
    }

    /// What was held back may be read.
    fn read_on(&self) {
        if self.held_back.load(Relaxed) {
            self.held_back.store(false, Relaxed);
            self.task.wake();
        }
    }

    /// A request has an answer of so many bytes, to be sent after those before it.
    pub(super) fn answered(&self, bytes: usize) {
        self.unsent.fetch_add(bytes, Relaxed);
    }

    /// Waits while too much of the answers before is not sent.
    pub(super) async fn room_for_an_answer(&self) {
        let has_room = || self.unsent.load(Relaxed) <= UNSENT || self.verdict() == Verdict::Cut;
        std::future::poll_fn(|context| {
            if has_room() {
                return Poll::Ready(());
            }
            self.room.register(context.waker());
            // It may have become otherwise before there was a waker.
            if has_room() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether part of a head is here, and no more.
    pub(super) fn is_in_head(&self) -> bool {
        self.in_head.load(Relaxed)
    }

    fn head_memory(&self) -> MutexGuard<'_, Option<(Share, Share)>> {
        self.head_memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes have come; an error if its head, and others, are too long.
    pub(super) fn received(&self, bytes: usize, all: &Connections) -> Result<(), UsedUp> {
        if self.is_busy() {
            return Ok(());
        }
        if !self.in_head.swap(true, Relaxed) {
            self.since.store(self.now(), Relaxed);
        }
        // It is not idle any more.
        let (leave, stay) = (Verdict::Leave as u8, Verdict::Stay as u8);
        let _ = self.verdict.compare_exchange(leave, stay, Relaxed, Relaxed);
        let head = self.head_bytes.fetch_add(bytes, Relaxed) + bytes;
        if head <= SMALL_HEAD {
            return Ok(());
        }
        let mut memory = self.head_memory();
        let shares = || (all.heads.share(self.sender), all.all_heads.share(UNKNOWN));
        let (own, together) = memory.get_or_insert_with(shares);
        own.grow_to(head).and_then(|()| together.grow_to(head))
    }

    /// So many of `wanted` bytes of answers went out.
    pub(super) fn sent(&self, sent: usize, wanted: usize) {
        // With the last byte that actix-http has, everything is sent; what its heads take is a guess.
        let unsent = self.unsent.load(Relaxed);
        let left = if sent == wanted { 0 } else { unsent.saturating_sub(sent) };
        if left < unsent {
            self.unsent.store(left, Relaxed);
            self.room.wake();
        }
        if sent == wanted {
            if self.blocked.load(Relaxed) != 0 {
                self.blocked.store(0, Relaxed);
            }
            return;
        }
        if self.blocked.load(Relaxed) == 0 {
            // What went out just now was for the kernel's buffer, and nobody has read it yet.
            self.written.store(0, Relaxed);
            self.blocked.store(self.now(), Relaxed);
            return;
        }
        self.written.fetch_add(sent as u64, Relaxed);
    }

    pub(super) fn verdict(&self) -> Verdict {
        let verdict = self.verdict.load(Relaxed);
        let all = [Verdict::Leave, Verdict::HeadTimedOut, Verdict::HeadRefused, Verdict::Cut];
        all.into_iter().find(|it| *it as u8 == verdict).unwrap_or(Verdict::Stay)
    }

    pub(super) fn judge(&self, verdict: Verdict) {
        self.verdict.store(verdict as u8, Relaxed);
        self.task.wake();
        self.room.wake();
    }

    /// Whether it may be closed for another one: it is idle, or its head has stopped on the way.
    fn may_leave(&self) -> bool {
        let idle = !self.is_busy() && self.blocked.load(Relaxed) == 0;
        let stopped = || self.for_longer_than(&self.since, Duration::from_secs(1));
        self.verdict() == Verdict::Stay && idle && (!self.is_in_head() || stopped())
    }

    fn stalls(&self) -> Option<Verdict> {
        if self.verdict() == Verdict::Cut {
            return None;
        }
        let blocked = self.blocked.load(Relaxed);
        if blocked != 0 && self.for_longer_than(&self.blocked, WRITE_GRACE) {
            let waited = Duration::from_millis(self.now().saturating_sub(blocked)) - WRITE_GRACE;
            let wanted = waited.as_secs().saturating_mul(LEAST_WRITE_RATE);
            return (self.written.load(Relaxed) <= wanted).then_some(Verdict::Cut);
        }
        // No milder verdict would reach who does not read.
        if self.verdict() != Verdict::Stay || blocked != 0 || self.is_busy() {
            return None;
        }
        if self.is_in_head() {
            let late =
                self.served.load(Relaxed) && self.for_longer_than(&self.since, HEAD_DEADLINE);
            return late.then_some(Verdict::HeadTimedOut);
        }
        let longest = KEEP_ALIVE + SLIPPED_THROUGH;
        self.for_longer_than(&self.since, longest).then_some(Verdict::Leave)
    }
}

/// A request under way on a connection.
pub(super) struct Busy(Arc<State>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.since.store(self.0.now(), Relaxed);
        self.0.busy.fetch_sub(1, Relaxed);
        self.0.read_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::MAX_CONNECTIONS;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn leaving(states: &[Arc<State>]) -> Vec<usize> {
        let numbered = states.iter().enumerate();
        numbered.filter(|(_, it)| it.verdict() == Verdict::Leave).map(|(at, _)| at).collect()
    }

    #[test]
    fn the_longest_idle_ones_of_whoever_holds_the_most_make_room() {
        let balancer = TrustedProxies::new(&["192.0.2.9/32".parse().unwrap()]);
        let room = 400;
        let connections = Connections::with_room_for(room, balancer);
        let enter = |last, many| -> Vec<_> {
            (0..many).map(|_| connections.enter(address(last))).collect()
        };
        let (balanced, few, many) = (enter(9, 250), enter(1, 50), enter(2, 100));
        let age = |states: &[Arc<State>], milliseconds| {
            states.iter().for_each(|state| state.since.store(milliseconds, Relaxed));
        };
        // The few, and the balancer's, have idled the longest.
        age(&balanced, 1);
        age(&few, 2);
        for (at, state) in many.iter().enumerate() {
            state.since.store(100 + at as u64, Relaxed);
        }
        let busy: Vec<_> = many[..10].iter().map(State::begin).collect();
        let newest = connections.enter(address(1));
        let expected: Vec<_> = (10..10 + AT_ONCE + 1).collect();
        assert_eq!(leaving(&many), expected, "not those with a request, and then by age");
        assert!(leaving(&few).is_empty() && leaving(&balanced).is_empty());
        assert_eq!(newest.verdict(), Verdict::Stay);
        // Those that leave make room enough for as many.
        let more = enter(1, AT_ONCE);
        assert_eq!(leaving(&many).len() + leaving(&few).len(), AT_ONCE + 1);
        // A request that comes in the last moment keeps its connection.
        assert!(many[10].received(1, &connections).is_ok());
        assert_eq!(many[10].verdict(), Verdict::Stay);
        drop(busy);
        for state in balanced.iter().chain(&few).chain(&many).chain(&more).chain([&newest]) {
            connections.leave(state);
        }
        assert_eq!(connections.count(), 0);
        assert!(connections.open().by_sender.is_empty());
    }

    #[test]
    fn long_heads_of_one_sender_leave_room_for_others_and_short_ones_need_none() {
        let connections = Connections::new(MAX_CONNECTIONS, TrustedProxies::default());
        let longest = 128 * 1024;
        let begun: Vec<_> = (0..SENDERS_HEADS / longest)
            .map(|_| {
                let state = connections.enter(address(1));
                assert!(state.received(longest, &connections).is_ok());
                state
            })
            .collect();
        assert!(connections.enter(address(1)).received(longest, &connections).is_err());
        assert!(connections.enter(address(1)).received(SMALL_HEAD, &connections).is_ok());
        assert!(connections.enter(address(2)).received(longest, &connections).is_ok());
        // A head that is complete holds nothing more, nor does one whose connection is closed.
        drop(begun[0].begin());
        assert!(connections.enter(address(1)).received(longest, &connections).is_ok());
        for state in &begun {
            connections.leave(state);
        }
        drop(begun);
        let (own, all) =
            (connections.heads.share(address(1)), connections.all_heads.share(UNKNOWN));
        let room = |mut share: Share, limit| share.grow_to(limit).is_ok();
        assert!(!room(own, SENDERS_HEADS), "two more are held by this test");
        assert!(!room(all, HEADS));
    }

    #[test]
    fn heads_and_answers_that_stall_are_ended_and_nothing_else_is() {
        let connections = Connections::new(MAX_CONNECTIONS, TrustedProxies::default());
        let state = connections.enter(address(1));
        let ago = |time: Duration| {
            // The clock begins with the test, so that times lie before it only by moving it.
            let started = Instant::now().checked_sub(Duration::from_secs(120)).unwrap();
            let mut state = State::new(0, address(1), started);
            let then = state.now().saturating_sub(u64::try_from(time.as_millis()).unwrap());
            *state.since.get_mut() = then;
            state
        };
        let second = Duration::from_secs(1);
        assert_eq!(state.stalls(), None);
        let first_head = ago(HEAD_DEADLINE + second);
        first_head.in_head.store(true, Relaxed);
        assert_eq!(first_head.stalls(), None, "actix-web's own timer ends that");
        first_head.served.store(true, Relaxed);
        assert_eq!(first_head.stalls(), Some(Verdict::HeadTimedOut));
        assert_eq!(ago(KEEP_ALIVE).stalls(), None);
        assert_eq!(ago(KEEP_ALIVE + 6 * second).stalls(), Some(Verdict::Leave));
        let unread = ago(second);
        unread.blocked.store(unread.now() - 20_000, Relaxed);
        unread.written.store(9 * 1024, Relaxed);
        assert_eq!(unread.stalls(), Some(Verdict::Cut));
        unread.written.store(30 * 1024, Relaxed);
        assert_eq!(unread.stalls(), None, "it is read slowly, and fast enough");
        unread.blocked.store(unread.now() - 8_000, Relaxed);
        unread.in_head.store(true, Relaxed);
        unread.served.store(true, Relaxed);
        unread.since.store(unread.now() - 8_000, Relaxed);
        assert_eq!(unread.stalls(), None, "it would not read the 408 either");
        unread.judge(Verdict::HeadTimedOut);
        unread.blocked.store(unread.now() - 20_000, Relaxed);
        unread.written.store(0, Relaxed);
        assert_eq!(unread.stalls(), Some(Verdict::Cut), "or has not read it");
        unread.judge(Verdict::Stay);
        unread.in_head.store(false, Relaxed);
        unread.since.store(unread.now() - 1_000, Relaxed);
        unread.sent(5, 5);
        unread.written.store(0, Relaxed);
        assert_eq!(unread.stalls(), None);
        let busy = Arc::new(ago(600 * second));
        let request = busy.begin();
        assert_eq!(busy.stalls(), None);
        drop(request);
        assert_eq!(busy.stalls(), None, "it idles since the end of the request");
    }
}
