//! Backs a directory up into a new local repository, unless it is there, and tells how long checks, counts and a dump of it take.
//!
//! `cargo run --release -p repo-core --example check -- REPOSITORY [DIRECTORY]…`

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::{error::Error, sync::Arc, time::Instant};

use repo_core::{
    backup::{BackupOptions, backup},
    check::{CheckOptions, ReadData, check},
    crypto::kdf::KdfCost,
    dump::{Format, TreeDump, dump_tree},
    index::set::IndexSet,
    progress::{Cancel, Silent},
    repository::{
        InitOptions, Repository,
        config::Parameters,
        reader::{BlobReader, CACHE_BYTES},
    },
    runtime::SystemRuntime,
    snapshot::Listing,
    source::local::{LocalOptions, LocalSource, Target},
    stats::{Mode, stats},
    store::{Store, local::LocalStore},
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (place, directories) = arguments.split_first().ok_or("which repository?")?;
    let store: Arc<dyn Store> = Arc::new(LocalStore::new(place));
    let repository = match Repository::open(Arc::clone(&store), Arc::new(SystemRuntime), b"example", None) {
        Err(repo_core::error::Error::NoRepository { .. }) => {
            let options = InitOptions {
                password: b"example",
                host: "example".into(),
                user: "example".into(),
                kdf_cost: KdfCost::RECOMMENDED,
                parameters: Parameters::default(),
            };
            Repository::init(store, Arc::new(SystemRuntime), &options)?
        }
        opened => opened?,
    };
    let repository = Arc::new(repository);
    for directory in directories {
        let started = Instant::now();
        let source = LocalSource::new(&[Target::named(directory)], LocalOptions::new(std::env::current_dir()?))?;
        let report = backup(&repository, &source, &options(), &Silent, &Cancel::default())?;
        println!("backup of {directory}: {:.3} s, {:?}", started.elapsed().as_secs_f64(), report.totals);
    }
    for read_data in [ReadData::None, ReadData::All, ReadData::All] {
        let started = Instant::now();
        let options = CheckOptions { read_data, threads: 0 };
        let report = check(&repository, options, &Silent, &Cancel::default())?;
        println!(
            "check {read_data:?}: {:.3} s, {} snapshots, {} pages, {} of {} packs read ({} MB), {} errors",
            started.elapsed().as_secs_f64(),
            report.snapshots,
            report.tree_pages,
            report.packs_read,
            report.packs,
            report.packs_read_bytes / 1_000_000,
            report.errors(),
        );
        println!("  {}", peak());
        for finding in &report.findings {
            println!("  {finding}");
        }
    }
    let index = Arc::new(IndexSet::load(repository.store(), repository.keys(), None)?);
    let reader = BlobReader::new(Arc::clone(&repository), index, CACHE_BYTES);
    let listing = Listing::read(&repository)?;
    for mode in [Mode::RestoreSize, Mode::FilesByContents, Mode::BlobsPerFile, Mode::RawData] {
        let started = Instant::now();
        let snapshots = listing.snapshots.iter().map(|(_, snapshot)| snapshot);
        let counted = stats(&reader, snapshots, mode, &Silent, &Cancel::default())?;
        println!("stats {mode:?}: {:.3} s, {counted:?}", started.elapsed().as_secs_f64());
    }
    if let Some((_, snapshot)) = listing.snapshots.last() {
        let started = Instant::now();
        let tree =
            TreeDump { tree: snapshot.tree, prefix: b"", root: None, users: &snapshot.users, groups: &snapshot.groups };
        let report = dump_tree(&reader, &tree, Format::Tar, &mut std::io::sink(), &Silent, &Cancel::default())?;
        println!("dump: {:.3} s, {report:?}", started.elapsed().as_secs_f64());
    }
    Ok(())
}

fn options() -> BackupOptions {
    BackupOptions::new("example", "example", "example")
}

/// The most memory this process has had, where the kernel tells.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown").to_owned()
}
