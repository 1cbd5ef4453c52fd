//! Names: none that could lead out of its directory, and none that could deceive a terminal's reader.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repo_core::{
    codec,
    tree::{
        name::{Name, escape},
        walk::components,
    },
};

fuzz_target!(|input: &[u8]| {
    let shown = escape(input);
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    if let Ok(text) = std::str::from_utf8(input)
        && *text == *shown
    {
        assert!(!text.contains('\\'));
    }

    if let Ok(name) = codec::decode::<Name>(input) {
        assert_eq!(codec::encode(&name), input);
        assert_eq!(Name::new(name.as_bytes()).as_ref(), Ok(&name));
    }
    let accepted = Name::new(input).is_ok();
    let harmless = !input.is_empty()
        && input.len() <= 255
        && input != b"."
        && input != b".."
        && !input.contains(&b'/')
        && !input.contains(&0);
    assert_eq!(accepted, harmless);

    if let Ok(names) = components(input) {
        assert!(names.len() <= input.len());
        assert!(names.iter().all(|name| !matches!(name.as_bytes(), b"." | b"..")));
    }
});
