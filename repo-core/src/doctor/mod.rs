//! Tests a store instead of believing it: does it keep what coffer relies on?
//!
//! Everything it stores are notes of a session called "doctor", below `locks/`: there even a client that may only append is
//! permitted to delete, and a note that a killed doctor left behind is removed by the next backup. Nothing else is touched.

use std::sync::{Mutex, PoisonError};

use crate::{
    crypto::keys::ObjectKind,
    envelope::object,
    error::{Error, Result, StoreError, StoreErrorKind},
    pack::builder::object_id,
    parallel::for_each,
    progress::Cancel,
    repository::{Repository, notes::Session},
    store::{ObjectName, Place},
};

mod findings;
mod probes;

pub use crate::repository::store_report::{Answer, Extent, Finding, Question, Report};

/// Examines the store of a repository. `session` is who asks; its operation is what others see meanwhile. Where nothing may be deleted,
/// the examination is short, whatever `extent` says, and its few objects stay.
///
/// # Errors
/// When the store fails outright (it is out of reach, or does not permit what every backup needs), or `cancel` says so. What it stored
/// until then is deleted again, as far as that goes.
pub fn examine(
    repository: &Repository,
    session: &Session,
    program: &str,
    extent: Extent,
    cancel: &Cancel,
) -> Result<Report> {
    let mut doctor = Doctor { repository, session, extent, cancel };
    let (rights, may_delete) = doctor.rights()?;
    if !may_delete {
        // What it stores stays, and everybody would have to read it.
        doctor.extent = Extent::Short;
    }
    let (mut answers, clock_ahead_seconds) = doctor.life_of_objects()?;
    answers.extend([rights, findings::clock(clock_ahead_seconds)]);
    if doctor.extent == Extent::Long {
        answers.push(doctor.paging()?);
    }
    answers.sort_by_key(|finding| finding.question);
    Ok(Report {
        program: program.to_owned(),
        location: repository.store().location(),
        made: repository.runtime().now(),
        extent: doctor.extent,
        clock_ahead_seconds,
        findings: answers,
    })
}

/// Who examines, and how.
struct Doctor<'a> {
    repository: &'a Repository,
    session: &'a Session,
    extent: Extent,
    cancel: &'a Cancel,
}

/// An object to try things with, not yet stored.
struct Probe {
    name: ObjectName,
    bytes: Vec<u8>,
}

/// Whether objects were deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deleted {
    Yes,
    /// This client may not.
    Denied,
}

impl Doctor<'_> {
    /// So many in a short or a long examination.
    fn many(&self, short: usize, long: usize) -> usize {
        match self.extent {
            Extent::Short => short,
            Extent::Long => long,
        }
    }

    /// Requests in flight. 0 from a store that wants no threads is one at a time.
    fn connections(&self) -> usize {
        self.repository.store().abilities().connections.clamp(1, 8)
    }

    /// New objects; no two are alike, since each is sealed with a salt of its own.
    fn probes(&self, count: usize) -> Result<Vec<Probe>> {
        let seal = || {
            let bytes =
                object::seal(self.repository.keys(), ObjectKind::Session, self.session, self.repository.runtime())?;
            Ok(Probe { name: ObjectName::new(Place::Locks, object_id(&bytes)), bytes })
        };
        (0..count).map(|_| seal()).collect()
    }

    /// Stores objects, and waits until they have to show everywhere.
    fn store_all(&self, probes: &[Probe]) -> Result<()> {
        let store = self.repository.store();
        for_each(probes, self.connections(), |probe| {
            self.cancel.check()?;
            Ok(store.put(&probe.name, &probe.bytes)?)
        })?;
        self.settle();
        Ok(())
    }

    /// Does something with objects, and deletes them in any case, as far as they were stored.
    fn deleting<T>(&self, probes: &[Probe], work: impl FnOnce() -> Result<T>) -> Result<(T, Deleted)> {
        let result = work();
        // All of them, also after one that failed.
        let failure = Mutex::new(None);
        for_each(probes, self.connections(), |probe| {
            if let Err(error) = self.repository.delete_object(&probe.name) {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
            Ok(())
        })?;
        let deleted = match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            None => Deleted::Yes,
            Some(Error::Store(error)) if error.kind == StoreErrorKind::Denied => Deleted::Denied,
            Some(error) => return result.and(Err(error)),
        };
        Ok((result?, deleted))
    }

    /// Waits until what was done has to show everywhere.
    fn settle(&self) {
        self.repository.runtime().sleep_ms(self.repository.store().abilities().visibility_delay_ms);
    }
}

/// A failed request that is an answer: the store works, and does otherwise than it has to. What is passing, or would fail for everything, is
/// none.
fn answer<T>(result: Result<T, StoreError>) -> Result<Result<T, StoreError>> {
    match result {
        Err(error)
            if matches!(
                error.kind,
                StoreErrorKind::Retry | StoreErrorKind::Refresh | StoreErrorKind::Cancelled | StoreErrorKind::NoSpace
            ) =>
        {
            Err(Error::from(error))
        }
        result => Ok(result),
    }
}

fn finding(question: Question, answer: Answer, detail: impl Into<String>) -> Finding {
    Finding { question, answer, detail: detail.into() }
}
