//! The questions themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    Answer, Deleted, Doctor, Extent, Finding, Probe, Question, answer, finding,
    findings::{ONLY_INIT, RACERS, Seen, races, visibility},
};
use crate::{
    error::{Result, StoreError, StoreErrorKind},
    id::ObjectId,
    parallel::for_each,
    store::{ByteRange, ObjectName, Place},
};

/// Objects in a listing of several pages: S3 and B2 tell of a thousand in one.
const PAGED_OBJECTS: usize = 1_100;

impl Doctor<'_> {
    /// Stores some objects, one or more of which several clients want to make, looks at them in every way, deletes them, and looks again.
    /// All questions share the objects, so that few requests do. Tells how far the store's clock is ahead, too.
    pub(super) fn life_of_objects(&self) -> Result<(Vec<Finding>, Option<i64>)> {
        // Enough that a listing is noticed which ends early.
        let (all, raced) = (self.many(4, 100), self.many(1, 60));
        let probes = self.probes(all)?;
        let (raced, plain) = probes.split_at(raced);
        let ((mut findings, ahead), deleted) = self.deleting(&probes, || {
            let winners = self.race(raced)?;
            let begin = self.repository.runtime().now().seconds();
            self.store_all(plain)?;
            let end = self.repository.runtime().now().seconds();
            let seen = self.look(&probes)?;
            let stored = plain.iter().find_map(|probe| seen.get(&probe.name)?.modified);
            let ahead = stored.map(|stored| (stored.seconds() - end).max(0) + (stored.seconds() - begin).min(0));
            let findings =
                vec![visibility(&seen), self.ranges(&plain[0])?, self.replacing(&plain[0])?, races(&winners, &seen)];
            Ok((findings, ahead))
        })?;
        findings.push(match deleted {
            Deleted::Yes => {
                self.settle();
                self.look_for_deleted(&probes)?
            }
            Deleted::Denied => {
                let detail = format!(
                    "whether it deletes is not known, since this client may not; {all} small objects of this test stay below locks/"
                );
                finding(Question::Deleting, Answer::Weak, detail)
            }
        });
        Ok((findings, ahead))
    }

    /// Several clients store the same object at the same time. Tells of each object how many of them the store told that they did.
    fn race<'a>(&self, probes: &'a [Probe]) -> Result<Vec<(&'a Probe, usize)>> {
        let store = self.repository.store();
        let mut winners = Vec::new();
        for probe in probes {
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
            if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
                return Err(error.into());
            }
            winners.push((probe, wins.into_inner()));
        }
        Ok(winners)
    }

    /// Looks at objects that have to be there. In a short examination every other one is asked for by name, too.
    fn look(&self, probes: &[Probe]) -> Result<BTreeMap<ObjectName, Seen>> {
        let store = self.repository.store();
        let mut listed = BTreeMap::new();
        store.list(Place::Locks, &mut |info| {
            listed.insert(info.name, info.size_bytes);
        })?;
        let seen = Mutex::new(BTreeMap::new());
        let numbers: Vec<usize> = (0..probes.len()).collect();
        for_each(&numbers, self.connections(), |number| {
            self.cancel.check()?;
            let Probe { name, bytes } = &probes[*number];
            let size_bytes = bytes.len() as u64;
            let mut read = Vec::new();
            let whole = ByteRange::WholeUpTo { limit_bytes: size_bytes };
            let is_read = answer(store.get(name, whole, &mut read))?.is_ok() && read == *bytes;
            let (mut is_known, mut modified) = (true, None);
            if self.extent == Extent::Long || !number.is_multiple_of(2) {
                let told = answer(store.stat(name))?.ok().flatten();
                is_known = told.as_ref().is_some_and(|info| info.size_bytes == size_bytes);
                modified = told.and_then(|info| info.modified);
            }
            let is_listed = listed.get(name) == Some(&size_bytes);
            let one = Seen { is_listed, is_read, is_known, modified };
            seen.lock().unwrap_or_else(PoisonError::into_inner).insert(*name, one);
            Ok(())
        })?;
        Ok(seen.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether none of them is there in any request. In a short examination each is asked for in one way, besides the listing.
    fn look_for_deleted(&self, probes: &[Probe]) -> Result<Finding> {
        let store = self.repository.store();
        let mut listed = BTreeSet::new();
        store.list(Place::Locks, &mut |info| {
            listed.insert(info.name);
        })?;
        let left = AtomicUsize::new(0);
        let numbers: Vec<usize> = (0..probes.len()).collect();
        for_each(&numbers, self.connections(), |number| {
            self.cancel.check()?;
            let Probe { name, bytes } = &probes[*number];
            let mut is_left = listed.contains(name);
            if self.extent == Extent::Long || number.is_multiple_of(2) {
                let whole = ByteRange::WholeUpTo { limit_bytes: bytes.len() as u64 };
                let read = answer(store.get(name, whole, &mut Vec::new()))?;
                is_left |= !read.is_err_and(|error| error.kind == StoreErrorKind::NotFound);
            }
            if self.extent == Extent::Long || !number.is_multiple_of(2) {
                is_left |= store.stat(name)?.is_some();
            }
            left.fetch_add(usize::from(is_left), Ordering::Relaxed);
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
    fn ranges(&self, probe: &Probe) -> Result<Finding> {
        let Probe { name, bytes } = probe;
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
            exact(size / 3, size / 3),
            exact(size / 2, size),
            exact(size, 1),
            suffix(1),
            suffix(size + 1),
            // A store that is right so far, and when it is asked for the whole, could hardly be wrong here.
            suffix(size),
            exact(0, size),
            (ByteRange::WholeUpTo { limit_bytes: size_bytes - 1 }, None),
        ];
        let questions = &questions[..self.many(7, questions.len())];
        let wrong = Mutex::new(None);
        for_each(questions, self.connections(), |(range, expected)| {
            self.cancel.check()?;
            let mut read = Vec::new();
            let read = answer(self.repository.store().get(name, *range, &mut read))?.map(|()| read);
            if read.as_ref().ok() != expected.as_ref() {
                let got = read.map_or_else(|error| in_words(&error), |read| format!("{} bytes", read.len()));
                let detail = format!("asked for {range:?} of {size_bytes} bytes it gave something else: {got}");
                wrong.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(detail);
            }
            Ok(())
        })?;
        if let Some(detail) = wrong.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Ok(finding(Question::Ranges, Answer::Broken, detail));
        }
        let detail = format!("{} parts of an object were as they should be", questions.len());
        Ok(finding(Question::Ranges, Answer::Kept, detail))
    }

    /// Whether an object that is there is left alone.
    fn replacing(&self, probe: &Probe) -> Result<Finding> {
        Ok(match answer(self.repository.store().put(&probe.name, &probe.bytes))? {
            Err(error) if error.kind == StoreErrorKind::Exists => {
                finding(Question::Replacing, Answer::Kept, "it refuses to replace an object")
            }
            // A name is the hash of what it names, so that what replaces it is the same.
            Ok(()) => finding(Question::Replacing, Answer::Weak, format!("it replaces objects. {ONLY_INIT}")),
            Err(error) => {
                let detail =
                    format!("asked to replace an object it did not say that there is one: {}", in_words(&error));
                finding(Question::Replacing, Answer::Broken, detail)
            }
        })
    }

    /// A listing of several pages, while others store and delete.
    pub(super) fn paging(&self) -> Result<Finding> {
        let stable = self.probes(PAGED_OBJECTS)?;
        let passing = self.probes(RACERS)?;
        let store = self.repository.store();
        let (told, _) = self.deleting(&stable, || {
            self.store_all(&stable)?;
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

    /// What may be deleted: asked of what is not there. Also tells whether that goes for its own notes.
    pub(super) fn rights(&self) -> Result<(Finding, bool)> {
        if self.may_delete(Place::Data)? {
            return Ok((finding(Question::Rights, Answer::Kept, "this client may do all that coffer does"), true));
        }
        let may_delete_notes = self.may_delete(Place::Locks)?;
        let detail = if may_delete_notes {
            "this client may add, and may not delete: it can back up and restore; forget and prune need another one"
        } else {
            "this client may add, and may not delete anything: it can back up and restore; forget and prune need another one. Notes that \
             its runs leave below locks/ stay, and every run reads them; let it delete there, if that can be permitted by itself"
        };
        Ok((finding(Question::Rights, Answer::Weak, detail), may_delete_notes))
    }

    fn may_delete(&self, place: Place) -> Result<bool> {
        let nothing = ObjectName::new(place, ObjectId(self.repository.runtime().random_32()));
        match answer(self.repository.store().delete(&nothing))? {
            Err(error) if error.kind == StoreErrorKind::Denied => Ok(false),
            Err(error) if error.kind != StoreErrorKind::NotFound => Err(error.into()),
            _ => Ok(true),
        }
    }
}

fn in_words(error: &StoreError) -> String {
    format!("{error}: {}", error.source)
}
