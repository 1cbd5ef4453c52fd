//! What to back up and what to leave out, from flags and lists.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::Read,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use clap::Args;
use repo_core::{
    source::{
        exclude::{ExcludeRules, parse_exclude_file},
        files_from,
        local::{LocalOptions, Target},
    },
    tree::name::escape,
};

use crate::{
    context::Context,
    report::{Failure, Result},
    size,
};

/// Largest list that is read.
const LIST_BYTES_MAX: u64 = 1 << 30;

/// Patterns of what to leave out.
#[derive(Debug, Default, Args)]
pub(crate) struct ExcludeArgs {
    /// Leave out what matches this pattern (may be given several times)
    #[arg(short, long, value_name = "PATTERN", help_heading = "What to leave out")]
    exclude: Vec<OsString>,

    /// The same, upper and lower case alike
    #[arg(long, value_name = "PATTERN", help_heading = "What to leave out")]
    iexclude: Vec<OsString>,

    /// File with such patterns, one a line; $VARIABLES are replaced
    #[arg(long, value_name = "FILE", help_heading = "What to leave out")]
    exclude_file: Vec<PathBuf>,

    /// The same, upper and lower case alike
    #[arg(long, value_name = "FILE", help_heading = "What to leave out")]
    iexclude_file: Vec<PathBuf>,
}

/// What to back up and what to leave out.
#[derive(Debug, Args)]
pub(crate) struct TargetArgs {
    /// Files and directories
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<OsString>,

    #[command(flatten)]
    excludes: ExcludeArgs,

    /// Leave out what is in directories that hold a file of this name (that begins with this header)
    #[arg(long, value_name = "NAME[:HEADER]", help_heading = "What to leave out")]
    exclude_if_present: Vec<OsString>,

    /// Leave out what is in directories marked by a CACHEDIR.TAG
    #[arg(long, help_heading = "What to leave out")]
    exclude_caches: bool,

    /// Leave out files larger than this: 500M
    #[arg(long, value_name = "SIZE", help_heading = "What to leave out")]
    exclude_larger_than: Option<String>,

    /// Do not go into other file systems
    #[arg(short = 'x', long, help_heading = "What to leave out")]
    one_file_system: bool,

    /// List of patterns of what to save, one a line; "-" is standard input
    #[arg(long, value_name = "FILE", help_heading = "Lists")]
    files_from: Vec<PathBuf>,

    /// List of paths of what to save, one a line, taken as they are
    #[arg(long, value_name = "FILE", help_heading = "Lists")]
    files_from_verbatim: Vec<PathBuf>,

    /// List of paths of what to save, with a NUL byte after each
    #[arg(long, value_name = "FILE", help_heading = "Lists")]
    files_from_raw: Vec<PathBuf>,
}

impl TargetArgs {
    pub(crate) fn has_lists(&self) -> bool {
        !(self.files_from.is_empty() && self.files_from_verbatim.is_empty() && self.files_from_raw.is_empty())
    }
}

/// What to back up on this machine.
pub(crate) struct Local {
    /// All targets, lists included.
    pub(crate) targets: Vec<Target>,
    /// Patterns of lists that match nothing, for people.
    pub(crate) unmatched: Vec<String>,
    /// Patterns of what is left out, to be remembered.
    pub(crate) excludes: Vec<String>,
    here: PathBuf,
}

impl Local {
    /// Whether a target is this absolute path, or holds it.
    pub(crate) fn holds(&self, path: &Path) -> bool {
        self.targets.iter().any(|target| path.starts_with(cleaned(&self.here.join(&target.path))))
    }
}

/// Reads lists and patterns.
///
/// # Errors
/// When one is malformed or cannot be read: a list that is not complete would silently save less.
pub(crate) fn local(args: &TargetArgs, context: &Context) -> Result<(Local, LocalOptions)> {
    let here = std::env::current_dir().map_err(|error| Failure::io("look at", "the working directory", &error))?;
    let mut targets: Vec<Target> = args.paths.iter().map(Target::named).collect();
    let mut named: Vec<String> = args.paths.iter().map(|path| shown(&cleaned(&here.join(path)))).collect();
    let mut unmatched = Vec::new();
    let mut name_list = |file: &Path| {
        let path = if file == Path::new("-") { file.to_owned() } else { cleaned(&here.join(file)) };
        named.push(format!("files-from:{}", shown(&path)));
    };
    for file in &args.files_from {
        let matches = files_from::from_patterns(&read_list(file)?, &here).map_err(in_list(file))?;
        unmatched.extend(matches.unmatched.iter().map(|pattern| escape(pattern).into_owned()));
        targets.extend(matches.targets);
        name_list(file);
    }
    for file in &args.files_from_verbatim {
        targets.extend(files_from::from_verbatim(&read_list(file)?).map_err(in_list(file))?);
        name_list(file);
    }
    for file in &args.files_from_raw {
        targets.extend(files_from::from_raw(&read_list(file)?).map_err(in_list(file))?);
        name_list(file);
    }
    let (exclude, excludes) = rules(args, context)?;
    let mut options = LocalOptions::new(here.clone());
    options.named = named;
    options.exclude = exclude;
    options.one_file_system = args.one_file_system;
    Ok((Local { targets, unmatched, excludes, here }, options))
}

