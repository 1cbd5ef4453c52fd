//! `coffer cat`: single objects, for those who want to look inside.

use clap::{Args, ValueEnum};
use repo_core::{
    blob::{BlobKind, Compression, ReadBlobs},
    id::{BlobId, IndexId, PackId},
    index::{
        run::read_run,
        set::IndexSet,
        table::{PackRow, RunTable},
    },
    repository::Repository,
    store::Place,
    tree::directory::DirectoryEntries,
};
use serde_json::{Value, json};

use crate::{
    choose::{FilterArgs, choose, choose_to_read},
    context::{Context, Opened},
    json,
    report::{Ending, Failure, Result},
    time,
};

/// Write an object of the repository: JSON, or a blob as it is
#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    /// What kind of object
    kind: Kind,

    /// Which: an id, for index and pack also its beginning; for snapshot and tree as with the other commands
    id: Option<String>,

    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// What all writers of the repository go by
    Config,
    /// A key: who made it and when
    Key,
    /// A snapshot
    Snapshot,
    /// An index run: its packs
    Index,
    /// A pack, as the index knows it
    Pack,
    /// The bytes of a blob
    Blob,
    /// A directory: SNAPSHOT or SNAPSHOT:PATH
    Tree,
    /// Not written: who has it can read everything, for ever
    Masterkey,
}

impl CatArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        if self.kind == Kind::Masterkey {
            return Err(Failure::new(
                "the master key is not written out: who has it can read everything, whatever the passwords are",
            )
            .hint("to let somebody else in, add a password with \"coffer key add\""));
        }
        let filter = self.filter.filter(context)?;
        let repository = context.open()?;
        let output = &context.output;
        if self.kind == Kind::Config {
            output.pretty(&config(&repository))?;
            return Ok(Ending::Done);
        }
        let Some(id) = self.id.as_deref() else {
            return Err(Failure::usage("which one? The id is missing"));
        };
        match self.kind {
            Kind::Key => output.pretty(&key(&repository, id)?)?,
            Kind::Snapshot => {
                let chosen = choose(&repository, output, id, &filter)?;
                output.pretty(&json::snapshot(&chosen.id, &chosen.snapshot))?;
            }
            Kind::Tree => {
                let (chosen, reader) = choose_to_read(context, &repository, id, &filter)?;
                let tree = chosen.tree(&reader)?;
                let entries: Vec<Value> = DirectoryEntries::open(&reader, &tree)?
                    .map(|entry| entry.map(|entry| json::full_entry(&entry)))
                    .collect::<Result<_, _>>()?;
                output.pretty(&json!({ "nodes": entries }))?;
            }
            Kind::Index => output.pretty(&index(&repository, id)?)?,
            Kind::Pack => output.pretty(&pack(&repository, id)?)?,
            Kind::Blob => blob(context, &repository, id)?,
            Kind::Config | Kind::Masterkey => {}
        }
        Ok(Ending::Done)
    }
}

fn config(repository: &Repository) -> Value {
    let config = repository.config();
    let parameters = &config.parameters;
    let chunker = &parameters.chunker;
    json!({
        "id": config.repository.to_string(),
        "created": time::rfc3339(config.created),
        "chunker": {
            "min_bytes": chunker.min_bytes,
            "average_bytes": chunker.average_bytes,
            "max_bytes": chunker.max_bytes,
            "normalization": chunker.normalization,
        },
        "data_frame_bytes": parameters.data_frame_bytes,
        "tree_frame_bytes": parameters.tree_frame_bytes,
        "pack_bytes": parameters.pack_bytes,
        "required_features": config.required_features,
    })
}

fn key(repository: &Repository, id: &str) -> Result<Value> {
    let id = repository.find_key(&id.to_ascii_lowercase())?;
    let keys = repository.list_keys()?;
    let info = keys.iter().find(|key| key.id == id).and_then(|key| key.info.as_ref());
    Ok(json!({
        "id": id.to_string(),
        "current": id == repository.key(),
        "username": info.map(|info| info.user.as_str()),
        "hostname": info.map(|info| info.host.as_str()),
        "created": info.map(|info| time::rfc3339(info.created)),
    }))
}

/// Finds the one name that begins with `prefix`.
fn unique<T: std::fmt::Display + Copy>(names: impl Iterator<Item = T>, prefix: &str, what: &'static str) -> Result<T> {
    let prefix = prefix.to_ascii_lowercase();
    let mut matches = names.filter(|name| !prefix.is_empty() && name.to_string().starts_with(&prefix));
    match (matches.next(), matches.next()) {
        (Some(only), None) => Ok(only),
        (Some(first), Some(second)) => {
            let candidates = format!("{first}, {second}");
            Err(repo_core::error::Error::Ambiguous { what, prefix, candidates }.into())
        }
        (None, _) => Err(Failure::new(format!("there is no {what} {prefix}"))),
    }
}

fn index(repository: &Repository, id: &str) -> Result<Value> {
    let names = repository.list(Place::Index)?;
    let id: IndexId = unique(names.iter().map(|info| info.name.id()), id, "index")?.into();
    let table = read_run(repository.store(), repository.keys(), id)?;
    let counts = table.counts();
    let packs: Vec<Value> =
        (0..counts.packs).filter_map(|number| table.pack(number)).map(|row| pack_json(&table, &row)).collect();
    Ok(json!({ "id": id.to_string(), "data_blobs": counts.data, "tree_blobs": counts.tree, "packs": packs }))
}

fn pack(repository: &Repository, id: &str) -> Result<Value> {
    let index = IndexSet::load(repository.store(), repository.keys(), None)?;
    let mut names: Vec<PackId> = index.all_packs().map(|row| row.id).collect();
    names.sort_unstable();
    names.dedup();
    let id = unique(names.into_iter(), id, "pack")?;
    let found = index.runs().iter().find_map(|run| {
        let mut rows = (0..run.table.counts().packs).filter_map(|number| run.table.pack(number));
        rows.find(|row| row.id == id).map(|row| pack_json(&run.table, &row))
    });
    Ok(found.unwrap_or(Value::Null))
}

fn pack_json(table: &RunTable, row: &PackRow) -> Value {
    let numbers = row.first_frame..row.first_frame.saturating_add(row.frames);
    let frames: Vec<Value> = numbers
        .filter_map(|number| table.frame(number))
        .map(|(_, frame)| {
            json!({
                "offset": frame.offset_bytes,
                "length": frame.stored_bytes,
                "uncompressed_length": frame.plain_bytes,
                "compressed": frame.compression == Compression::Zstd,
            })
        })
        .collect();
    json!({ "id": row.id.to_string(), "type": row.kind.to_string(), "size": row.size_bytes, "frames": frames })
}

fn blob(context: &Context, repository: &Opened, id: &str) -> Result<()> {
    let id: BlobId =
        id.to_ascii_lowercase().parse().map_err(|error| Failure::usage(format!("\"{id}\" is no blob: {error}")))?;
    let reader = context.reader(repository)?;
    let mut kind = None;
    for other in BlobKind::ALL {
        if kind.is_none() && reader.locate(other, &id)?.is_some() {
            kind = Some(other);
        }
    }
    let kind = kind.ok_or_else(|| Failure::new(format!("no index names the blob {id}")))?;
    let mut bytes = Vec::new();
    reader.read_blob(kind, &id, &mut bytes)?;
    if context.output.stdout_is_terminal() && std::str::from_utf8(&bytes).is_err() {
        return Err(
            Failure::new("the blob is not text, and might put the terminal in disorder").hint("write it to a file")
        );
    }
    context.output.bytes(&bytes).map_err(|error| Failure::output(&error))
}
