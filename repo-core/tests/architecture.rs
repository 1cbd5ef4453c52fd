//! Holds the sources of this crate against its architecture (`docs/architecture.md`): who may use whom, and what a
//! library leaves to its callers.

mod rust_source;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use rust_source::{Use, code_lines, uses};

/// The layers from the bottom up. A module may use those in lower layers.
///
/// `tree::name` and `tree::node` are plain types that sources and sinks speak in, so they lie lower than `tree`.
const LAYERS: [&[&str]; 7] = [
    &["id", "blob", "error", "limits", "parallel", "progress", "runtime", "time", "tree::name", "tree::node"],
    &["codec", "crypto", "compress", "chunker", "store", "cache"],
    &["envelope", "pack", "index", "protocol"],
    &["repository"],
    &["source", "sink", "tree", "snapshot", "retention"],
    &[
        "backup", "restore", "forget", "prune", "check", "repair", "edit", "copy", "doctor", "dump", "stats", "status",
        "vfs", "module",
    ],
    &["lib"],
];

/// What a module may use within its own layer.
const NEIGHBOURS: [(&str, &[&str]); 12] = [
    ("blob", &["error", "id"]),
    ("error", &["blob", "id"]),
    ("parallel", &["error"]),
    ("progress", &["error"]),
    ("runtime", &["time"]),
    ("tree::name", &["limits"]),
    ("tree::node", &["error", "id", "limits", "time", "tree::name"]),
    ("cache", &["crypto"]),
    ("pack", &["envelope"]),
    ("index", &["envelope", "pack"]),
    ("retention", &["snapshot"]),
    ("snapshot", &["tree"]),
];

/// Test doubles, which may use whatever they test.
const EXEMPT: [&str; 1] = ["store/testing"];

/// Longest file, in lines, its unit tests not counted.
const FILE_LINES_MAX: usize = 600;

/// What only a program may do: print, read its environment, start and end processes.
const PATHS_OF_PROGRAMS: [&str; 4] = ["std::env", "std::process::Command", "std::process::exit", "std::process::abort"];
const MACROS_OF_PROGRAMS: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];

#[test]
fn modules_use_only_what_lies_below_them() {
    let problems = check_sources(|file, text| layer_problems(&module_path(file), &uses(text, &module_path(file))));
    assert!(problems.is_empty(), "\n{}\nThe layers are in repo-core/tests/architecture.rs.", problems.join("\n"));
}

#[test]
fn the_library_leaves_printing_environment_and_processes_to_its_callers() {
    let problems = check_sources(|file, text| side_effect_problems(&uses(text, &module_path(file))));
    assert!(problems.is_empty(), "\n{}\nThe command line does these things.", problems.join("\n"));
}

#[test]
fn files_are_short() {
    let problems = check_sources(|_, text| {
        let lines = code_lines(text);
        (lines > FILE_LINES_MAX)
            .then(|| format!("1: {lines} lines without tests; split it by the questions it answers"))
            .into_iter()
            .collect()
    });
    assert!(problems.is_empty(), "\n{}\nAt most {FILE_LINES_MAX} lines a file.", problems.join("\n"));
}

/// Runs a check over every source file and puts the file's name before each problem, which begins with its line.
fn check_sources(check: impl Fn(&Path, &str) -> Vec<String>) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 10, "the sources are below {}", root.display());
    let mut problems = Vec::new();
    for file in files {
        let below = file.strip_prefix(&root).expect("it was found below the root");
        let is_unit_test = below.file_stem().is_some_and(|stem| stem == "tests");
        if is_unit_test || EXEMPT.iter().any(|exempt| below.starts_with(exempt)) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a source file can be read");
        problems.extend(check(below, &text).into_iter().map(|problem| format!("src/{}:{problem}", below.display())));
    }
    problems
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder can be listed") {
        let path = entry.expect("a source folder can be listed").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

/// `crypto/slot.rs` is `["crypto", "slot"]`, `crypto/mod.rs` is `["crypto"]`, `lib.rs` is `[]`.
fn module_path(file: &Path) -> Vec<String> {
    let parts = file.with_extension("");
    let mut parts: Vec<String> = parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod" || last == "lib") {
        parts.pop();
    }
    parts
}

/// The table's name for a path of this crate: its first two parts if they are listed, else the first.
fn unit(path: &[String]) -> String {
    let layers = layer_of();
    let two = path.iter().take(2).cloned().collect::<Vec<_>>().join("::");
    match path {
        [] => "lib".to_owned(),
        _ if layers.contains_key(two.as_str()) => two,
        [first, ..] => first.clone(),
    }
}

fn layer_of() -> BTreeMap<&'static str, usize> {
    LAYERS.iter().enumerate().flat_map(|(layer, units)| units.iter().map(move |unit| (*unit, layer))).collect()
}

