//! Choosing snapshots by flags, and naming a snapshot with a path in it.

use clap::Args;
use repo_core::{
    error::Error,
    id::{BlobId, SnapshotId},
    parallel::both,
    repository::{Repository, reader::BlobReader},
    snapshot::{self, Listing, Snapshot, select::Filter},
    tree::{
        name::escape,
        node::{Node, NodeKind},
        walk::lookup,
    },
};

use crate::{
    context::{Context, Opened},
    output::Output,
    report::{Ending, Failure, Result},
};

/// Which snapshots are meant.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which snapshots")]
pub(crate) struct FilterArgs {
    /// Only snapshots of this host (may be given several times)
    #[arg(short = 'H', long, value_name = "HOST")]
    host: Vec<String>,

    /// Only snapshots with all of these tags, separated by commas (several times: any of the lists)
    #[arg(long, value_name = "TAG,…")]
    tag: Vec<String>,

    /// Only snapshots of this path (several times: all of them)
    #[arg(long, value_name = "PATH")]
    path: Vec<String>,
}

impl FilterArgs {
    /// From flags that a command has under other short names.
    pub(crate) fn new(host: &[String], tag: &[String], path: &[String]) -> Self {
        Self { host: host.to_vec(), tag: tag.to_vec(), path: path.to_vec() }
    }

    pub(crate) fn filter(&self, context: &Context) -> Result<Filter> {
        let hosts = match self.host.as_slice() {
            [] => context.named_host(None)?.into_iter().collect(),
            hosts => hosts.to_vec(),
        };
        let tags = self.tag.iter().map(|list| list.split(',').map(|tag| tag.trim().to_owned()).collect()).collect();
        let here = std::env::current_dir().ok();
        let absolute = |path: &String| match &here {
            Some(here) if !path.starts_with('/') => here.join(path).to_string_lossy().trim_end_matches("/.").to_owned(),
            _ => path.clone(),
        };
        // Paths are stored cleaned.
        let clean = |path: String| {
            let cut = path.trim_end_matches('/');
            if cut.is_empty() { path.clone() } else { cut.to_owned() }
        };
        Ok(Filter { hosts, tags, paths: self.path.iter().map(absolute).map(clean).collect() })
    }
}

/// Reads all snapshots, and warns of those that cannot be read.
pub(crate) fn listing(repository: &Repository, output: &Output) -> Result<Listing> {
    let listing = Listing::read(repository)?;
    for damage in &listing.damaged {
        output.warning(&format!("{}; \"coffer check\" tells more", damage.chain()));
    }
    for newer in &listing.newer {
        output.warning(&newer.chain());
    }
    if !listing.tentative.is_empty() {
        output.detail(&format!(
            "{} of backups that are at work or were cut short",
            crate::size::things(listing.tentative.len() as u64, "unfinished snapshot", "unfinished snapshots")
        ));
    }
    Ok(listing)
}

/// The snapshots that are named, or, if none is, all that the filter accepts.
pub(crate) fn several(listing: &Listing, queries: &[String], filter: &Filter) -> Result<Vec<SnapshotId>> {
    if queries.is_empty() {
        return Ok(listing.select(filter).map(|(id, _)| *id).collect());
    }
    let mut ids = Vec::new();
    for query in queries {
        let (id, _) = listing.find(query, filter)?;
        if !ids.contains(id) {
            ids.push(*id);
        }
    }
    Ok(ids)
}

/// How a command ends that was done with a listing: snapshots that cannot be read were told of, and must not pass for none.
pub(crate) fn listing_ending(listing: &Listing) -> Ending {
    match listing.damaged.len() + listing.newer.len() {
        0 => Ending::Done,
        damaged => Ending::Damage(format!(
            "{} cannot be read",
            crate::size::things(damaged as u64, "object of the snapshots", "objects of the snapshots")
        )),
    }
}

/// One snapshot, chosen by the user.
pub(crate) struct Chosen {
    pub(crate) id: SnapshotId,
    pub(crate) snapshot: Snapshot,
    /// What was written behind the colon: a path below the root, or nothing.
    pub(crate) path: String,
}

/// Finds the snapshot that `SNAPSHOT` or `SNAPSHOT:PATH` names.
pub(crate) fn choose(repository: &Repository, output: &Output, query: &str, filter: &Filter) -> Result<Chosen> {
    let (name, path) = query.split_once(':').unwrap_or((query, ""));
    let listing = listing(repository, output)?;
    let (id, snapshot) = match listing.find(name, filter) {
        Ok(found) => found.clone(),
        Err(Error::NoSnapshot { .. }) if listing.find_unfinished(name).is_some() => {
            unfinished(repository, output, &listing, name)?
        }
        // A backup that is not there may be one that cannot be read.
        Err(Error::NoSnapshot { .. }) if !listing.damaged.is_empty() => {
            return Err(Failure::with_code(
                crate::report::Code::Damage,
                format!(
                    "no snapshot that can be read matches \"{}\", and there are some that cannot be read",
                    escape(name.as_bytes())
                ),
            )
            .hint("\"coffer check\" tells what is damaged and what to do"));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Chosen { id, snapshot, path: path.to_owned() })
}

/// [`choose`], and beside it the reader that its files are read with: both wait for the store.
pub(crate) fn choose_to_read(
    context: &Context,
    repository: &Opened,
    query: &str,
    filter: &Filter,
) -> Result<(Chosen, BlobReader)> {
    let threads = repository.store().abilities().connections;
    let (chosen, reader) =
        both(threads, || choose(repository, &context.output, query, filter), || context.reader(repository));
    Ok((chosen?, reader?))
}

/// A snapshot that its backup has not finished, for those who know what they ask for: its id is not in any list of snapshots.
fn unfinished(
    repository: &Repository,
    output: &Output,
    listing: &Listing,
    name: &str,
) -> Result<(SnapshotId, Snapshot)> {
    let none = || Error::NoSnapshot { query: name.to_owned() };
    let id = listing.find_unfinished(name).ok_or_else(none)?;
    let snapshot = snapshot::load(repository, &id)?;
    output.warning(&format!(
        "snapshot {} is UNFINISHED: its backup is at work or was cut short. What it had not come to is missing, files that were being \
         read end where it was, and nobody has checked that all of the rest is there",
        id.short()
    ));
    Ok((id, snapshot))
}

impl Chosen {
    /// The node at a path below the root; nothing for the root itself.
    pub(crate) fn node(&self, reader: &BlobReader, path: &str) -> Result<Option<Node>> {
        self.snapshot.check_known(&self.id)?;
        Ok(lookup(reader, &self.snapshot.tree, path.as_bytes(), &self.id.short())?)
    }

    /// The tree of the directory at [`Self::path`].
    pub(crate) fn tree(&self, reader: &BlobReader) -> Result<BlobId> {
        match self.node(reader, &self.path)?.map(|node| node.kind) {
            None => Ok(self.snapshot.tree),
            Some(NodeKind::Directory { tree, .. }) => Ok(tree),
            Some(_) => Err(Failure::new(format!(
                "\"{}\" is not a directory in snapshot {}",
                escape(self.path.as_bytes()),
                self.id.short()
            ))
            .hint(format!(
                "name the directory it is in and --include it, or write it out with: coffer dump {} {}",
                self.id.short(),
                escape(self.path.as_bytes())
            ))),
        }
    }
}
