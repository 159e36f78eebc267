//! A plan, drawn from a seed.
//!
//! Swarm testing: each run switches most faults off and turns the rest up, because faults that are
//! all on at once hide one another. Sizes are small, because small cases reach more states.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cognigy_core::{AfterDeadLetter, EventOrder, Jitter, RetryPolicy, WorkerOptions};
use fastrand::Rng;

use crate::{
    dice::{Latency, dice, happens},
    executor::Micros,
    fault::Fault,
    plan::{Body, Delivery, Incident, Nature, Part, Plan, SECOND, Settings, What},
};

const MILLI: Micros = 1000;

/// The most events that a delivery carries besides its first: enough for a start, a middle and an end.
const MOST_OTHERS: u8 = 3;

/// The faults that strike by chance, and their highest rate: for each store call, CRM call, …
const RATES: &[(Fault, f64)] = &[
    (Fault::StoreErrorBefore, 0.3),
    (Fault::StoreErrorAfter, 0.3),
    (Fault::StoreOverloaded, 0.2),
    (Fault::StoreStuckBefore, 0.04),
    (Fault::StoreStuckAfter, 0.04),
    (Fault::StoreSlow, 0.05),
    (Fault::CrashBeforeCommit, 0.02),
    (Fault::CrashAfterCommit, 0.02),
    (Fault::CrashInHandler, 0.05),
    (Fault::CrashAfterSink, 0.1),
    (Fault::CrmTransient, 0.6),
    (Fault::CrmRetryAfter, 0.3),
    (Fault::CrmPermanent, 0.2),
    (Fault::CrmErrorAfter, 0.3),
    (Fault::CrmStuck, 0.2),
    (Fault::CrmPanic, 0.2),
    (Fault::HandlerTransient, 0.6),
    (Fault::HandlerPermanent, 0.2),
    (Fault::HandlerErrorAfter, 0.3),
    (Fault::HandlerStuck, 0.2),
    (Fault::HandlerPanic, 0.3),
    (Fault::SinkPartial, 0.5),
    (Fault::SinkPermanent, 0.3),
    (Fault::SinkErrorAfter, 0.4),
    (Fault::SinkStuck, 0.2),
    (Fault::SinkStuckAfter, 0.2),
    (Fault::SinkPanic, 0.2),
    (Fault::SinkShort, 0.2),
    (Fault::QueueReceive, 0.3),
    (Fault::QueueDelete, 0.5),
    (Fault::DeliveryDropped, 0.7),
    (Fault::OperatorGone, 0.3),
];

impl Plan {
    /// The plan of `seed`.
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        let mut rng = dice(seed, "plan");
        let rng = &mut rng;
        let settings = settings(rng);
        let processes = settings.clocks.len();
        let events = rng.u32(1..=12);
        let deliveries = deliveries(rng, events, processes, settings.quiet_at);
        let incidents = incidents(rng, events, &settings);
        let mut natures = BTreeMap::new();
        for event in 0..events {
            if happens(rng, 0.15) {
                natures.insert(event, nature(rng));
            }
        }
        let mut rates = BTreeMap::new();
        let on = rng.f64() * 0.5;
        for (fault, most) in RATES {
            if happens(rng, on) {
                rates.insert(*fault, most * rng.f64());
            }
        }
        let spared = BTreeSet::new();
        let order = 0;
        let mut plan =
            Self { seed, order, settings, deliveries, incidents, natures, rates, spared };
        with_long_outage(&mut plan);
        with_order(&mut plan);
        with_several_events(&mut plan, events);
        plan
    }
}

fn one_of<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(0..choices.len())]
}

