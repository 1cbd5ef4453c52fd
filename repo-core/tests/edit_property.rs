//! A snapshot from which paths are left out afterwards is the one that a backup with the same rules makes, to the last byte.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{fs, path::Path, sync::Arc};

use common::bench::{back_up, init, options, snapshots};
use proptest::prelude::*;
use repo_core::{
    edit::{EditOptions, Exclude, TagChange, edit},
    progress::{Cancel, Silent},
    repository::Repository,
    snapshot::{Listing, Snapshot},
    source::{
        exclude::ExcludeRules,
        local::{LocalOptions, LocalSource, Target},
    },
    store::memory::MemoryStore,
};

/// A pattern, whether it begins at the root, whether it takes back, and whether case is ignored.
type Rule = (String, bool, bool, bool);

/// Patterns that begin at the root begin at `base`.
fn rules(rules: &[Rule], base: &str) -> (ExcludeRules, Vec<String>) {
    let mut exclude = ExcludeRules::default();
    let mut texts = Vec::new();
    for (pattern, anchored, negated, folded) in rules {
        let negation = if *negated { "!" } else { "" };
        let base = if *anchored { format!("{base}/") } else { String::new() };
        let text = format!("{negation}{base}{pattern}");
        if *folded {
            exclude.pattern_ignoring_case(text.as_bytes()).unwrap();
        } else {
            exclude.pattern(text.as_bytes()).unwrap();
        }
        texts.push(text);
    }
    (exclude, texts)
}

fn save(repository: &Arc<Repository>, base: &Path, exclude: ExcludeRules) -> Snapshot {
    // What leads to a target is stored, too, and changes while the test runs: so these are the contents of the directory.
    let local = LocalOptions { exclude, ..LocalOptions::new(base) };
    let source = LocalSource::new(&[Target::named(".")], local).unwrap();
    let id = back_up(repository, &source, &options()).unwrap().snapshot.unwrap();
    snapshots(repository).into_iter().find(|(there, _)| *there == id).unwrap().1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn leaving_out_afterwards_is_leaving_out_from_the_start(
        files in proptest::collection::vec(
            ("(a|b|ab|A|c)(/(a|b|ab|B|c)){0,4}", 0_usize..3000),
            1..40,
        ),
        rules_of in proptest::collection::vec(
            ("(a|b|ab|a\\*|\\*b|\\?b|c)(/(a|b|\\*|a\\*|\\*\\*|c)){0,2}", any::<bool>(), prop::bool::weighted(0.25), prop::bool::weighted(0.2)),
            1..4,
        ),
    ) {
        // No rule above matches a component of the way to it.
        let folder = tempfile::Builder::new().prefix("q").suffix("0").tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        for (path, length) in &files {
            let path = base.join(path);
            let folder_of = path.parent().unwrap();
            if fs::create_dir_all(folder_of).is_ok() && !path.exists() {
                fs::write(&path, common::sample::noise(*length as u64, *length)).unwrap();
            }
        }
        let repository = init(MemoryStore::new());
        save(&repository, &base, ExcludeRules::default());
        let listing = Listing::read(&repository).unwrap();
        let (exclude, patterns) = rules(&rules_of, "");
        let same = || rules(&rules_of, base.to_str().unwrap()).0;
        let options = EditOptions {
            exclude: Exclude { rules: exclude, patterns },
            even_protected: false,
            ..EditOptions::tags(TagChange::None)
        };
        edit(&repository, &listing, &[listing.snapshots[0].0], &options, &Silent, &Cancel::default()).unwrap();
        let rewritten = snapshots(&repository).remove(0).1;
        let expected = save(&init(MemoryStore::new()), &base, same());
        prop_assert_eq!(rewritten.totals, expected.totals);
        let again = save(&repository, &base, same());
        prop_assert_eq!(rewritten.tree, again.tree);
        prop_assert_eq!(rewritten.totals, again.totals);
    }
}
