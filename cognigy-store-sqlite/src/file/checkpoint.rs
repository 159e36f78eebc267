//! Writing the WAL back into the database, beside the writer.
//!
//! SQLite's automatic checkpoint runs inside the commit that crosses a mark, so the callers of that
//! commit wait for thousands of page writes and one fsync more than all others. Here a thread with
//! a connection of its own writes most pages back while the writer thread goes on. The writer
//! thread then writes the few pages that were added meanwhile: the WAL begins anew, instead of
//! growing, only when nothing is left to write back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use crate::{
    config::{OVERDUE, REMAINDER_PAGES},
    error::SqliteError,
    file::{
        database::{Database, DatabaseConnection},
        write_back::lock,
    },
};

/// Passes over the WAL before the rest is left to the writer thread, however much that is. Under
/// full load each pass is shorter than the one before, and the third has little left to do.
const MAX_PASSES: usize = 3;

/// The thread that writes most pages back. Dropping it waits for the pass under way.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    asked: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    finished: Arc<AtomicBool>,
    pace: Pace,
}

impl Checkpointer {
    pub(crate) fn start(database: Database) -> Result<Self, SqliteError> {
        let (asked, requests) = sync_channel(1);
        let finished = Arc::new(AtomicBool::new(false));
        let pace = Pace::new(database.options.checkpoint_pages);
        let report = Arc::clone(&finished);
        let thread = thread::Builder::new()
            .name("sqlite-checkpoint".to_owned())
            .spawn(move || work_off(&database, &requests, &report))
            .map_err(SqliteError::Thread)?;
        Ok(Self { asked: Some(asked), thread: Some(thread), finished, pace })
    }

    /// What the writer does after each commit. A checkpoint that fails is tried again later: the
    /// pages stay in the WAL until they were written back and synced.
    pub(crate) fn after_commit(&mut self, writer: &DatabaseConnection) {
        let finished = self.finished.swap(false, Ordering::AcqRel);
        match self.pace.next(writer.wal_pages(), finished) {
            Step::GoOn => {}
            Step::AskForBulk => {
                if let Some(asked) = &self.asked {
                    // The channel is full: the thread was asked already.
                    let _ = asked.try_send(());
                }
            }
            Step::DoTheRest => drop(writer.checkpoint()),
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.asked = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn work_off(database: &Database, requests: &Receiver<()>, finished: &AtomicBool) {
    let slot = database.write_back.slot();
    while requests.recv().is_ok() {
        let mut place = lock(&slot);
        // Opened again after a failure, which closes it, and when the path leads to another file.
        let session = place.take().filter(|session| session.must_be_in_place().is_ok());
        *place = session.or_else(|| database.reopen().ok());
        if let Some(session) = &*place {
            // A failure is noted where the writer sees it: `WriteBack::perform`.
            drop(write_back(|| session.checkpoint()));
        }
        finished.store(true, Ordering::Release);
    }
}

/// Repeats `pass`, which tells how many pages the WAL has and how many of them are written back,
/// until little is left or a further pass would not help.
fn write_back(
    mut pass: impl FnMut() -> Result<(u32, u32), SqliteError>,
) -> Result<(), SqliteError> {
    for _ in 0..MAX_PASSES {
        let (all, done) = pass()?;
        if all.saturating_sub(done) <= REMAINDER_PAGES {
            break;
        }
    }
    Ok(())
}

/// When to do what, by the number of pages in the WAL.
#[derive(Debug)]
struct Pace {
    begin_at: u32,
    ask_at: u32,
    last: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    GoOn,
    AskForBulk,
    DoTheRest,
}

impl Pace {
    fn new(begin_at: u32) -> Self {
        Self { begin_at, ask_at: begin_at, last: 0 }
    }

    /// `pages` are in the WAL now; `finished`: the bulk has been written back since the last call.
    fn next(&mut self, pages: u32, finished: bool) -> Step {
        if pages < self.last {
            // The WAL began anew.
            self.ask_at = self.begin_at;
        }
        let overdue = self.begin_at.saturating_mul(OVERDUE);
        let crossed_overdue = self.last < overdue && pages >= overdue;
        self.last = pages;
        if finished || crossed_overdue {
            return Step::DoTheRest;
        }
        if pages >= self.ask_at {
            // Should a long query hold the WAL, the next try is due when as much has been added.
            self.ask_at = pages.saturating_add(self.begin_at);
            return Step::AskForBulk;
        }
        Step::GoOn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: u32 = 4000;

    /// How many passes are made if they end as told.
    fn passes(ends: impl IntoIterator<Item = (u32, u32)>) -> usize {
        let mut made = 0;
        let mut ends = ends.into_iter().inspect(|_| made += 1);
        write_back(|| Ok(ends.next().unwrap())).unwrap();
        made
    }

    #[test]
    fn passes_are_made_until_little_is_left() {
        let all = PAGES + REMAINDER_PAGES;
        assert_eq!(passes([(all, PAGES)]), 1);
        assert_eq!(passes([(all, PAGES - 1), (all, PAGES)]), 2);
        assert_eq!(passes(std::iter::repeat((all, 0))), MAX_PASSES, "a reader holds it");
    }

    #[test]
    fn the_thread_is_gone_when_its_handle_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.db");
        let database = Database::new(&path, crate::SqliteOptions::default()).unwrap();
        let writer = database.set_up().unwrap();
        let mut checkpointer = Checkpointer::start(database).unwrap();
        checkpointer.pace = Pace::new(0);
        checkpointer.after_commit(&writer);
        let held_by_the_thread = Arc::clone(&checkpointer.finished);
        drop(checkpointer);
        assert_eq!(Arc::strong_count(&held_by_the_thread), 1);
        assert!(held_by_the_thread.load(Ordering::Acquire), "what was asked for is done first");
    }

    #[test]
    fn the_bulk_is_asked_for_once_and_the_rest_done_when_it_is_written() {
        let mut pace = Pace::new(PAGES);
        assert_eq!(pace.next(PAGES - 1, false), Step::GoOn);
        assert_eq!(pace.next(PAGES, false), Step::AskForBulk);
        assert_eq!(pace.next(PAGES + 100, false), Step::GoOn);
        assert_eq!(pace.next(PAGES + 200, true), Step::DoTheRest);
        assert_eq!(pace.next(10, false), Step::GoOn, "the WAL began anew");
        assert_eq!(pace.next(PAGES, false), Step::AskForBulk);
    }

    #[test]
    fn a_held_wal_is_tried_again_and_a_dead_thread_is_made_up_for() {
        let mut pace = Pace::new(PAGES);
        assert_eq!(pace.next(PAGES, false), Step::AskForBulk);
        assert_eq!(pace.next(PAGES, false), Step::GoOn, "a transaction that wrote nothing");
        assert_eq!(pace.next(PAGES * 2 - 1, false), Step::GoOn);
        assert_eq!(pace.next(PAGES * 2, false), Step::AskForBulk);
        assert_eq!(pace.next(OVERDUE * PAGES, false), Step::DoTheRest);
        assert_eq!(pace.next(OVERDUE * PAGES + 1, false), Step::AskForBulk);
        assert_eq!(pace.next(OVERDUE * PAGES + 2, false), Step::GoOn);
    }
}
