//! `coffer ls`: what is in a snapshot.

use std::collections::BTreeMap;

use clap::Args;
use repo_core::{
    error::Error,
    tree::{
        name::escape,
        node::{Entry, Extension, Node, NodeKind},
        walk::{Descend, Visit, components, walk},
    },
};
use serde_json::json;

use crate::{
    choose::{Chosen, FilterArgs, choose_to_read},
    context::Context,
    json::{link_target, ls_node, message, permissions, snapshot},
    output::Output,
    report::{Ending, Failure, Result, plain},
    size, time,
};

/// List what is in a snapshot
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Snapshot: an id, its beginning, latest, latest~2; or SNAPSHOT:PATH for what is below a directory
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: String,

    /// List these files, and what is directly in these directories; everything if none is given
    #[arg(value_name = "PATH")]
    paths: Vec<String>,

    /// With mode, owner, size and time
    #[arg(short, long)]
    long: bool,

    /// With PATH: all that is below it
    #[arg(long)]
    recursive: bool,

    /// Sizes with units
    #[arg(long)]
    human_readable: bool,

    #[command(flatten)]
    filter: FilterArgs,
}

impl LsArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Ending> {
        let filter = self.filter.filter(context)?;
        let repository = context.open()?;
        let output = &context.output;
        let (chosen, reader) = choose_to_read(context, &repository, &self.snapshot, &filter)?;
        let tree = chosen.tree(&reader)?;
        let wanted = Wanted::new(&self.paths, self.recursive)?;
        head(output, &chosen)?;

        let mut unreadable = 0;
        let mut newer = 0;
        let mut failure = None;
        let mut found = vec![false; wanted.paths.len()];
        walk(&reader, &tree, &mut |path, visit| {
            context.cancel.check()?;
            let entry = match visit {
                Visit::Entry(entry) => entry,
                Visit::Leave(_) => return Ok(Descend::Into),
                Visit::Unreadable(error) => {
                    unreadable += 1;
                    output.warning(&format!("cannot list all of /{}: {}", escape(path), plain(error.chain())));
                    return Ok(Descend::Past);
                }
            };
            let (show, descend) = wanted.decide(path, entry, &mut found);
            if show && let Err(error) = self.show(output, path, entry) {
                failure = Some(error);
                // The only way to end a walk; the reason is the one above.
                return Err(Error::Cancelled);
            }
            if show
                && let Err(error) =
                    Extension::check(&entry.node.metadata.extensions, &format_args!("/{}", escape(path)))
            {
                newer += 1;
                output.warning(&error.to_string());
                return Ok(Descend::Past);
            }
            Ok(descend)
        })
        .map_err(|error| failure.take().unwrap_or_else(|| error.into()))?;

        if let Some(missing) = found.iter().position(|found| !found) {
            let path = escape(self.paths[missing].as_bytes()).into_owned();
            return Err(Error::NoSuchPath { path, snapshot: chosen.id.short() }.into());
        }
        Ok(match unreadable {
            0 if newer == 0 => Ending::Done,
            0 => Ending::Newer(format!("{} made by a newer version", size::things(newer, "item was", "items were"))),
            count => Ending::Damage(format!("{} cannot be read", size::things(count, "directory", "directories"))),
        })
    }

    fn show(&self, output: &Output, path: &[u8], entry: &Entry) -> Result<()> {
        let path = [b"/", path].concat();
        if output.json() {
            return output.document(&ls_node(entry.name.as_bytes(), &path, &entry.node));
        }
        if self.long { output.line(&self.long_line(&path, &entry.node)) } else { output.line(&escape(&path)) }
    }

    fn long_line(&self, path: &[u8], node: &Node) -> String {
        let bytes = match &node.kind {
            NodeKind::File { size_bytes, .. } => *size_bytes,
            _ => 0,
        };
        let shown = if self.human_readable { size::bytes(bytes) } else { bytes.to_string() };
        let mut line = format!(
            "{} {:>5} {:>5} {shown:>12} {} {}",
            permissions(node),
            node.metadata.user,
            node.metadata.group,
            time::local(node.metadata.modified),
            escape(path),
        );
        if let Some(target) = link_target(&node.kind) {
            line.push_str(" -> ");
            line.push_str(&escape(target));
        }
        line
    }
}

/// Says which snapshot this is.
fn head(output: &Output, chosen: &Chosen) -> Result<()> {
    if output.json() {
        let mut value = message("snapshot", snapshot(&chosen.id, &chosen.snapshot));
        if let Some(object) = value.as_object_mut() {
            object.insert("struct_type".into(), json!("snapshot"));
        }
        return output.document(&value);
    }
    output.note(&format!(
        "snapshot {} of {} at {} by {}@{}",
        chosen.id.short(),
        escape(chosen.snapshot.paths.join(", ").as_bytes()),
        time::local(chosen.snapshot.time),
        chosen.snapshot.user,
        chosen.snapshot.host
    ));
    Ok(())
}

/// Which entries are listed.
struct Wanted {
    /// Cleaned paths, and which of the arguments each is.
    paths: BTreeMap<Vec<u8>, usize>,
    recursive: bool,
}

impl Wanted {
    fn new(paths: &[String], recursive: bool) -> Result<Self> {
        let mut cleaned = BTreeMap::new();
        for (number, path) in paths.iter().enumerate() {
            let names = components(path.as_bytes())?;
            let names: Vec<&[u8]> = names.iter().map(repo_core::tree::name::Name::as_bytes).collect();
            if cleaned.insert(names.join(&b'/'), number).is_some() {
                return Err(Failure::usage(format!("\"{}\" is named twice", escape(path.as_bytes()))));
            }
        }
        Ok(Self { paths: cleaned, recursive })
    }

    /// Whether an entry is shown, and whether something in it may be.
    fn decide(&self, path: &[u8], entry: &Entry, found: &mut [bool]) -> (bool, Descend) {
        if self.paths.is_empty() {
            return (true, Descend::Into);
        }
        let mut show = false;
        let mut descend = Descend::Past;
        let parent = path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |slash| &path[..slash]);
        if let Some(number) = self.paths.get(&[][..]) {
            found[*number] = true;
        }
        for (wanted, number) in &self.paths {
            if path == wanted {
                found[*number] = true;
                show = true;
                descend = Descend::Into;
            } else if is_below(path, wanted) {
                show |= self.recursive || parent == wanted;
                if self.recursive {
                    descend = Descend::Into;
                }
            } else if is_below(wanted, path) && matches!(entry.node.kind, NodeKind::Directory { .. }) {
                descend = Descend::Into;
            }
        }
        (show, descend)
    }
}

/// Whether `path` is below `directory`; both are cleaned and relative.
fn is_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}
