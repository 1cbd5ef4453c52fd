//! The questions themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{Answer, Doctor, Finding, Probe, Question, answer, finding};
use crate::{
    error::{Result, StoreError, StoreErrorKind},
    id::ObjectId,
    parallel::for_each,
    store::{ByteRange, ObjectName, Place},
};

/// Clients that race for one name.
const RACERS: usize = 8;

/// Objects in a listing of several pages: S3 and B2 tell of a thousand in one.
const PAGED_OBJECTS: usize = 1_100;

/// Seconds by which clocks may differ without a word.
const CLOCK_SECONDS: u64 = 60;

impl Doctor<'_> {
    /// Stores some objects, looks at them in every way, deletes them, and looks again. Tells how far the store's clock is ahead, too.
    pub(super) fn life_of_objects(&self) -> Result<(Finding, Finding, Option<i64>)> {
        let probes = self.probes(self.many(8, 100))?;
        let begin = self.repository.runtime().now().seconds();
        let (visible, ahead) = self.with_stored(&probes, || {
            let end = self.repository.runtime().now().seconds();
            let mut ahead = None;
            if let Some(stored) = self.repository.store().stat(&probes[0].name)?.and_then(|info| info.modified) {
                let stored = stored.seconds();
                ahead = Some((stored - end).max(0) + (stored - begin).min(0));
            }
            Ok((self.look(&probes)?, ahead))
        })?;
        self.settle();
        Ok((visible, self.look_for_deleted(&probes)?, ahead))
    }

    /// Whether all of them are there, whole, in every request.
    fn look(&self, probes: &[Probe]) -> Result<Finding> {
        let store = self.repository.store();
        let mut listed = BTreeMap::new();
        store.list(Place::Locks, &mut |info| {
            listed.insert(info.name, info.size_bytes);
        })?;
        let (unlisted, unread, unknown) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        for_each(probes, self.connections(), |probe| {
            self.cancel.check()?;
            let size_bytes = probe.bytes.len() as u64;
            count_unless(&unlisted, listed.get(&probe.name) == Some(&size_bytes));
            let mut bytes = Vec::new();
            let whole = ByteRange::WholeUpTo { limit_bytes: size_bytes };
            count_unless(&unread, answer(store.get(&probe.name, whole, &mut bytes))?.is_ok() && bytes == probe.bytes);
            let told = answer(store.stat(&probe.name))?.ok().flatten();
            count_unless(&unknown, told.is_some_and(|info| info.size_bytes == size_bytes));
            Ok(())
        })?;
        let [unlisted, unread, unknown] = [unlisted, unread, unknown].map(AtomicUsize::into_inner);
        let all = probes.len();
        Ok(if unlisted + unread + unknown == 0 {
            finding(Question::Visibility, Answer::Kept, format!("{all} objects were there as soon as they were stored"))
        } else {
            let detail = format!(
                "of {all} objects that it confirmed, {unlisted} were not listed, {unread} could not be read as they were stored, and of \
                 {unknown} it did not know"
            );
            finding(Question::Visibility, Answer::Broken, detail)
        })
    }

    /// Whether none of them is there in any request.
    fn look_for_deleted(&self, probes: &[Probe]) -> Result<Finding> {
        let store = self.repository.store();
        let mut listed = BTreeSet::new();
        store.list(Place::Locks, &mut |info| {
            listed.insert(info.name);
        })?;
        let left = AtomicUsize::new(0);
        for_each(probes, self.connections(), |probe| {
            self.cancel.check()?;
            let mut bytes = Vec::new();
            let limit_bytes = probe.bytes.len() as u64;
            let read = answer(store.get(&probe.name, ByteRange::WholeUpTo { limit_bytes }, &mut bytes))?;
            let is_gone = read.is_err_and(|error| error.kind == StoreErrorKind::NotFound);
            count_unless(&left, is_gone && store.stat(&probe.name)?.is_none() && !listed.contains(&probe.name));
            Ok(())
        })?;
        let (left, all) = (left.into_inner(), probes.len());
        Ok(if left == 0 {
            finding(Question::Deleting, Answer::Kept, format!("{all} objects were gone as soon as they were deleted"))
        } else {
            let detail = format!("of {all} objects that it confirmed to have deleted, {left} were still there");
            finding(Question::Deleting, Answer::Broken, detail)
        })
    }

    /// Parts of an object, at all edges.
    pub(super) fn ranges(&self) -> Result<Finding> {
        let probes = self.probes(1)?;
        let Probe { name, bytes } = &probes[0];
        let (size, size_bytes) = (bytes.len(), bytes.len() as u64);
        let exact = |offset: usize, length: usize| {
            let range = ByteRange::Exact { offset_bytes: offset as u64, length_bytes: length as u64 };
            (range, bytes.get(offset..offset + length).map(<[u8]>::to_vec))
        };
        let suffix = |length: usize| {
            let range = ByteRange::Suffix { length_bytes: length as u64 };
            (range, Some(bytes[size.saturating_sub(length)..].to_vec()))
        };
        let questions = [
            exact(0, 1),
            exact(size - 1, 1),
            exact(0, size),
            exact(size / 3, size / 3),
            exact(size / 2, size),
            exact(size, 1),
            suffix(1),
            suffix(size),
            suffix(size + 1),
            (ByteRange::WholeUpTo { limit_bytes: size_bytes }, Some(bytes.clone())),
            (ByteRange::WholeUpTo { limit_bytes: size_bytes - 1 }, None),
        ];
        self.with_stored(&probes, || {
            for (range, expected) in &questions {
                self.cancel.check()?;
                let mut read = Vec::new();
                let read = answer(self.repository.store().get(name, *range, &mut read))?.map(|()| read);
                if read.as_ref().ok() != expected.as_ref() {
                    let got = read.map_or_else(|error| in_words(&error), |read| format!("{} bytes", read.len()));
                    let detail = format!("asked for {range:?} of {size_bytes} bytes it gave something else: {got}");
                    return Ok(finding(Question::Ranges, Answer::Broken, detail));
                }
            }
            let detail = format!("{} parts of an object were as they should be", questions.len());
            Ok(finding(Question::Ranges, Answer::Kept, detail))
        })
    }

    /// Whether an object that is there is left alone.
    pub(super) fn replacing(&self) -> Result<Finding> {
        let probes = self.probes(1)?;
        let Probe { name, bytes } = &probes[0];
        self.with_stored(&probes, || match answer(self.repository.store().put(name, bytes))? {
            Err(error) if error.kind == StoreErrorKind::Exists => {
                Ok(finding(Question::Replacing, Answer::Kept, "it refuses to replace an object"))
            }
            // A name is the hash of what it names, so that what replaces it is the same.
            Ok(()) => Ok(finding(Question::Replacing, Answer::Weak, format!("it replaces objects. {ONLY_INIT}"))),
            Err(error) => {
                let detail =
                    format!("asked to replace an object it did not say that there is one: {}", in_words(&error));
                Ok(finding(Question::Replacing, Answer::Broken, detail))
            }
        })
    }

    /// Several clients store the same object at the same time.
    pub(super) fn races(&self) -> Result<Finding> {
        let rounds = self.many(1, 60);
        let store = self.repository.store();
        let mut rounds_won_twice = 0;
        for probe in self.probes(rounds)? {
            self.cancel.check()?;
            let wins = AtomicUsize::new(0);
            let failure = Mutex::new(None);
            thread::scope(|scope| {
                for _ in 0..RACERS {
                    scope.spawn(|| match store.put(&probe.name, &probe.bytes) {
                        Ok(()) => drop(wins.fetch_add(1, Ordering::Relaxed)),
                        Err(error) if error.kind == StoreErrorKind::Exists => {}
                        Err(error) => drop(failure.lock().unwrap_or_else(PoisonError::into_inner).replace(error)),
                    });
                }
            });
            let mut bytes = Vec::new();
            self.settle();
            let limit_bytes = probe.bytes.len() as u64;
            let read = answer(store.get(&probe.name, ByteRange::WholeUpTo { limit_bytes }, &mut bytes));
            let deleted = self.repository.delete_object(&probe.name);
            if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
                return Err(error.into());
            }
            let read = read?;
            deleted?;
            if wins.load(Ordering::Relaxed) == 0 || read.is_err() || bytes != probe.bytes {
                let detail = format!(
                    "{RACERS} clients stored an object at the same time, and it was not there as they stored it"
                );
                return Ok(finding(Question::Races, Answer::Broken, detail));
            }
            rounds_won_twice += usize::from(wins.into_inner() > 1);
        }
        Ok(if rounds_won_twice == 0 {
            let detail = format!("in {rounds} races of {RACERS} clients for one name exactly one won");
            finding(Question::Races, Answer::Kept, detail)
        } else {
            let detail = format!(
                "in {rounds_won_twice} of {rounds} races of {RACERS} clients for one name more than one won. {ONLY_INIT}"
            );
            finding(Question::Races, Answer::Weak, detail)
        })
    }

    /// A listing of several pages, while others store and delete.
    pub(super) fn paging(&self) -> Result<Finding> {
        let stable = self.probes(PAGED_OBJECTS)?;
        let passing = self.probes(RACERS)?;
        let store = self.repository.store();
        let told = self.with_stored(&stable, || {
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                let others = scope.spawn(|| -> Result<()> {
                    while !done.load(Ordering::Relaxed) {
                        self.cancel.check()?;
                        for probe in &passing {
                            let _ = store.put(&probe.name, &probe.bytes);
                        }
                        for probe in &passing {
                            self.repository.delete_object(&probe.name)?;
                        }
                    }
                    Ok(())
                });
                let mut told = Vec::new();
                for _ in 0..3 {
                    let mut names = BTreeSet::new();
                    let listed = store.list(Place::Locks, &mut |info| {
                        names.insert(info.name);
                    });
                    told.push(listed.map(|()| names));
                }
                done.store(true, Ordering::Relaxed);
                others.join().unwrap_or(Ok(()))?;
                Ok(told.into_iter().collect::<Result<Vec<_>, StoreError>>()?)
            })
        })?;
        let missing = |names: &BTreeSet<ObjectName>| stable.iter().filter(|probe| !names.contains(&probe.name)).count();
        let missing = told.iter().map(missing).max().unwrap_or(0);
        let all = stable.len();
        Ok(if missing == 0 {
            finding(
                Question::Paging,
                Answer::Kept,
                format!("listings told of all of {all} objects while others changed"),
            )
        } else {
            let detail = format!("a listing left out {missing} of {all} objects that were there all the time");
            finding(Question::Paging, Answer::Broken, detail)
        })
    }

    /// Whether packs may be deleted: asked of one that is not there.
    pub(super) fn rights(&self) -> Result<Finding> {
        let nothing = ObjectName::new(Place::Data, ObjectId(self.repository.runtime().random_32()));
        match answer(self.repository.store().delete(&nothing))? {
            Err(error) if error.kind == StoreErrorKind::Denied => {
                let detail = "this client may add, and may not delete: it can back up and restore; forget and prune need another one";
                Ok(finding(Question::Rights, Answer::Weak, detail))
            }
            Err(error) if error.kind != StoreErrorKind::NotFound => Err(error.into()),
            _ => Ok(finding(Question::Rights, Answer::Kept, "this client may do all that coffer does")),
        }
    }
}

/// What the store's clock means for coffer.
pub(super) fn clock(ahead_seconds: Option<i64>) -> Finding {
    let Some(ahead) = ahead_seconds else {
        let detail = "it tells no times; what was left behind is dated by the clocks of who left it";
        return finding(Question::Clock, Answer::Weak, detail);
    };
    if ahead.unsigned_abs() <= CLOCK_SECONDS {
        return finding(Question::Clock, Answer::Kept, "its clock agrees with this machine's");
    }
    let (seconds, direction) = (ahead.unsigned_abs(), if ahead > 0 { "ahead of" } else { "behind" });
    let detail = format!(
        "its clock is {seconds} seconds {direction} this machine's. Nothing is lost by that, but dates of snapshots, and with them what \
         \"forget\" keeps, go by this machine's clock: set it right"
    );
    finding(Question::Clock, Answer::Weak, detail)
}

const ONLY_INIT: &str = "That matters only to two who make a repository in the same place at the same moment";

fn count_unless(counter: &AtomicUsize, holds: bool) {
    counter.fetch_add(usize::from(!holds), Ordering::Relaxed);
}

fn in_words(error: &StoreError) -> String {
    format!("{error}: {}", error.source)
}