fn layer_problems(module: &[String], uses: &[Use]) -> Vec<String> {
    let layers = layer_of();
    let here = unit(module);
    let Some(&own_layer) = layers.get(here.as_str()) else {
        return vec![format!("1: module `{here}` is in no layer")];
    };
    let mut problems = Vec::new();
    for one in uses {
        let Use::Crate { line, path } = one else { continue };
        let shown = path.join("::");
        if path.last().is_some_and(|last| last == "*") {
            problems.push(format!("{line}: `{shown}`: name what is imported, so that it can be seen who uses what"));
            continue;
        }
        let target = unit(path);
        let Some(&layer) = layers.get(target.as_str()) else {
            problems
                .push(format!("{line}: `crate::{shown}`: `{target}` is in no layer; use the module it is defined in"));
            continue;
        };
        let inside = target == here || target.split("::").next() == here.split("::").next() && layer <= own_layer;
        let neighbour = NEIGHBOURS.iter().any(|(from, to)| *from == here && to.contains(&target.as_str()));
        if !inside && !neighbour && layer >= own_layer {
            let place = if layer == own_layer { "lies beside it" } else { "lies above it" };
            problems
                .push(format!("{line}: `{here}` (layer {own_layer}) uses `{target}` (layer {layer}), which {place}"));
        }
    }
    problems
}

fn side_effect_problems(uses: &[Use]) -> Vec<String> {
    let mut problems = Vec::new();
    for one in uses {
        match one {
            Use::Std { line, path } => {
                let shown = path.join("::");
                if PATHS_OF_PROGRAMS.iter().any(|banned| shown == *banned || shown.starts_with(&format!("{banned}::")))
                {
                    problems.push(format!("{line}: `{shown}`"));
                }
            }
            Use::Macro { line, name } if MACROS_OF_PROGRAMS.contains(&name.as_str()) => {
                problems.push(format!("{line}: `{name}!`"));
            }
            _ => {}
        }
    }
    problems
}

/// The checks themselves, on sources that break the rules.
mod the_checks {
    use super::*;

    fn layers(file: &str, text: &str) -> Vec<String> {
        let module = module_path(Path::new(file));
        layer_problems(&module, &uses(text, &module))
    }

    #[test]
    fn find_what_they_are_for() {
        for (file, text, line) in [
            ("id.rs", "use crate::store::Store;", 1),
            ("codec.rs", "\nuse crate::{limits, tree::{name::Name, Walker}};", 2),
            ("pack/reader.rs", "fn f() { crate::index::lookup() }", 1),
            ("backup/mod.rs", "use crate::restore::Plan;", 1),
            ("chunker/mod.rs", "use super::pack::Pack;", 1),
            ("chunker/mod.rs", "use crate::Error;", 1),
            ("chunker/mod.rs", "use crate::id::*;", 1),
            ("crypto/keys.rs", "use super::super::index::Table;", 1),
            ("source/local.rs", "use crate::tree::Walker;", 1),
            ("tree/node.rs", "use crate::tree::Walker;", 1),
            ("novelty.rs", "", 1),
        ] {
            let problems = layers(file, text);
            assert_eq!(problems.len(), 1, "{file}: {text}: {problems:?}");
            assert!(problems[0].starts_with(&format!("{line}: ")), "{problems:?}");
        }
    }

    #[test]
    fn pass_over_what_is_right() {
        for (file, text) in [
            ("backup/mod.rs", "use crate::{backup::saver::Saver, index, store::{self, Store}, tree::Walker};"),
            ("source/local.rs", "use crate::tree::{name::Name, node::{Mode, Xattr}};"),
            ("tree/walk.rs", "use crate::tree::{name::Name, node::Node, page}; use super::page::Page;"),
            ("store/mod.rs", "//! See crate::backup.\n/* crate::prune */ const A: &str = \"crate::check\";"),
            ("codec.rs", "fn f() {}\n#[cfg(test)]\nmod tests { use super::*; use crate::tree::Walker; }"),
            ("crypto/aead.rs", "mod backend { use super::OpenError; }"),
            ("lib.rs", "pub use crate::backup::Options;"),
        ] {
            assert_eq!(layers(file, text), Vec::<String>::new(), "{file}: {text}");
        }
    }

    #[test]
    fn find_side_effects() {
        let count = |text| side_effect_problems(&uses(text, &[])).len();
        assert_eq!(count("use std::{env::var, io, process::{Command, id}};"), 2);
        assert_eq!(count("fn f() { println!(\"{}\", r#\"print!\"#); std::process::exit(1) }"), 2);
        assert_eq!(count("const V: &str = env!(\"V\"); /// println!()\nfn f<'a>(c: char) -> bool { c == '\"' }"), 0);
    }
}
