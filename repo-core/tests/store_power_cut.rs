//! A local repository keeps its promises whatever moment the power fails at, and whatever operation of the disk fails.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "also the helpers of a test may fail it and speak")]

use std::{collections::BTreeMap, fs, path::Path, thread};

use repo_core::{
    error::StoreErrorKind,
    store::{
        ByteRange, ObjectName, Place, Store,
        local::LocalStore,
        testing::{
            Disk, check_store,
            contract::object,
            disk::{Change, ChangeKind, IO_ERROR, NO_SPACE, NOT_KNOWN, READ_ONLY},
            power_cut,
        },
    },
};

/// From one moment on, until another: what must be there, and what must not.
struct Promise {
    name: ObjectName,
    present: bool,
    from: usize,
    until: usize,
}

/// A writer that knows what it was promised at which length of the log.
struct Writer<'a> {
    disk: &'a Disk,
    store: LocalStore,
    contents: BTreeMap<ObjectName, Vec<u8>>,
    promises: Vec<Promise>,
}

impl<'a> Writer<'a> {
    fn new(disk: &'a Disk, base: &Path) -> Self {
        let store = disk.store(base.join("parent/repository"));
        Self { disk, store, contents: BTreeMap::new(), promises: Vec::new() }
    }

    fn now(&self) -> usize {
        self.disk.log().len()
    }

    fn put(&mut self, name: ObjectName, bytes: &[u8]) -> bool {
        self.contents.insert(name, bytes.to_vec());
        let done = self.store.put(&name, bytes).is_ok();
        if done {
            self.promises.push(Promise { name, present: true, from: self.now(), until: usize::MAX });
        }
        done
    }

    fn delete(&mut self, name: ObjectName) {
        let begun = self.now();
        self.promises.iter_mut().filter(|promise| promise.name == name).for_each(|promise| {
            promise.until = promise.until.min(begun);
        });
        if self.store.delete(&name).is_ok() {
            self.promises.push(Promise { name, present: false, from: self.now(), until: usize::MAX });
        }
    }

    /// Looks at every state the disk may be in after every power cut.
    fn check_all_cuts(&self, base: &Path, scratch: &Path) -> Result<usize, String> {
        let log = self.disk.log();
        let mut states = 0;
        for cut in 0..=log.len() {
            for remains in power_cut(&log[..cut]) {
                let target = scratch.join(states.to_string());
                states += 1;
                fs::create_dir(&target).unwrap();
                remains.write_to(base, &target).unwrap();
                self.check(cut, &LocalStore::new(target.join("parent/repository"))).map_err(|what| {
                    format!("power cut after {cut} changes, the last {:?}: {what}", log[..cut].last())
                })?;
                fs::remove_dir_all(&target).unwrap();
            }
        }
        Ok(states)
    }

    fn check(&self, cut: usize, store: &LocalStore) -> Result<(), String> {
        for promise in self.promises.iter().filter(|promise| (promise.from..=promise.until).contains(&cut)) {
            let name = &promise.name;
            match (bytes_of(store, name), promise.present) {
                (Some(bytes), true) if bytes == self.contents[name] => {}
                (None, false) => {}
                (found, _) => return Err(format!("{name} is {found:?}")),
            }
        }
        for (name, content) in &self.contents {
            if bytes_of(store, name).is_some_and(|bytes| bytes != *content) {
                return Err(format!("{name} is there, but not whole"));
            }
        }
        for place in Place::HASHED {
            let mut told = Vec::new();
            // Before the first object was promised there may be no repository yet.
            if let Err(error) = store.list(place, &mut |info| told.push(info))
                && self.promises.iter().any(|promise| promise.from <= cut)
            {
                return Err(error.to_string());
            }
            if let Some(info) = told.iter().find(|info| self.contents[&info.name].len() as u64 != info.size_bytes) {
                return Err(format!("{info:?} is listed"));
            }
        }
        Ok(())
    }
}

fn bytes_of(store: &LocalStore, name: &ObjectName) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match store.get(name, ByteRange::WholeUpTo { limit_bytes: 1 << 20 }, &mut bytes) {
        Ok(()) => Some(bytes),
        Err(error) if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::Permanent) => None,
        Err(error) => panic!("{error}: {}", error.source),
    }
}

