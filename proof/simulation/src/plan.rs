//! The parts of a run: settings, deliveries, incidents, and how often each fault strikes.
//!
//! A plan is plain data, drawn from a seed ([`draw`](crate::draw)) and made smaller by the
//! shrinker. The same plan always makes the same run.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cognigy_core::{EventOrder, RetryPolicy, WorkerOptions};

use crate::{dice::Latency, executor::Micros, fault::Fault};

/// One second of virtual time.
pub(crate) const SECOND: Micros = 1_000_000;

/// A run, before it runs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed of every choice.
    pub seed: u64,
    /// Selects the order in which ready tasks are polled. The shrinker tries several.
    pub order: u64,
    /// How the pipeline and the world are set up.
    pub settings: Settings,
    /// What senders send.
    pub deliveries: Vec<Delivery>,
    /// What operators and accidents do.
    pub incidents: Vec<Incident>,
    /// Events that always fail in a certain way, by number.
    pub natures: BTreeMap<u32, Nature>,
    /// How likely each fault is, each time it could strike. Absent: never.
    pub rates: BTreeMap<Fault, f64>,
    /// Faults, by their identity in the run, that are left out. Filled by the shrinker.
    pub spared: BTreeSet<u64>,
}

/// How the pipeline and the world are set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether the events are on the core's own reference store instead of the simulated disk.
    pub reference_store: bool,
    /// Whether the store is a separate server, so that a call may take effect after its process has
    /// crashed.
    pub remote_store: bool,
    /// Whether the store keeps the order of each contact's events.
    pub event_order: EventOrder,
    /// How many contacts the events belong to; 0: one contact for each event.
    pub contacts: u32,
    /// Processes on the one store: how far each one's clock is ahead, in microseconds.
    pub clocks: Vec<i64>,
    /// Workers in each process.
    pub workers: usize,
    /// How each of them works.
    pub options: WorkerOptions,
    /// How long a claim lives.
    pub lease: Duration,
    /// How long an attempt may take.
    pub attempt_timeout: Duration,
    /// How events are retried.
    pub retry: RetryPolicy,
    /// How many leases a run may lose.
    pub max_lost_leases: u32,
    /// How dead letters are retried.
    pub sink_retry: RetryPolicy,
    /// How long the store takes for half a call.
    pub store: Latency,
    /// How long the CRM takes.
    pub crm: Latency,
    /// How long the handler takes.
    pub handler: Latency,
    /// Whether the handler settles its events itself.
    pub settling_handler: bool,
    /// How long the sink takes.
    pub sink: Latency,
    /// No new fault strikes after this time.
    pub quiet_at: Micros,
}

/// A body on its way in.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// When.
    pub at: Micros,
    /// Which event.
    pub event: u32,
    /// What is in it.
    pub body: Body,
    /// Further events in the same delivery.
    pub others: Vec<Part>,
    /// Which process is asked first.
    pub process: usize,
    /// How long the sender waits for an answer.
    pub patience: Micros,
    /// How often the sender tries before it gives up.
    pub tries: u32,
}

/// An event in a delivery of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Part {
    /// Which event.
    pub event: u32,
    /// What is in it.
    pub body: Body,
}

impl Delivery {
    /// The events in it, in order.
    pub fn parts(&self) -> impl Iterator<Item = Part> + '_ {
        let first = Part { event: self.event, body: self.body };
        std::iter::once(first).chain(self.others.iter().copied())
    }

    /// Whether it brings `event`, perhaps among others.
    pub(crate) fn brings(&self, event: u32) -> bool {
        self.parts().any(|part| part.event == event)
    }
}

/// What a delivery holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Body {
    /// The event.
    Genuine,
    /// The event in other bytes that say the same.
    Reworded,
    /// Something else under the event's id.
    Contradicting(u8),
    /// Signed, but no event.
    Invalid(u8),
    /// Not signed with the right secret.
    Forged(u8),
}

/// Something that happens at a time.
#[derive(Debug, Clone)]
pub struct Incident {
    /// When.
    pub at: Micros,
    /// What.
    pub what: What,
}

/// What operators and accidents do.
#[derive(Debug, Clone)]
pub enum What {
    /// A process crashes after so many further polls and starts again.
    Crash {
        /// Which.
        process: usize,
        /// After how many polls of its tasks.
        polls: u64,
        /// For how long it is gone.
        down: Micros,
        /// How much its clock is ahead afterwards, compared to before.
        clock: i64,
    },
    /// A process is stopped gracefully and starts again.
    Stop {
        /// Which.
        process: usize,
        /// For how long it is gone.
        down: Micros,
    },
    /// A process is paused.
    Stall {
        /// Which.
        process: usize,
        /// For how long.
        time: Micros,
    },
    /// A process's clock jumps ahead.
    ClockAhead {
        /// Which.
        process: usize,
        /// How far.
        by: Micros,
    },
    /// An operator replays an event and waits.
    Replay {
        /// Where.
        process: usize,
        /// Which event.
        event: u32,
        /// For how long the operator waits.
        patience: Micros,
    },
    /// An operator has events run again.
    Requeue {
        /// Where.
        process: usize,
        /// Which events.
        events: Vec<u32>,
    },
    /// Older events are purged.
    Purge {
        /// Where.
        process: usize,
        /// Older than this.
        age: Micros,
    },
    /// An operator takes dead letters back from the queue.
    Redrive {
        /// Where.
        process: usize,
    },
    /// An operator tries everything in quarantine again.
    RetryQuarantine {
        /// Where.
        process: usize,
    },
    /// The store is down.
    StoreOutage {
        /// For how long.
        time: Micros,
    },
    /// The CRM is down.
    CrmOutage {
        /// For how long.
        time: Micros,
    },
    /// The sink is down.
    SinkOutage {
        /// For how long.
        time: Micros,
    },
}

