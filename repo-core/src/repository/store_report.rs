//! What was found out about the store: kept in the repository for who asks later (`docs/format.md` section 11).

use serde::{Deserialize, Serialize};

use crate::{
    crypto::keys::ObjectKind,
    error::{Error, Result, StoreErrorKind},
    repository::Repository,
    store::{ObjectName, Place},
    time::Timestamp,
};

/// How thorough to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// About forty requests: for a new repository.
    Short,
    /// Some thousands: listings of several pages, and what happens when several clients do the same at once.
    Long,
}

/// What a store was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Question {
    /// Is what was stored there, whole, and in listings, when it has to be?
    Visibility,
    /// Is what was deleted gone?
    Deleting,
    /// Are parts of objects the right parts?
    Ranges,
    /// Is an object that is there left alone by who stores another of its name?
    Replacing,
    /// Of several who make the same object at the same time, does exactly one succeed?
    Races,
    /// Does its clock agree with this machine's?
    Clock,
    /// Do long listings, beside which others store and delete, tell of everything that was there all the time?
    Paging,
    /// Is this client permitted what a prune needs?
    Rights,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Answer {
    /// As it should be.
    Kept,
    /// Something does not work there, or needs care; backups are safe.
    Weak,
    /// Backups are not safe there.
    Broken,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was asked.
    pub question: Question,
    /// What came of it.
    pub answer: Answer,
    /// What was seen, in a sentence.
    pub detail: String,
}

/// What was found out about a store, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which program asked.
    pub program: String,
    /// Where the store was, as that program named it.
    pub location: String,
    /// When, by that program's clock.
    pub made: Timestamp,
    /// How thorough it was.
    pub extent: Extent,
    /// How many seconds the store's clock was ahead, if it tells times at all.
    pub clock_ahead_seconds: Option<i64>,
    /// All answers.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The worst of all answers.
    #[must_use]
    pub fn worst(&self) -> Answer {
        self.findings.iter().map(|finding| finding.answer).max().unwrap_or(Answer::Kept)
    }
}

impl Repository {
    /// Keeps a report in place of those that are there, as far as they may be deleted. They are a courtesy, and lie below `locks/`, where every client may put and
    /// delete.
    ///
    /// # Errors
    /// When the store fails.
    pub fn keep_store_report(&self, report: &Report) -> Result<()> {
        let id = self.save(Place::Locks, ObjectKind::StoreReport, report)?;
        for earlier in self.notes()?.store_reports {
            let name = ObjectName::new(Place::Locks, earlier);
            if name.id() != id {
                match self.delete_object(&name) {
                    // The newest counts.
                    Err(Error::Store(error)) if error.kind == StoreErrorKind::Denied => break,
                    result => result?,
                }
            }
        }
        Ok(())
    }

    /// Keeps a report in a repository that was just made, where there is none that it replaces.
    ///
    /// # Errors
    /// When the store fails.
    pub fn keep_first_store_report(&self, report: &Report) -> Result<()> {
        self.save(Place::Locks, ObjectKind::StoreReport, report).map(drop)
    }

    /// The newest report that is kept; one that cannot be read is none.
    ///
    /// # Errors
    /// When the store fails.
    pub fn store_report(&self) -> Result<Option<Report>> {
        let mut newest: Option<Report> = None;
        for note in self.notes()?.store_reports {
            match self.load::<Report>(&ObjectName::new(Place::Locks, note), ObjectKind::StoreReport) {
                Ok(report) if newest.as_ref().is_none_or(|newest| newest.made < report.made) => newest = Some(report),
                Ok(_) => {}
                Err(error) if error.is_damage() || error.is_newer() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(newest)
    }
}
