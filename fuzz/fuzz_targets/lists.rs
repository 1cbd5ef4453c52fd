//! Files with patterns and paths, in whatever encoding an editor left them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repo_core::source::{
    exclude::{ExcludeRules, parse_exclude_file},
    files_from::{from_raw, from_verbatim},
};

fuzz_target!(|input: &[u8]| {
    let variable = |name: &[u8]| (name != b"nothing").then(|| b"value".to_vec());
    if let Ok(patterns) = parse_exclude_file(input, &variable) {
        let mut rules = ExcludeRules::default();
        for pattern in &patterns {
            assert!(!pattern.starts_with(b"#") || input.contains(&b'$'));
            let _ = rules.pattern(pattern);
            let _ = rules.pattern_ignoring_case(pattern);
            let _ = rules.if_present(pattern);
        }
    }
    let _ = from_verbatim(input);
    if let Ok(targets) = from_raw(input) {
        assert_eq!(targets.len(), input.iter().filter(|byte| **byte == 0).count());
    }
});