/// The rules of these flags, and the patterns as texts.
pub(crate) fn patterns(args: &ExcludeArgs, context: &Context) -> Result<(ExcludeRules, Vec<String>)> {
    let mut rules = ExcludeRules::default();
    let mut remembered = Vec::new();
    let variable = |name: &[u8]| {
        let name = std::str::from_utf8(name).ok()?;
        context.environment.exact(name).map(|variable| variable.value.into_vec())
    };
    let mut add = |pattern: &[u8], ignore_case: bool, origin: &str| {
        let expanded = home(pattern, &variable);
        let result = if ignore_case { rules.pattern_ignoring_case(&expanded) } else { rules.pattern(&expanded) };
        remembered.push(escape(&expanded).into_owned());
        result.map_err(|error| Failure::usage(format!("{origin}: {error}")))
    };
    for pattern in &args.exclude {
        add(pattern.as_bytes(), false, "--exclude")?;
    }
    for (files, ignore_case) in [(&args.exclude_file, false), (&args.iexclude_file, true)] {
        for file in files {
            for pattern in parse_exclude_file(&read_list(file)?, &variable).map_err(in_list(file))? {
                add(&pattern, ignore_case, &shown(file))?;
            }
        }
    }
    for pattern in &args.iexclude {
        add(pattern.as_bytes(), true, "--iexclude")?;
    }
    Ok((rules, remembered))
}

fn rules(args: &TargetArgs, context: &Context) -> Result<(ExcludeRules, Vec<String>)> {
    let (mut rules, remembered) = patterns(&args.excludes, context)?;
    for spec in &args.exclude_if_present {
        let result = rules.if_present(spec.as_bytes());
        result.map_err(|error| Failure::usage(format!("--exclude-if-present: {error}")))?;
    }
    if args.exclude_caches {
        rules.caches();
    }
    if let Some(text) = &args.exclude_larger_than {
        rules
            .larger_than(size::parse(text).map_err(|error| Failure::usage(format!("--exclude-larger-than: {error}")))?);
    }
    Ok((rules, remembered))
}

/// With the home directory in place of a leading `~`.
fn home(pattern: &[u8], variable: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let (negation, rest) = match pattern.strip_prefix(b"!") {
        Some(rest) => (&b"!"[..], rest),
        None => (&b""[..], pattern),
    };
    match (rest.strip_prefix(b"~"), variable(b"HOME")) {
        (Some(after), Some(home)) if after.is_empty() || after.starts_with(b"/") => [negation, &home, after].concat(),
        _ => pattern.to_vec(),
    }
}

/// A pattern that matches just this absolute path.
pub(crate) fn literally(path: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(path.len());
    for byte in path {
        if b"*?[\\".contains(byte) {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern
}

/// The content of a list; `-` is standard input.
pub(crate) fn read_list(file: &Path) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Failure::io("read the list", shown(file), &error);
    let mut content = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(LIST_BYTES_MAX).read_to_end(&mut content).map_err(failed)?;
    } else {
        fs::File::open(file).and_then(|file| file.take(LIST_BYTES_MAX).read_to_end(&mut content)).map_err(failed)?;
    }
    if content.len() as u64 == LIST_BYTES_MAX {
        return Err(Failure::new(format!("the list {} is too large", shown(file))));
    }
    Ok(content)
}

fn in_list<E: std::fmt::Display>(file: &Path) -> impl Fn(E) -> Failure {
    move |error| Failure::new(format!("{}: {error}", shown(file)))
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).into_owned()
}

/// An absolute path without `.`, `..` and doubled slashes, going by its text.
fn cleaned(path: &Path) -> PathBuf {
    let mut parts: Vec<&OsStr> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => parts.push(name),
            std::path::Component::ParentDir => _ = parts.pop(),
            _ => {}
        }
    }
    Path::new("/").join(parts.iter().collect::<PathBuf>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_directories() {
        let variable = |name: &[u8]| (name == b"HOME").then(|| b"/home/me".to_vec());
        for (pattern, want) in
            [("~/x", "/home/me/x"), ("!~/x", "!/home/me/x"), ("~", "/home/me"), ("~other/x", "~other/x"), ("a~", "a~")]
        {
            assert_eq!(home(pattern.as_bytes(), &variable), want.as_bytes());
        }
    }

    #[test]
    fn paths_by_their_text() {
        for (path, want) in [("/a/./b//c/", "/a/b/c"), ("/a/../b", "/b"), ("/..", "/"), ("/", "/")] {
            assert_eq!(cleaned(Path::new(path)), Path::new(want), "{path}");
        }
        assert_eq!(literally(b"/a*[b]\\"), b"/a\\*\\[b]\\\\");
    }
}
