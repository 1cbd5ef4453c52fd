//! Key slots: arbitrary bytes never open, a real slot with any change never opens as another one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use repo_core::{
    crypto::{
        kdf::KdfCost,
        keys::{Keys, MasterKey},
        slot::{SLOT_BYTES, SlotInfo, info, unwrap, wrap},
    },
    id::RepositoryId,
    runtime::Runtime,
    time::Timestamp,
};

/// Always the same, so that a failure can be replayed.
struct Fixed;

impl Runtime for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000)
    }

    fn random(&self, into: &mut [u8]) {
        into.fill(5);
    }

    fn sleep_ms(&self, _: u64) {}
}

/// Where the costs of the key derivation lie in a slot.
const COSTS: std::ops::Range<usize> = 12..24;

/// Where the description begins, which the password does not protect but the master key.
const DESCRIPTION: usize = 168;

/// Replaces costs that a reader accepts by cheap ones: what they cost is not what is tested.
fn make_cheap(bytes: &mut [u8]) {
    let Some(costs) = bytes.get_mut(COSTS) else { return };
    let number = |at: usize| u32::from_le_bytes([costs[at], costs[at + 1], costs[at + 2], costs[at + 3]]);
    let cost = KdfCost { memory_kib: number(0), passes: number(4), lanes: number(8) };
    if cost.check().is_ok() {
        for (field, value) in costs.chunks_exact_mut(4).zip([KdfCost::TEST.memory_kib, 1, 1]) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let keys = Keys::new(MasterKey::from_bytes([1; 32]), RepositoryId([2; 32]));
    let mut bytes = input.to_vec();
    make_cheap(&mut bytes);
    assert!(unwrap(&bytes, b"password").is_err(), "bytes that nobody wrapped open");
    assert!(info(&bytes, &keys).is_err(), "bytes that nobody wrapped tell who made them");

    let label = String::from_utf8_lossy(input).into_owned();
    let made = SlotInfo { created: Fixed.now(), host: label, user: "somebody".to_owned() };
    let mut wrapped = wrap(&keys, &made, b"password", KdfCost::TEST, &Fixed).expect("the costs are small");
    assert_eq!(wrapped.len(), SLOT_BYTES);
    assert_eq!(unwrap(&wrapped, b"password").expect("what was wrapped opens").repository, keys.repository());
    assert!(made.host.starts_with(&info(&wrapped, &keys).expect("it was described").host));

    let [high, low, flip, ..] = input else { return };
    let position = usize::from(u16::from_be_bytes([*high, *low])) % wrapped.len();
    if *flip != 0 {
        wrapped[position] ^= flip;
        assert!(info(&wrapped, &keys).is_err(), "byte {position} may be changed");
        if !COSTS.contains(&position) && position < DESCRIPTION {
            assert!(unwrap(&wrapped, b"password").is_err(), "byte {position} may be changed");
        }
    }
});