/// Two objects in one folder of packs, one in another, one per other place, failures in between, deletions.
fn work(writer: &mut Writer<'_>) {
    writer.store.create().unwrap();
    writer.put(ObjectName::CONFIG, b"the config");
    let packs: Vec<Vec<u8>> = (0..2000_u32).map(|number| number.to_le_bytes().repeat(100)).collect();
    let starting_with = |first| packs.iter().filter(move |pack| object(Place::Data, pack).id().0[0] == first);
    let names = [starting_with(7).take(4).collect::<Vec<_>>(), starting_with(200).take(1).collect()].concat();
    let [one, two, three, four, other] = names[..] else { panic!("2000 hashes have these first bytes") };
    assert!(writer.put(object(Place::Data, one), one) && writer.put(object(Place::Data, other), other));
    for (kind, errno) in
        [(ChangeKind::SyncFile, IO_ERROR), (ChangeKind::SyncFolder, IO_ERROR), (ChangeKind::Write, NO_SPACE)]
    {
        writer.disk.fail_kind(kind, errno);
        assert!(!writer.put(object(Place::Data, two), two));
        writer.disk.mend();
    }
    assert!(writer.put(object(Place::Data, three), three));
    assert!(writer.put(object(Place::Data, two), two));
    writer.disk.fail_kind(ChangeKind::Rename, NOT_KNOWN);
    assert!(writer.put(object(Place::Data, four), four));
    writer.disk.mend();
    for place in [Place::Index, Place::Snapshots, Place::Locks, Place::Keys] {
        let content = place.name().as_bytes();
        assert!(writer.put(object(place, content), content));
    }
    writer.delete(object(Place::Locks, b"locks"));
    writer.delete(object(Place::Data, one));
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let [base, scratch] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let disk = Disk::default();
    let mut writer = Writer::new(&disk, base.path());
    work(&mut writer);
    let states = writer.check_all_cuts(base.path(), scratch.path()).unwrap();
    assert!(states > 500, "only {states} states were looked at");
    println!("{} changes, {states} states", disk.log().len());
}

/// Writers beside each other, in one folder that none has made yet: who finds it there must not trust that it lasts.
#[test]
fn so_does_what_writers_beside_each_other_put() {
    let [base, scratch] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let disk = Disk::default();
    let mut writer = Writer::new(&disk, base.path());
    writer.store.create().unwrap();
    let contents = (0..5000_u32).map(|number| number.to_le_bytes().repeat(10));
    let packs: Vec<_> = contents.map(|bytes| (object(Place::Data, &bytes), bytes)).collect();
    let packs: Vec<_> = packs.into_iter().filter(|(name, _)| name.id().0[0] == 7).take(6).collect();
    let promises: Vec<Promise> = thread::scope(|scope| {
        let putting: Vec<_> = packs
            .iter()
            .map(|(name, bytes)| {
                let (disk, repository) = (&disk, base.path().join("parent/repository"));
                scope.spawn(move || {
                    // Each a process of its own, as far as it knows.
                    disk.store(repository).put(name, bytes).unwrap();
                    Promise { name: *name, present: true, from: disk.log().len(), until: usize::MAX }
                })
            })
            .collect();
        putting.into_iter().map(|putting| putting.join().unwrap()).collect()
    });
    writer.promises.extend(promises);
    writer.contents.extend(packs);
    writer.check_all_cuts(base.path(), scratch.path()).unwrap();
}

/// The tests above can fail: without either sync it does.
#[test]
fn a_missing_sync_is_noticed() {
    for kind in [ChangeKind::SyncFile, ChangeKind::SyncFolder] {
        let [base, scratch] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let disk = Disk::default();
        disk.skip_kind(kind);
        let mut writer = Writer::new(&disk, base.path());
        writer.store.create().unwrap();
        assert!(writer.put(object(Place::Index, b"an index"), b"an index"));
        let found = writer.check_all_cuts(base.path(), scratch.path());
        assert!(found.is_err(), "a missing {kind:?} was not noticed");
    }
}