fn settings(rng: &mut Rng) -> Settings {
    let processes = one_of(rng, &[1, 1, 2, 2, 3]);
    let mut clocks = vec![0; processes];
    if happens(rng, 0.25) {
        // Up to ten minutes: far beyond any lease of these runs.
        let most = one_of(rng, &[2_000_000, 30_000_000, 600_000_000_i64]);
        for clock in &mut clocks {
            *clock = rng.i64(-most..=most);
        }
    }
    let latency = |rng: &mut Rng, scales: &[u64]| {
        let scale = one_of(rng, scales);
        match rng.u8(0..4) {
            0 => Latency::HeavyTailed(scale),
            1 => Latency::Uniform(0),
            _ => Latency::Uniform(scale * 10),
        }
    };
    let max_delay = one_of(rng, &[2, 10, 60]);
    Settings {
        reference_store: happens(rng, 0.4),
        remote_store: rng.bool(),
        event_order: EventOrder::Any,
        contacts: 0,
        clocks,
        workers: one_of(rng, &[1, 1, 2]),
        options: WorkerOptions {
            concurrency: one_of(rng, &[1, 2, 4, 16]),
            batch: one_of(rng, &[1, 4, 16]),
            poll_interval: Duration::from_millis(one_of(rng, &[200, 500, 2000])),
            grace: Duration::from_secs(one_of(rng, &[0, 2, 20])),
        },
        lease: Duration::from_secs(one_of(rng, &[3, 10, 30])),
        attempt_timeout: Duration::from_secs(one_of(rng, &[2, 8, 40])),
        retry: RetryPolicy {
            max_attempts: rng.u32(1..=5),
            base_delay: Duration::from_millis(one_of(rng, &[50, 500, 2000])),
            max_delay: Duration::from_secs(max_delay),
            jitter: one_of(rng, &[Jitter::None, Jitter::Equal, Jitter::Full]),
        },
        max_lost_leases: rng.u32(1..=4),
        sink_retry: RetryPolicy {
            max_attempts: 1,
            base_delay: Duration::from_millis(one_of(rng, &[100, 2000])),
            max_delay: Duration::from_secs(one_of(rng, &[5, 60])),
            jitter: one_of(rng, &[Jitter::None, Jitter::Equal, Jitter::Full]),
        },
        store: latency(rng, &[1, 2 * MILLI, 20 * MILLI]),
        crm: latency(rng, &[MILLI, 50 * MILLI, 400 * MILLI]),
        handler: latency(rng, &[MILLI, 50 * MILLI, 400 * MILLI]),
        sink: latency(rng, &[MILLI, 100 * MILLI]),
        quiet_at: rng.u64(20..=180) * SECOND,
        settling_handler: happens(rng, 0.3),
    }
}

fn deliveries(rng: &mut Rng, events: u32, processes: usize, quiet_at: Micros) -> Vec<Delivery> {
    // Together or spread out.
    let span = one_of(rng, &[0, SECOND / 10, 5 * SECOND, quiet_at]);
    let mut deliveries = Vec::new();
    for event in 0..events {
        let first = rng.u64(0..=span);
        let copies = one_of(rng, &[1, 1, 1, 2, 3, 6]);
        for copy in 0..copies {
            let body = if copy == 0 && !happens(rng, 0.1) { Body::Genuine } else { body(rng) };
            // At the same moment, soon after, or long after.
            let latest = one_of(rng, &[0, SECOND, quiet_at]);
            let later = rng.u64(0..=latest);
            deliveries.push(Delivery {
                at: (first + later).min(quiet_at),
                event,
                body,
                others: Vec::new(),
                process: rng.usize(0..processes),
                patience: one_of(rng, &[SECOND / 5, 2 * SECOND, 10 * SECOND]),
                tries: rng.u32(1..=6),
            });
        }
    }
    deliveries
}

fn body(rng: &mut Rng) -> Body {
    match rng.u8(0..10) {
        0..=3 => Body::Genuine,
        4..=5 => Body::Reworded,
        6..=7 => Body::Contradicting(rng.u8(0..2)),
        8 => Body::Invalid(rng.u8(0..4)),
        _ => Body::Forged(rng.u8(0..6)),
    }
}

fn nature(rng: &mut Rng) -> Nature {
    one_of(
        rng,
        &[
            Nature::Refused,
            Nature::AlwaysFails,
            Nature::AlwaysPanics,
            Nature::NeverEnds,
            Nature::KillsProcess,
            Nature::Unreadable,
            Nature::Anonymous,
        ],
    )
}

