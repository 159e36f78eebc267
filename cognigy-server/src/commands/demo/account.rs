//! The account: compares what the server reports with what the sender, the CRM and the queue
//! counted.

use serde_json::Value;

use super::{
    traffic::Sent,
    world::{PretendCrm, PretendQueue, SHAKY_FAILURES},
};
use crate::{error::StartError, output::say};

/// How many attempts each dead letter had.
const ATTEMPTS: u64 = 4;

/// One line of the account: a name, the expected number and the counted one.
struct Line {
    what: &'static str,
    expected: u64,
    actual: u64,
}

/// All lines, and the answers that the sender did not expect.
pub(super) struct Account {
    lines: Vec<Line>,
    surprises: Vec<String>,
}

impl Account {
    /// Compares what was sent with what the server, the CRM and the queue counted, after one dead
    /// letter was replayed.
    pub(super) fn draw_up(
        sent: &Sent,
        stats: &Value,
        crm: &PretendCrm,
        queue: &PretendQueue,
        replayed: &Value,
    ) -> Self {
        let said = |group: &str, name: &str| stats[group][name].as_u64().unwrap_or(u64::MAX);
        let (new, down) = (u64::from(sent.new), u64::from(sent.down));
        let (events, callbacks) = (u64::from(sent.events()), u64::from(sent.callbacks));
        let (shaky, strangers) = (u64::from(sent.shaky), u64::from(sent.strangers));
        let asked = crm.asked();
        let asked = |kind: &str| asked.get(kind).copied().unwrap_or_default();
        let dead_letters = queue.dead_letters();
        let mut ids: Vec<_> =
            dead_letters.iter().map(|dead_letter| dead_letter.key.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let (received, refused) = (said("deliveries", "received"), said("deliveries", "refused"));
        let (processed, dead) = (said("events", "processed"), said("events", "dead_lettered"));
        let (duplicates, conflicts) =
            (said("deliveries", "duplicates"), said("deliveries", "conflicts"));
        let line = |what, expected, actual| Line { what, expected, actual };
        let lines = vec![
            line("deliveries received", u64::from(sent.total()), received),
            line(
                "  of them with new events",
                u64::from(sent.new + sent.callbacks + sent.batches),
                said("deliveries", "new"),
            ),
            line("  of them duplicates", u64::from(sent.duplicates), duplicates),
            line("  of them conflicts (quarantined)", u64::from(sent.conflicts), conflicts),
            line(
                "  of them refused (forged, invalid)",
                u64::from(sent.forged + sent.invalid),
                refused,
            ),
            line(
                "new + duplicates + conflicts + refused",
                received,
                said("deliveries", "new") + duplicates + conflicts + refused,
            ),
            line("events processed (one by replay)", events - down + 1, processed),
            line("events dead-lettered", down - 1, dead),
            line("events waiting", 0, said("events", "waiting")),
            line(
                "processed + dead-lettered + waiting",
                events,
                processed + dead + said("events", "waiting"),
            ),
            line(
                "bodies in quarantine",
                u64::from(sent.invalid + sent.conflicts),
                stats["quarantined"].as_u64().unwrap_or(u64::MAX),
            ),
            line("CRM asked about known people", new - down - shaky - strangers, asked("customer")),
            line("events handed on, each with a right signature", processed, crm.handed_on()),
            line("CRM asked about users of callbacks", callbacks, asked("callback")),
            line("CRM asked as HubSpot is", u64::from(sent.cloud_events), asked("cloud")),
            line("CRM asked about strangers", strangers, asked("stranger")),
            line(
                "CRM asked while it failed for a while",
                shaky * (SHAKY_FAILURES + 1),
                asked("shaky"),
            ),
            line(
                "CRM asked while it stayed down, and by replay",
                down * ATTEMPTS + 1,
                asked("down"),
            ),
            line("messages in the dead-letter queue", down, dead_letters.len() as u64),
            line("  of them of different events", down, ids.len() as u64),
            line("replay answered \"replayed\"", 1, u64::from(replayed["status"] == "replayed")),
        ];
        Self { lines, surprises: sent.surprises.clone() }
    }

    /// Prints the table. Yields whether everything adds up.
    pub(super) fn print(&self) -> Result<bool, StartError> {
        say!("{:<48} {:>9} {:>9}", "What happened", "expected", "counted")?;
        let mut adds_up = self.surprises.is_empty();
        for Line { what, expected, actual } in &self.lines {
            let mark = if expected == actual { "" } else { "  <- does not add up" };
            adds_up &= expected == actual;
            say!("{what:<48} {expected:>9} {actual:>9}{mark}")?;
        }
        for surprise in self.surprises.iter().take(10) {
            say!("unexpected answer: {surprise}")?;
        }
        say!(
            "\n{}",
            if adds_up {
                "Everything adds up: nothing lost, nothing run twice."
            } else {
                "It does NOT add up."
            }
        )?;
        Ok(adds_up)
    }
}
