//! Writing the WAL back into the database, beside the writer.
//!
//! SQLite's automatic checkpoint belongs to whichever commit crosses a mark: its callers wait for
//! thousands of page writes and an fsync more than anybody else. Here a thread with a connection of
//! its own writes the bulk back while the writer goes on, and the writer does the few pages that
//! were added meanwhile: only when nothing is left does the WAL begin anew instead of growing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use crate::{
    config::{CHECKPOINT_PAGES, OVERDUE_PAGES, REMAINDER_PAGES},
    database::{Database, Session},
    error::Problem,
};

/// Passes over the WAL before the rest is left to the writer, however much that is: under full load
/// each pass is shorter than the one before, and the third has little left to do.
const MAX_PASSES: usize = 3;

/// The thread that does the bulk. Dropping it waits for the pass under way.
#[derive(Debug)]
pub(crate) struct Checkpointer {
    asked: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    finished: Arc<AtomicBool>,
    pace: Pace,
}

impl Checkpointer {
    pub(crate) fn start(database: Database) -> Result<Self, Problem> {
        let (asked, requests) = sync_channel(1);
        let finished = Arc::new(AtomicBool::new(false));
        let report = Arc::clone(&finished);
        let thread = thread::Builder::new()
            .name("sqlite-checkpoint".to_owned())
            .spawn(move || work_off(&database, &requests, &report))
            .map_err(Problem::Thread)?;
        Ok(Self { asked: Some(asked), thread: Some(thread), finished, pace: Pace::default() })
    }

    /// What the writer does after each commit. A checkpoint that fails is tried again later: the
    /// pages stay in the WAL until they were written back and synced.
    pub(crate) fn after_commit(&mut self, writer: &Session) {
        let finished = self.finished.swap(false, Ordering::AcqRel);
        match self.pace.next(writer.wal_pages(), finished) {
            Step::GoOn => {}
            Step::AskForBulk => {
                if let Some(asked) = &self.asked {
                    // Full: it was asked already.
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
    let mut session = None;
    while requests.recv().is_ok() {
        // Opened again after any failure, and when the path leads to another file.
        session = session.filter(|session: &Session| session.must_be_in_place().is_ok());
        session = session.or_else(|| database.reopen().ok()).and_then(|session| {
            match write_back(&session) {
                Ok(()) => Some(session),
                Err(problem) if problem.is_busy() => Some(session),
                Err(_) => None,
            }
        });
        finished.store(true, Ordering::Release);
    }
}

fn write_back(session: &Session) -> Result<(), Problem> {
    for _ in 0..MAX_PASSES {
        let (all, done) = session.checkpoint()?;
        if all.saturating_sub(done) <= REMAINDER_PAGES {
            break;
        }
    }
    Ok(())
}

/// When to do what, by the number of pages in the WAL.
#[derive(Debug)]
struct Pace {
    ask_at: u32,
    last: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    GoOn,
    AskForBulk,
    DoTheRest,
}

impl Default for Pace {
    fn default() -> Self {
        Self { ask_at: CHECKPOINT_PAGES, last: 0 }
    }
}

impl Pace {
    /// `pages` are in the WAL now; `finished`: the bulk has been written back since the last call.
    fn next(&mut self, pages: u32, finished: bool) -> Step {
        if pages < self.last {
            // It began anew.
            self.ask_at = CHECKPOINT_PAGES;
        }
        let crossed_overdue = self.last < OVERDUE_PAGES && pages >= OVERDUE_PAGES;
        self.last = pages;
        if finished || crossed_overdue {
            return Step::DoTheRest;
        }
        if pages >= self.ask_at {
            // Should a long query hold the WAL, the next try is due when as much has been added.
            self.ask_at = pages.saturating_add(CHECKPOINT_PAGES);
            return Step::AskForBulk;
        }
        Step::GoOn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bulk_is_asked_for_once_and_the_rest_done_when_it_is_written() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(CHECKPOINT_PAGES - 1, false), Step::GoOn);
        assert_eq!(pace.next(CHECKPOINT_PAGES, false), Step::AskForBulk);
        assert_eq!(pace.next(CHECKPOINT_PAGES + 100, false), Step::GoOn);
        assert_eq!(pace.next(CHECKPOINT_PAGES + 200, true), Step::DoTheRest);
        assert_eq!(pace.next(10, false), Step::GoOn, "the WAL began anew");
        assert_eq!(pace.next(CHECKPOINT_PAGES, false), Step::AskForBulk);
    }

    #[test]
    fn a_held_wal_is_tried_again_and_a_dead_thread_is_made_up_for() {
        let mut pace = Pace::default();
        assert_eq!(pace.next(CHECKPOINT_PAGES, false), Step::AskForBulk);
        assert_eq!(pace.next(CHECKPOINT_PAGES * 2 - 1, false), Step::GoOn);
        assert_eq!(pace.next(CHECKPOINT_PAGES * 2, false), Step::AskForBulk);
        assert_eq!(pace.next(OVERDUE_PAGES + 1, false), Step::DoTheRest);
        assert_eq!(pace.next(OVERDUE_PAGES + 2, false), Step::AskForBulk);
        assert_eq!(pace.next(OVERDUE_PAGES + 3, false), Step::GoOn);
    }
}