/// A failure that one event always has, whatever else happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nature {
    /// The CRM refuses it for good.
    Refused,
    /// Its handler fails each time.
    AlwaysFails,
    /// Its handler panics each time.
    AlwaysPanics,
    /// Its handler never ends.
    NeverEnds,
    /// Its handler kills the process each time.
    KillsProcess,
    /// Its stored body cannot be read back.
    Unreadable,
    /// It names no contact, so the CRM is not asked.
    Anonymous,
}

impl Plan {
    /// The event's contact, if the order of that contact's events is kept.
    pub(crate) fn lane(&self, event: u32) -> Option<u32> {
        let is_kept = self.settings.event_order.is_kept();
        let is_anonymous = self.natures.get(&event) == Some(&Nature::Anonymous);
        (is_kept && !is_anonymous).then(|| self.contact(event))
    }

    /// The number of the event's contact.
    pub(crate) fn contact(&self, event: u32) -> u32 {
        if self.settings.contacts == 0 { event } else { event % self.settings.contacts }
    }

    /// How long it may take until everything has ended, once no new fault strikes: the longest
    /// chain of waits that the settings allow, one after the other.
    pub(crate) fn patience(&self) -> Micros {
        let settings = &self.settings;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let lease = micros(settings.lease);
        let attempt = micros(settings.attempt_timeout);
        // An attempt: found, taken over, run to its timeout, its outcome stored, the wait after it.
        // A store call that hangs is given up within a lease, and each step may have met one.
        let one = micros(settings.retry.max_delay) + attempt + 4 * lease + 20 * SECOND;
        let one = one + micros(settings.options.poll_interval) + micros(settings.options.grace);
        let run = one * u64::from(settings.retry.max_attempts + settings.max_lost_leases + 1);
        // Dead letters: a send to its timeout, the wait after it, and another.
        let dead_letter = 2 * (attempt + micros(settings.sink_retry.max_delay) + 2 * lease);
        let senders = self
            .deliveries
            .iter()
            .map(|delivery| u64::from(delivery.tries) * (delivery.patience + 3 * SECOND));
        // Attempts that never end hold their slots until the timeout, one after the other.
        let slow = self
            .natures
            .values()
            .filter(|nature| matches!(nature, Nature::NeverEnds | Nature::KillsProcess));
        let slow = slow.count() as u64 * run;
        // Where the order is kept, one run follows the other, with the wait after each attempt.
        let in_a_row = match self.settings.event_order.is_kept() {
            true => self
                .deliveries
                .iter()
                .flat_map(Delivery::parts)
                .map(|part| u64::from(part.event) + 1)
                .max(),
            false => None,
        };
        let run = run * in_a_row.unwrap_or(1);
        3 * (run + slow + dead_letter) + senders.max().unwrap_or(0) + self.clock_error()
    }

    /// The largest difference between two clocks of the run.
    pub(crate) fn clock_error(&self) -> Micros {
        let steps = self.incidents.iter().map(|incident| match incident.what {
            What::Crash { clock, .. } => clock.unsigned_abs(),
            What::ClockAhead { by, .. } => by,
            _ => 0,
        });
        let skew = self.settings.clocks.iter().map(|clock| clock.unsigned_abs());
        2 * steps.chain(skew).sum::<Micros>()
    }
}

impl Plan {
    /// Whether it names only existing processes.
    pub(crate) fn is_sound(&self) -> bool {
        let processes = self.settings.clocks.len();
        let by_incident = self.incidents.iter().filter_map(|incident| match incident.what {
            What::Crash { process, .. }
            | What::Stop { process, .. }
            | What::Stall { process, .. }
            | What::ClockAhead { process, .. }
            | What::Replay { process, .. }
            | What::Requeue { process, .. }
            | What::Purge { process, .. }
            | What::Redrive { process }
            | What::RetryQuarantine { process } => Some(process),
            What::StoreOutage { .. } | What::CrmOutage { .. } | What::SinkOutage { .. } => None,
        });
        let by_delivery = self.deliveries.iter().map(|delivery| delivery.process);
        by_incident.chain(by_delivery).all(|process| process < processes)
    }
}
