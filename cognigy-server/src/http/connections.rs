//! Every connection that the server holds, its state, and the choice of those that have to be
//! closed.
//!
//! actix-web takes a bounded number of connections and lets the next ones wait. It closes an idle
//! connection after the keep-alive. It never closes a connection that has begun a second head, or
//! whose client does not read its answer.
//!
//! Here, when slots run short, the connections that have been idle longest are closed, those of the
//! sender with the most connections first. A connection that stalls is closed in any case. A
//! connection with a request in progress is never closed to free its slot.

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

use cognigy_service::admission::{Share, Shares, TrustedProxies, UNKNOWN, UsedUp, group};

/// A head has to be complete within this time. For the first head of a connection the time begins
/// with the connection, for later heads with their first byte.
pub(super) const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// An idle connection is kept this long. That is longer than the usual 60 s of a balancer in front,
/// so that the balancer closes it and not the server.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// From so many eighths of the limit on, idle connections are closed for new ones. The rest is for
/// connections that arrive while others are being closed.
const CROWDED_EIGHTHS: usize = 7;
/// So many more connections are closed than necessary: finding those that have been idle longest
/// means to look at all.
const AT_ONCE: usize = 64;
/// A client that does not read its answer has this long until the kernel's buffers have to drain, …
const WRITE_GRACE: Duration = Duration::from_secs(10);
/// … and then has to read so many bytes a second.
const LEAST_WRITE_RATE: u64 = 1024;
/// A head of up to so many bytes is not counted. Nearly all heads are a tenth of that.
const SMALL_HEAD: usize = 16 * 1024;
/// How many bytes longer heads may hold together before they are complete, and how many those of
/// one sender may hold. Without a bound they could hold the number of connections times the longest
/// head (128 KiB), which is more memory than the deployments grant.
const HEADS: usize = 32 * 1024 * 1024;
const SENDERS_HEADS: usize = HEADS / 2;
/// How many bytes of answers may wait to be sent before the next request of the connection begins.
const UNSENT: usize = 16 * 1024;
/// How often the server looks for stalled connections.
const SWEEP: Duration = Duration::from_millis(500);
/// actix-web's own timer has missed a connection that is idle this much longer than the keep-alive.
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

/// What a connection has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Action {
    /// It stays open.
    Stay,
    /// It is idle and closes, unless a request is arriving already.
    Leave,
    /// Its head does not arrive in time: 408.
    HeadTimedOut,
    /// Its head is long, and so are too many others: 503.
    HeadRefused,
    /// Its client does not read the answer: the connection is cut.
    Cut,
}

/// The state of one connection. The connection's own thread writes it, other threads read it.
pub(super) struct State {
    number: u64,
    pub(super) peer: IpAddr,
    sender: IpAddr,
    clock: Instant,
    /// Requests in progress, and whether the body of the last one is being read.
    requests: AtomicUsize,
    in_body: AtomicBool,
    /// Whether bytes of a later request have arrived that are not read yet.
    held_back: AtomicBool,
    /// Whether there has been a request. Until then actix-web's own timer watches the connection.
    served: AtomicBool,
    /// Whether part of a head has arrived, its length in bytes, and, if it is long, the memory for
    /// it: a part of its sender's share, and of all senders'.
    in_head: AtomicBool,
    head_bytes: AtomicUsize,
    head_memory: Mutex<Option<(Share, Share)>>,
    /// The time since when it is idle, or since when its head has been arriving. In milliseconds,
    /// as all times here.
    since: AtomicU64,
    /// The time since when an answer waits to be read, and the number of bytes read since. 0: no
    /// answer waits.
    blocked: AtomicU64,
    written: AtomicU64,
    /// How many bytes of answers are not sent, and the waker of the request that waits for them.
    unsent: AtomicUsize,
    room: AtomicWaker,
    action: AtomicU8,
    /// Wakes the connection to act on a decision, or to read on.
    pub(super) task: AtomicWaker,
}

impl Connections {
    /// The connections of a server that takes at most `limit`.
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

    /// Adds a connection. Idle ones are closed for it if slots run short.
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

    /// Removes a connection that is closed.
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

    /// How many connections are open.
    pub(super) fn count(&self) -> usize {
        self.open().states.len()
    }