fn incidents(rng: &mut Rng, events: u32, settings: &Settings) -> Vec<Incident> {
    let processes = settings.clocks.len();
    let quiet_at = settings.quiet_at;
    let lease = u64::try_from(settings.lease.as_micros()).unwrap_or(0);
    let mut incidents = Vec::new();
    let mut add = |rng: &mut Rng, most: usize, make: &mut dyn FnMut(&mut Rng) -> What| {
        if happens(rng, 0.4) {
            for _ in 0..rng.usize(1..=most) {
                let what = make(rng);
                incidents.push(Incident { at: rng.u64(0..quiet_at), what });
            }
        }
    };
    let process = |rng: &mut Rng| rng.usize(0..processes);
    let some = |rng: &mut Rng| rng.u32(0..events);
    add(rng, 6, &mut |rng| What::Crash {
        process: process(rng),
        polls: rng.u64(0..60),
        down: one_of(rng, &[0, SECOND, lease / 2, 2 * lease]),
        // Mostly right; sometimes the wall clock was corrected meanwhile, by up to five minutes.
        clock: one_of(rng, &[0, 0, 0, -20, -300, 20, 300]) * 1_000_000,
    });
    add(rng, 3, &mut |rng| What::Stop {
        process: process(rng),
        down: one_of(rng, &[0, SECOND, lease]),
    });
    add(rng, 4, &mut |rng| What::Stall {
        process: process(rng),
        time: one_of(rng, &[lease / 4, lease, 3 * lease]),
    });
    add(rng, 2, &mut |rng| What::ClockAhead {
        process: process(rng),
        by: one_of(rng, &[SECOND, lease, 300 * SECOND]),
    });
    add(rng, 8, &mut |rng| What::Replay {
        process: process(rng),
        event: some(rng),
        patience: one_of(rng, &[SECOND, 60 * SECOND]),
    });
    add(rng, 4, &mut |rng| What::Requeue {
        process: process(rng),
        events: (0..events + 1).filter(|_| rng.bool()).collect(),
    });
    add(rng, 3, &mut |rng| What::Purge {
        process: process(rng),
        age: one_of(rng, &[0, SECOND, 30 * SECOND]),
    });
    add(rng, 3, &mut |rng| What::Redrive { process: process(rng) });
    add(rng, 2, &mut |rng| What::RetryQuarantine { process: process(rng) });
    add(rng, 2, &mut |rng| What::StoreOutage {
        time: one_of(rng, &[SECOND, lease, 2 * lease, 40 * SECOND]),
    });
    add(rng, 2, &mut |rng| What::CrmOutage { time: one_of(rng, &[2, 20, 100]) * SECOND });
    add(rng, 2, &mut |rng| What::SinkOutage { time: one_of(rng, &[2, 20, 100]) * SECOND });
    incidents.sort_by_key(|incident| incident.at);
    incidents
}

/// In some runs a few contacts' events come one after the other.
fn with_order(plan: &mut Plan) {
    let mut rng = dice(plan.seed, "order");
    if happens(&mut rng, 0.35) {
        plan.settings.event_order = EventOrder::PerContact(AfterDeadLetter::Continue);
        plan.settings.contacts = rng.u32(1..=3);
    }
}

/// In some runs a few deliveries carry several events.
fn with_several_events(plan: &mut Plan, events: u32) {
    let mut rng = dice(plan.seed, "several events");
    if !happens(&mut rng, 0.4) {
        return;
    }
    for delivery in &mut plan.deliveries {
        if happens(&mut rng, 0.4) {
            for _ in 0..rng.u8(1..=MOST_OTHERS) {
                let event = rng.u32(0..events);
                let body = match rng.u8(0..8) {
                    0..=5 => Body::Genuine,
                    6 => Body::Reworded,
                    _ => Body::Contradicting(rng.u8(0..2)),
                };
                delivery.others.push(Part { event, body });
            }
        }
    }
}

/// An outage of hours needs a worker that looks rarely: the run would be too long otherwise.
fn with_long_outage(plan: &mut Plan) {
    let mut rng = dice(plan.seed, "long outage");
    if !happens(&mut rng, 0.03) {
        return;
    }
    let time = rng.u64(1..=6) * 3600 * SECOND;
    plan.incidents.insert(0, Incident { at: 0, what: What::SinkOutage { time } });
    plan.settings.quiet_at += time;
    plan.settings.options.poll_interval = Duration::from_secs(30);
    plan.settings.sink_retry.max_delay = Duration::from_secs(600);
    plan.settings.lease = Duration::from_secs(60);
}
