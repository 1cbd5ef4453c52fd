//! What a backup, its repetition, a restore and a check do, counted: requests to the store, bytes, blobs, packs, reading and writing
//! system calls. Counts do not depend on how busy the machine is.
#![allow(clippy::print_stdout, reason = "a report")]

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use clap::Parser;
use repo_core::{
    backup::{self, BackupOptions},
    check::{self, CheckOptions, ReadData},
    crypto::kdf::KdfCost,
    index::set::IndexSet,
    progress::{Cancel, Silent},
    repository::{InitOptions, Repository, config::Parameters, reader::BlobReader, reader::CACHE_BYTES},
    restore::{self, Everything, RestoreOptions},
    runtime::SystemRuntime,
    sink::local::{LocalOptions as SinkOptions, LocalSink},
    snapshot::Listing,
    source::local::{LocalOptions, LocalSource, Target},
    store::{
        Place,
        count::{CountingStore, Counts},
        local::LocalStore,
    },
};

/// Counts the work of a backup and what follows it.
#[derive(Parser)]
struct Arguments {
    /// What to back up.
    directory: PathBuf,
    /// A second state of it, backed up after the first.
    #[arg(long)]
    next: Option<PathBuf>,
    /// An empty or absent folder for repository and restored files; its contents are left there.
    #[arg(long)]
    work: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let store = Arc::new(CountingStore::new(LocalStore::new(arguments.work.join("repository"))));
    let options = InitOptions {
        password: b"benchmark",
        host: "bench".into(),
        user: "bench".into(),
        kdf_cost: KdfCost::RECOMMENDED,
        parameters: Parameters::default(),
    };
    let mut meter = Meter::new(Arc::clone(&store));
    let repository = Arc::new(Repository::init(store, Arc::new(SystemRuntime), &options)?);
    meter.report("init", "")?;
    back_up(&repository, &arguments.directory, "first", &mut meter)?;
    back_up(&repository, &arguments.directory, "again", &mut meter)?;
    if let Some(next) = &arguments.next {
        back_up(&repository, next, "next", &mut meter)?;
    }

    let listing = Listing::read(&repository)?;
    meter.report("list", &format!("{} snapshots", listing.snapshots.len()))?;
    let (_, snapshot) = listing.snapshots.last().context("the backups above made snapshots")?;
    let index = Arc::new(IndexSet::load(repository.store(), repository.keys(), None)?);
    meter.report("index", &format!("{} runs", index.runs().len()))?;
    let reader = BlobReader::new(Arc::clone(&repository), index, CACHE_BYTES);
    let sink = LocalSink::new(arguments.work.join("restored"), &SinkOptions::default())?;
    let options = RestoreOptions::default();
    let report = restore::restore(&reader, &snapshot.tree, &sink, &Everything, &options, &Silent, &Cancel::default())?;
    meter.report("restore", &format!("{} files, {} bytes", report.files_new, report.bytes_written))?;
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let report = check::check(&repository, options, &Silent, &Cancel::default())?;
    meter.report("check", &format!("{} packs, {} errors", report.packs, report.errors()))
}

fn back_up(repository: &Arc<Repository>, directory: &PathBuf, step: &str, meter: &mut Meter) -> Result<()> {
    let source = LocalSource::new(&[Target::named(".")], LocalOptions::new(fs::canonicalize(directory)?))?;
    let options =
        BackupOptions { label: Some("bench".into()), ..BackupOptions::new("bench", "bench", "coffer-benches") };
    let report = backup::backup(repository, &source, &options, &Silent, &Cancel::default())?;
    let (summary, added) = (&report.summary, &report.added);
    let packs = repository.list(Place::Data)?.len();
    meter.report(
        step,
        &format!(
            "{} files, {} bytes read, {} + {} blobs added ({} bytes, {} packed), {packs} packs in all",
            report.totals.files,
            summary.bytes_read,
            added.data_blobs,
            added.tree_blobs,
            summary.bytes_added,
            summary.bytes_added_packed,
        ),
    )
}

/// Reads the counters between steps.
struct Meter {
    store: Arc<CountingStore<LocalStore>>,
    counts: Counts,
    calls: Calls,
}

/// Reading and writing system calls of this process, as the kernel counts them; opening and looking at files is not among them.
#[derive(Clone, Copy, Default)]
struct Calls {
    reads: u64,
    writes: u64,
}

impl Calls {
    fn now() -> Result<Self> {
        let text = fs::read_to_string("/proc/self/io").context("the kernel counts system calls in /proc/self/io")?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
        };
        Ok(Self { reads: field("syscr:"), writes: field("syscw:") })
    }
}

impl Meter {
    fn new(store: Arc<CountingStore<LocalStore>>) -> Self {
        let counts = store.counts();
        Self { store, counts, calls: Calls::default() }
    }

    fn report(&mut self, step: &str, what: &str) -> Result<()> {
        let (counts, calls) = (self.store.counts(), Calls::now()?);
        let more = counts.since(&self.counts);
        println!(
            "{step:8} put {} get {} list {} stat {} delete {} · {} bytes in, {} out · {} reads, {} writes · {what}",
            more.puts,
            more.gets,
            more.lists,
            more.stats,
            more.deletes,
            more.read_bytes,
            more.written_bytes,
            calls.reads.saturating_sub(self.calls.reads),
            calls.writes.saturating_sub(self.calls.writes),
        );
        self.counts = counts;
        self.calls = calls;
        Ok(())
    }
}
