//! Stand-alone objects, as somebody with the key could make them: any content under a good seal is a value or an error,
//! and without the key nothing opens.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use repo_core::{
    crypto::{
        aead::Nonce,
        keys::{Keys, MasterKey, ObjectKind},
    },
    envelope::{
        header::{Header, ObjectCipher},
        object::open,
    },
    id::RepositoryId,
    repository::{
        config::Config,
        notes::{ExpireNote, Mark, Session},
        store_report::Report,
    },
    snapshot::Snapshot,
};
use serde::{Serialize, de::DeserializeOwned};

fn check<T: Serialize + DeserializeOwned + Debug>(kind: ObjectKind, input: &[u8]) {
    let keys = Keys::new(MasterKey::from_bytes([7; 32]), RepositoryId([9; 32]));
    assert!(open::<T>(&keys, kind, input, &"an object").is_err(), "something nobody sealed opens");

    let header = Header::new(kind, [3; 32]);
    let mut bytes = header.bytes().to_vec();
    ObjectCipher::new(&keys, &header)
        .seal(Nonce::frame(0), input, &mut bytes, &mut Vec::new())
        .expect("the memory is good");
    let _ = open::<T>(&keys, kind, &bytes, &"an object").map(|value| format!("{value:?}"));

    let elsewhere = Keys::new(MasterKey::from_bytes([7; 32]), RepositoryId([8; 32]));
    assert!(open::<T>(&elsewhere, kind, &bytes, &"an object").is_err(), "an object opens in another repository");
}

fuzz_target!(|input: &[u8]| {
    let [choice, input @ ..] = input else { return };
    match choice % 6 {
        0 => check::<Config>(ObjectKind::Config, input),
        1 => check::<Snapshot>(ObjectKind::Snapshot, input),
        2 => check::<Session>(ObjectKind::Session, input),
        3 => check::<Mark>(ObjectKind::Mark, input),
        4 => check::<ExpireNote>(ObjectKind::ExpireNote, input),
        _ => check::<Report>(ObjectKind::StoreReport, input),
    }
});
