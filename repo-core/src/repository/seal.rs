//! Seals: what makes a snapshot body a backup (`docs/format.md` section 10).

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
    ser::SerializeTuple,
};

use crate::{codec, envelope::object::SEAL_VALUE_BYTES_MAX, id::SnapshotId, pack::builder::object_id};

/// A seal: commits the bodies it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The bodies; at most [`crate::limits::SEAL_BODIES_MAX`].
    pub bodies: Vec<SnapshotId>,
    /// The stored bytes of the body, if there is one only and there is room for them, else nothing. Seals have one size, which is mostly
    /// padding: who lists snapshots on a machine without a cache saves a request for each.
    copy: Vec<u8>,
}

impl Seal {
    /// A seal of these bodies.
    #[must_use]
    pub const fn new(bodies: Vec<SnapshotId>) -> Self {
        Self { bodies, copy: Vec::new() }
    }

    /// A seal of one body, with its stored bytes if there is room for them.
    #[must_use]
    pub fn with_copy(body: SnapshotId, bytes: &[u8]) -> Self {
        let sealed = Self { bodies: vec![body], copy: bytes.to_vec() };
        let fits = codec::encode(&sealed).len() <= SEAL_VALUE_BYTES_MAX;
        if fits { sealed } else { Self::new(sealed.bodies) }
    }

    /// The body and its stored bytes, if it has them. What is not what the body's name says is none.
    #[must_use]
    pub fn copy(&self) -> Option<(SnapshotId, &[u8])> {
        match self.bodies.as_slice() {
            [body] if SnapshotId::from(object_id(&self.copy)) == *body => Some((*body, &self.copy)),
            _ => None,
        }
    }
}

/// The list of bodies, and behind it the copy, if there is one.
impl Serialize for Seal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_tuple(2)?;
        parts.serialize_element(&self.bodies)?;
        if !self.copy.is_empty() {
            parts.serialize_element(&self.copy)?;
        }
        parts.end()
    }
}

impl<'de> Deserialize<'de> for Seal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(2, Parts)
    }
}

struct Parts;

impl<'de> Visitor<'de> for Parts {
    type Value = Seal;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a seal")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Seal, A::Error> {
        let bodies = parts.next_element()?.ok_or_else(|| A::Error::custom("it names no bodies"))?;
        // Nothing may follow. Anything else that is not a copy makes the encoding another one than ours, which the codec refuses.
        let copy = parts.next_element().ok().flatten().unwrap_or_default();
        Ok(Seal { bodies, copy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: &[u8]) -> SnapshotId {
        object_id(bytes).into()
    }

    #[test]
    fn with_and_without_a_copy() {
        for length in 0..600 {
            let bytes = vec![7; length];
            let seal = Seal::with_copy(body(&bytes), &bytes);
            let encoded = codec::encode(&seal);
            assert!(encoded.len() <= SEAL_VALUE_BYTES_MAX);
            assert_eq!(codec::decode::<Seal>(&encoded).unwrap(), seal);
            let copied = seal.copy().map(|(_, copy)| copy.len());
            assert_eq!(copied, (length <= 455).then_some(length), "{length}");
            for cut in 33..encoded.len() {
                let cut = codec::decode::<Seal>(&encoded[..cut]);
                assert!(cut.is_err() || cut.unwrap() == Seal::new(seal.bodies.clone()));
            }
            let longer = [encoded.as_slice(), &[0]].concat();
            assert!(codec::decode::<Seal>(&longer).is_err());
        }
    }

    /// As long as there was only the list.
    #[test]
    fn without_a_copy_it_is_the_list_alone() {
        let bodies: Vec<_> = (1..=15).map(|number| SnapshotId([number; 32])).collect();
        assert_eq!(bodies.len(), crate::limits::SEAL_BODIES_MAX);
        let seal = Seal::new(bodies.clone());
        assert_eq!(codec::encode(&seal), codec::encode(&bodies));
        assert_eq!(codec::decode::<Seal>(&codec::encode(&bodies)).unwrap(), seal);
        assert_eq!(seal.copy(), None);
    }

    #[test]
    fn a_copy_of_something_else_is_none() {
        let bytes = b"body".to_vec();
        let other = Seal { bodies: vec![body(b"other")], copy: bytes.clone() };
        assert_eq!(other.copy(), None);
        let two = Seal { bodies: vec![body(&bytes), body(b"other")], copy: bytes };
        assert_eq!(two.copy(), None);
    }
}