#[test]
fn a_put_is_written_synced_renamed_and_its_folder_synced() {
    let base = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let store = disk.store(base.path());
    store.create().unwrap();
    let before = disk.log().len();
    for folder in Place::HASHED.map(|place| base.path().join(place.name())) {
        let made = disk.log().iter().position(|change| *change == Change::MakeFolder(folder.clone())).unwrap();
        assert!(disk.log()[made..].contains(&Change::SyncFolder(folder)));
    }
    let name = object(Place::Data, b"a pack");
    store.put(&name, b"a pack").unwrap();
    let log = disk.log();
    let [made, synced_data, Change::Create(temporary), written, synced, renamed, synced_folder] = &log[before..] else {
        panic!("{:?}", &log[before..])
    };
    let path = base.path().join(name.to_string());
    let folder = path.parent().unwrap();
    assert_eq!(*made, Change::MakeFolder(folder.to_owned()));
    assert_eq!(*synced_data, Change::SyncFolder(base.path().join("data")));
    assert!(
        temporary.parent() == Some(folder) && temporary.file_name().unwrap().to_str().unwrap().starts_with(".tmp-")
    );
    assert_eq!(*written, Change::Write(temporary.clone(), b"a pack".to_vec()));
    assert_eq!(*synced, Change::SyncFile(temporary.clone()));
    assert_eq!(*renamed, Change::Rename(temporary.clone(), path.clone()));
    assert_eq!(*synced_folder, Change::SyncFolder(folder.to_owned()));

    // An object that is there may have been put by somebody who has not come to sync its folder.
    let before = disk.log().len();
    assert_eq!(store.put(&name, b"a pack").unwrap_err().kind, StoreErrorKind::Exists);
    assert_eq!(disk.log()[before..], [Change::SyncFolder(folder.to_owned())]);
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            names.extend(files_below(&entry.path()));
        } else {
            names.push(entry.file_name().into_string().unwrap());
        }
    }
    names
}

/// Fails change n for every n, with every error; nothing half-done is left, and the next attempt succeeds.
#[test]
fn every_change_may_fail() {
    let errors = [
        (NO_SPACE, StoreErrorKind::NoSpace),
        (IO_ERROR, StoreErrorKind::Permanent),
        (READ_ONLY, StoreErrorKind::Denied),
    ];
    for rename_known in [true, false] {
        for (errno, kind) in errors {
            let mut number = 0;
            loop {
                let base = tempfile::tempdir().unwrap();
                let disk = Disk::default();
                let store = disk.store(base.path().join("repository"));
                let forget_rename = || {
                    if !rename_known {
                        disk.fail_kind(ChangeKind::Rename, NOT_KNOWN);
                    }
                };
                forget_rename();
                disk.fail_at(number, errno);
                let mut failed = store.create().map_err(|error| assert_eq!(error.kind, kind)).is_err();
                if failed {
                    disk.mend();
                    forget_rename();
                    store.create().unwrap();
                }
                for place in [Place::Data, Place::Locks] {
                    let name = object(place, b"content");
                    if let Err(error) = store.put(&name, b"content") {
                        assert_eq!(error.kind, kind, "change {number}");
                        failed = true;
                        assert_eq!(
                            files_below(base.path()),
                            Vec::<String>::new(),
                            "change {number}: something is left"
                        );
                        assert!(store.stat(&name).unwrap().is_none());
                        disk.mend();
                        forget_rename();
                        store.put(&name, b"content").unwrap();
                    }
                    assert_eq!(bytes_of(&store, &name).as_deref(), Some(&b"content"[..]));
                    if let Err(error) = store.delete(&name) {
                        assert_eq!(error.kind, kind);
                        failed = true;
                        store.delete(&name).unwrap();
                    }
                    assert!(store.stat(&name).unwrap().is_none());
                    for left in files_below(base.path()) {
                        // Where links are used, and the temporary name could not be removed: swept up later.
                        assert!(!rename_known && left.starts_with(".tmp-"), "{left}");
                        fs::remove_file(base.path().join("repository").join(place.name()).join(left))
                            .unwrap_or_default();
                    }
                    let _ = fs::remove_dir_all(base.path().join("repository/data/").join(folder_of(&name)));
                }
                if !failed && disk.attempts() <= number {
                    break;
                }
                number += 1;
            }
            assert!(number > 20, "the sweep ended after {number} changes");
        }
    }
}

fn folder_of(name: &ObjectName) -> String {
    format!("{:02x}", name.id().0[0])
}

/// File systems that cannot rename without replacing, but know hard links, do as well.
#[test]
fn the_contract_holds_without_renames() {
    let base = tempfile::tempdir().unwrap();
    let made = std::sync::atomic::AtomicUsize::new(0);
    check_store(|| {
        let disk = Disk::default();
        disk.fail_kind(ChangeKind::Rename, NOT_KNOWN);
        let number = made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Box::new(disk.store(base.path().join(number.to_string())))
    });
    assert!(files_below(base.path()).iter().all(|name| !name.starts_with(".tmp-")), "temporary names are removed");
}
