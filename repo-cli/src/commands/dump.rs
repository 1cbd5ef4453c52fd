//! `coffer dump`: a file, or a directory as an archive, to standard output or a file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use repo_core::{
    dump::{DumpReport, Format, TreeDump, dump_file, dump_tree},
    error::Error,
    repository::reader::BlobReader,
    tree::{
        name::{Name, escape},
        node::NodeKind,
        walk::components,
    },
};

use crate::{
    choose::{Chosen, FilterArgs, choose_to_read},
    context::Context,
    output::Output,
    progress::{Display, Work},
    report::{Ending, Failure, Result},
    size,
};

/// Write a file of a snapshot, or a directory as an archive, to standard output
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// Snapshot: an id, its beginning, latest, latest~2; or SNAPSHOT:DIRECTORY to begin paths there
    #[arg(value_name = "SNAPSHOT[:DIRECTORY]")]
    snapshot: String,

    /// The file or directory; "/" is everything
    #[arg(id = "inside", value_name = "PATH")]
    path: String,

    /// Form of the archive
    #[arg(short, long, default_value = "tar")]
    archive: Archive,

    /// Write to this file instead
    #[arg(short, long, value_name = "FILE")]
    target: Option<PathBuf>,

    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Archive {
    Tar,
}

/// What is told when not all was written.
const CUT_SHORT: &str = "what was written is not complete";

impl DumpArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let filter = self.filter.filter(context)?;
        let repository = context.open()?;
        let output = &context.output;
        let (chosen, reader) = choose_to_read(context, &repository, &self.snapshot, &filter)?;
        let Some(target) = &self.target else {
            let is_archive = self.is_directory(&chosen, &reader)?;
            if is_archive && output.stdout_is_terminal() {
                return Err(Failure::usage("an archive would put the terminal in disorder")
                    .hint("write it to a file with --target, or into a pipe"));
            }
            let result = self.dump(context, &chosen, &reader, &mut Stdout(output));
            let report = result
                .and_then(|report| output.flush().map(|()| report))
                .map_err(|failure| failure.state(CUT_SHORT))?;
            return Ok(ending(&report));
        };
        let mut file = TargetFile::create(target)?;
        let result = self.dump(context, &chosen, &reader, &mut file.file);
        let report = result.map_err(|failure| failure.state("no file was written"))?;
        file.finish()?;
        output.say(&format!("wrote {} to {}", size::bytes(report.bytes), target.display()));
        Ok(ending(&report))
    }

    fn path_in(&self, chosen: &Chosen) -> String {
        format!("{}/{}", chosen.path, self.path)
    }

    fn is_directory(&self, chosen: &Chosen, reader: &BlobReader) -> Result<bool> {
        let node = chosen.node(reader, &self.path_in(chosen))?;
        Ok(node.is_none_or(|node| matches!(node.kind, NodeKind::Directory { .. })))
    }

    fn dump(&self, context: &Context, chosen: &Chosen, reader: &BlobReader, out: &mut dyn Write) -> Result<DumpReport> {
        let display = Display::begin(Work::Dump, context);
        let node = chosen.node(reader, &self.path_in(chosen))?;
        let (users, groups) = (&chosen.snapshot.users, &chosen.snapshot.groups);
        let names = components(self.path.as_bytes())?;
        let prefix = names.iter().map(Name::as_bytes).collect::<Vec<_>>().join(&b'/');
        let dumped = match node.as_ref().map(|node| (&node.kind, &node.metadata)) {
            None => {
                let dump = TreeDump {
                    tree: chosen.snapshot.tree,
                    prefix: &prefix,
                    root: chosen.snapshot.root.as_ref(),
                    users,
                    groups,
                };
                dump_tree(reader, &dump, Format::Tar, out, display.meter(), &context.cancel)
            }
            Some((NodeKind::Directory { tree, .. }, metadata)) => {
                let dump = TreeDump { tree: *tree, prefix: &prefix, root: Some(metadata), users, groups };
                dump_tree(reader, &dump, Format::Tar, out, display.meter(), &context.cancel)
            }
            Some((NodeKind::File { .. }, _)) => match &node {
                Some(node) => dump_file(reader, node, out, &context.cancel),
                None => Ok(DumpReport::default()),
            },
            Some(_) => {
                return Err(Failure::new(format!(
                    "\"{}\" is neither a file nor a directory",
                    escape(self.path.as_bytes())
                )));
            }
        };
        dumped.map_err(|error| match error {
            Error::Io { source, .. } => match &self.target {
                Some(target) => Failure::io("write", target.display(), &source),
                None => Failure::output(&source),
            },
            error => error.into(),
        })
    }
}

fn ending(report: &DumpReport) -> Ending {
    match report.left_out {
        0 => Ending::Done,
        count => Ending::Partial(format!(
            "{} left out, for the reasons given above",
            size::things(count, "item was", "items were")
        )),
    }
}

/// Standard output, to write to.
struct Stdout<'a>(&'a Output);

impl Write for Stdout<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bytes(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that has its name only when it is whole. A device or pipe is written to as it is.
struct TargetFile {
    file: File,
    path: PathBuf,
    /// Where it is meanwhile.
    temporary: Option<PathBuf>,
}

impl TargetFile {
    fn create(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| Failure::io("write", path.display(), &error);
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Err(Failure::usage(format!("{} is a folder", path.display()))),
            Ok(metadata) if !metadata.is_file() => {
                let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
                return Ok(Self { file, path: path.to_owned(), temporary: None });
            }
            _ => {}
        }
        let mut name = path.file_name().ok_or_else(|| Failure::usage("--target names no file"))?.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary).map_err(failed)?;
        Ok(Self { file, path: path.to_owned(), temporary: Some(temporary) })
    }

    fn finish(mut self) -> Result<()> {
        let Some(temporary) = &self.temporary else { return Ok(()) };
        let done = self.file.sync_all().and_then(|()| fs::rename(temporary, &self.path));
        done.map_err(|error| Failure::io("write", self.path.display(), &error))?;
        self.temporary = None;
        Ok(())
    }
}

impl Drop for TargetFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary); // the failure that led here is the one to tell
        }
    }
}
