//! What was sealed opens to the same bytes; anything else does not open, and leaves nothing behind.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repo_core::{
    crypto::{
        aead::{Cipher, Nonce, TAG_BYTES},
        keys::{Keys, MasterKey, ObjectKind},
    },
    id::RepositoryId,
};

fuzz_target!(|input: &[u8]| {
    let [flip, ordinal, input @ ..] = input else { return };
    let keys = Keys::new(MasterKey::from_bytes([7; 32]), RepositoryId([9; 32]));
    let cipher = Cipher::new(&keys.object_key(ObjectKind::DataPack, &[3; 32]));
    let nonce = Nonce::frame(u32::from(*ordinal));
    let mut out = b"left over".to_vec();

    assert!(cipher.open(nonce, b"associated", input, &mut out).is_err(), "something nobody sealed opens");
    assert!(out.is_empty());

    let mut sealed = input.to_vec();
    cipher.seal(nonce, b"associated", &mut sealed, 0);
    assert_eq!(sealed.len(), input.len() + TAG_BYTES);
    cipher.open(nonce, b"associated", &sealed, &mut out).expect("what was sealed opens");
    assert_eq!(out, input);

    let position = usize::from(*flip) % sealed.len();
    sealed[position] ^= 1 << (flip & 7);
    assert!(cipher.open(nonce, b"associated", &sealed, &mut out).is_err(), "changed bytes open");
});
