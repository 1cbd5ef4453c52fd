//! Backs a directory up into a new local repository, unless it is there, and tells how long checks of it take.
//!
//! `cargo run --release -p repo-core --example check -- REPOSITORY [DIRECTORY]…`

#![allow(clippy::print_stdout, reason = "an example prints")]

use std::{error::Error, sync::Arc, time::Instant};

use repo_core::{
    backup::{BackupOptions, Parent, backup},
    check::{CheckOptions, ReadData, check},
    compress::Level,
    crypto::kdf::KdfCost,
    progress::{Cancel, Silent},
    repository::{InitOptions, Repository, config::Parameters},
    runtime::SystemRuntime,
    snapshot::Protection,
    source::local::{LocalOptions, LocalSource, Target},
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
        for finding in &report.findings {
            println!("  {finding}");
        }
    }
    Ok(())
}

fn options() -> BackupOptions {
    BackupOptions {
        time: None,
        utc_offset_seconds: 0,
        host: "example".into(),
        user: "example".into(),
        user_number: 0,
        group_number: 0,
        label: None,
        tags: Vec::new(),
        excludes: Vec::new(),
        program: "example".into(),
        protection: Protection::None,
        parent: Parent::Newest,
        ignore_ctime: false,
        ignore_inode: false,
        with_atime: false,
        skip_if_unchanged: false,
        dry_run: false,
        level: Level::AUTO,
        threads: None,
        note: None,
        count_ahead: false,
    }
}