    /// Closes stalled connections for as long as the server runs.
    pub(super) async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.sweep();
        }
    }

    fn sweep(&self) {
        for state in self.open().states.values() {
            if let Some(action) = state.stalls() {
                self.closed_stalled.fetch_add(1, Relaxed);
                state.set_action(action);
            }
        }
    }

    /// Has idle connections close until few enough are left. The newest stays: its request is
    /// arriving.
    fn make_room(&self, open: &Open, newest: u64) {
        let staying = open.states.values().filter(|state| state.action() == Action::Stay).count();
        let Some(too_many) = staying.checked_sub(self.crowded).filter(|more| *more > 0) else {
            return;
        };
        let others = open.states.values().filter(|state| state.number != newest);
        let mut idle: Vec<_> = others.filter(|state| state.may_leave()).collect();
        // The connections of a balancer go last. Of the others, those of the sender with the most
        // connections go first, and of those the one that has been idle longest: it is the least
        // likely to be used again.
        idle.sort_by_cached_key(|state| {
            let count = open.by_sender.get(&state.sender).copied().unwrap_or(0);
            (self.trusted.include(state.peer), Reverse(count), state.since.load(Relaxed))
        });
        for state in idle.into_iter().take(too_many + AT_ONCE) {
            self.closed_idle.fetch_add(1, Relaxed);
            let in_head = state.in_head.load(Relaxed);
            state.set_action(if in_head { Action::HeadTimedOut } else { Action::Leave });
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
            requests: AtomicUsize::new(0),
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
            action: AtomicU8::new(Action::Stay as u8),
            task: AtomicWaker::new(),
        };
        state.since.store(state.now(), Relaxed);
        state
    }

    /// The time in milliseconds, never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn for_longer_than(&self, since: &AtomicU64, time: Duration) -> bool {
        let waited = self.now().saturating_sub(since.load(Relaxed));
        u128::from(waited) > time.as_millis()
    }

    /// A request begins, since its head is complete.
    pub(super) fn begin(self: &Arc<Self>) -> RequestInProgress {
        self.in_body.store(false, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.served.store(true, Relaxed);
        self.in_head.store(false, Relaxed);
        if self.head_bytes.swap(0, Relaxed) > SMALL_HEAD {
            drop(self.head_memory().take());
        }
        RequestInProgress(Arc::clone(self))
    }

    pub(super) fn has_request(&self) -> bool {
        self.requests.load(Relaxed) > 0
    }

    /// The request in progress has a body, which is read now.
    pub(super) fn reads_a_body(&self) {
        self.in_body.store(true, Relaxed);
        self.read_on();
    }

    /// The body of the request in progress is complete.
    pub(super) fn body_is_complete(&self) {
        self.in_body.store(false, Relaxed);
    }

    /// Whether the next bytes belong to a later request, which begins when this one has ended.
    pub(super) fn reads_later(&self) -> bool {
        self.has_request() && !self.in_body.load(Relaxed)
    }

    /// Bytes of a later request have arrived.
    pub(super) fn hold_back(&self) {
        self.held_back.store(true, Relaxed);
    }

    /// The bytes of a later request may be read now.
    fn read_on(&self) {
        if self.held_back.load(Relaxed) {
            self.held_back.store(false, Relaxed);
            self.task.wake();
        }
    }

    /// A request has an answer of so many bytes, which is sent after the answers before it.
    pub(super) fn answered(&self, bytes: usize) {
        self.unsent.fetch_add(bytes, Relaxed);
    }

    /// Waits while too many bytes of earlier answers are not sent.
    pub(super) async fn room_for_an_answer(&self) {
        let has_room = || self.unsent.load(Relaxed) <= UNSENT || self.action() == Action::Cut;
        std::future::poll_fn(|context| {
            if has_room() {
                return Poll::Ready(());
            }
            self.room.register(context.waker());
            // There may be room since the check before the waker was registered.
            if has_room() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether part of a head has arrived and the rest has not.
    pub(super) fn is_in_head(&self) -> bool {
        self.in_head.load(Relaxed)
    }

    fn head_memory(&self) -> MutexGuard<'_, Option<(Share, Share)>> {
        self.head_memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes have arrived. Yields an error if the head is long and too many others are,
    /// too.
    pub(super) fn received(&self, bytes: usize, all: &Connections) -> Result<(), UsedUp> {
        if self.has_request() {
            return Ok(());
        }
        if !self.in_head.swap(true, Relaxed) {
            self.since.store(self.now(), Relaxed);
        }
        // The connection is not idle any more.
        let (leave, stay) = (Action::Leave as u8, Action::Stay as u8);
        let _ = self.action.compare_exchange(leave, stay, Relaxed, Relaxed);
        let head = self.head_bytes.fetch_add(bytes, Relaxed) + bytes;
        if head <= SMALL_HEAD {
            return Ok(());
        }
        let mut memory = self.head_memory();
        let shares = || (all.heads.share(self.sender), all.all_heads.share(UNKNOWN));
        let (own, together) = memory.get_or_insert_with(shares);
        own.grow_to(head).and_then(|()| together.grow_to(head))
    }

    /// So many of `wanted` bytes of answers were sent.
    pub(super) fn sent(&self, sent: usize, wanted: usize) {
        // When actix-http's last byte is sent, everything is sent. The length of its heads is an
        // estimate.
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
            // The bytes sent just now are in the kernel's buffer. The client has not read them yet.
            self.written.store(0, Relaxed);
            self.blocked.store(self.now(), Relaxed);
            return;
        }
        self.written.fetch_add(sent as u64, Relaxed);
    }

    pub(super) fn action(&self) -> Action {
        let action = self.action.load(Relaxed);
        let all = [Action::Leave, Action::HeadTimedOut, Action::HeadRefused, Action::Cut];
        all.into_iter().find(|it| *it as u8 == action).unwrap_or(Action::Stay)
    }

    pub(super) fn set_action(&self, action: Action) {
        self.action.store(action as u8, Relaxed);
        self.task.wake();
        self.room.wake();
    }

    /// Whether the connection may be closed for another one: it is idle, or its head has stopped
    /// arriving.
    fn may_leave(&self) -> bool {
        let idle = !self.has_request() && self.blocked.load(Relaxed) == 0;
        let stopped = || self.for_longer_than(&self.since, Duration::from_secs(1));
        self.action() == Action::Stay && idle && (!self.is_in_head() || stopped())
    }

    fn stalls(&self) -> Option<Action> {
        if self.action() == Action::Cut {
            return None;
        }
        let blocked = self.blocked.load(Relaxed);
        if blocked != 0 && self.for_longer_than(&self.blocked, WRITE_GRACE) {
            let waited = Duration::from_millis(self.now().saturating_sub(blocked)) - WRITE_GRACE;
            let wanted = waited.as_secs().saturating_mul(LEAST_WRITE_RATE);
            return (self.written.load(Relaxed) <= wanted).then_some(Action::Cut);
        }
        // A client that does not read would not receive a milder answer.
        if self.action() != Action::Stay || blocked != 0 || self.has_request() {
            return None;
        }
        if self.is_in_head() {
            let late =
                self.served.load(Relaxed) && self.for_longer_than(&self.since, HEAD_DEADLINE);
            return late.then_some(Action::HeadTimedOut);
        }
        let longest = KEEP_ALIVE + SLIPPED_THROUGH;
        self.for_longer_than(&self.since, longest).then_some(Action::Leave)
    }
}

/// A request in progress on a connection.
pub(super) struct RequestInProgress(Arc<State>);

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.0.since.store(self.0.now(), Relaxed);
        self.0.requests.fetch_sub(1, Relaxed);
        self.0.read_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::MAX_CONNECTIONS;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn leaving(states: &[Arc<State>]) -> Vec<usize> {
        let numbered = states.iter().enumerate();
        numbered.filter(|(_, it)| it.action() == Action::Leave).map(|(at, _)| at).collect()
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
        // The sender's few connections and the balancer's have been idle longest.
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
        assert_eq!(newest.action(), Action::Stay);
        // The closed connections leave room for as many new ones.
        let more = enter(1, AT_ONCE);
        assert_eq!(leaving(&many).len() + leaving(&few).len(), AT_ONCE + 1);
        // A request that arrives at the last moment keeps its connection.
        assert!(many[10].received(1, &connections).is_ok());
        assert_eq!(many[10].action(), Action::Stay);
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
        // A complete head holds no memory, nor does the head of a closed connection.
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
            // The clock begins with the test. To have times before that, the test moves the start
            // back.
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
        assert_eq!(first_head.stalls(), Some(Action::HeadTimedOut));
        assert_eq!(ago(KEEP_ALIVE).stalls(), None);
        assert_eq!(ago(KEEP_ALIVE + 6 * second).stalls(), Some(Action::Leave));
        let unread = ago(second);
        unread.blocked.store(unread.now() - 20_000, Relaxed);
        unread.written.store(9 * 1024, Relaxed);
        assert_eq!(unread.stalls(), Some(Action::Cut));
        unread.written.store(30 * 1024, Relaxed);
        assert_eq!(unread.stalls(), None, "it is read slowly, and fast enough");
        unread.blocked.store(unread.now() - 8_000, Relaxed);
        unread.in_head.store(true, Relaxed);
        unread.served.store(true, Relaxed);
        unread.since.store(unread.now() - 8_000, Relaxed);
        assert_eq!(unread.stalls(), None, "it would not read the 408 either");
        unread.set_action(Action::HeadTimedOut);
        unread.blocked.store(unread.now() - 20_000, Relaxed);
        unread.written.store(0, Relaxed);
        assert_eq!(unread.stalls(), Some(Action::Cut), "or has not read it");
        unread.set_action(Action::Stay);
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
