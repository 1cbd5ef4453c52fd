//! The order in which a repository is written to and cleaned, without locks (`docs/protocol.md`).
//!
//! Sans I/O: a machine says what to do next and is told what came of it. It reads no clock and touches no store, so that the
//! model checker (`tests/protocol_model`) and the real drivers run the same code.
//!
//! What every driver owes:
//!
//! * A step is answered when it has *ended*: what it put or deleted is durable. The answer of one step is given before anything
//!   of the next one begins; no listing is kept from an earlier step.
//! * What cannot be read or listed completely, or is of a newer version, ends the run: the driver returns its error and drops the
//!   machine. It never answers with what it did not see. A crash at the same place would leave the same, so nothing has to be undone.
//! * An object that is listed and gone when it is read was deleted by somebody else: it is passed over.

use std::fmt::Debug;

pub mod expirer;
pub mod forgetter;
pub mod pruner;
pub mod tidier;
pub mod writer;

/// How often what was condemned or has vanished is stored again before a writer or a pruner gives up.
pub const RESCUES_MAX: u32 = 5;

/// Longest text of a step or an answer in [`WrongAnswer`].
const TEXT_BYTES_MAX: usize = 200;

/// A step was answered with another step's answer: a bug in the driver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the step {step} was answered with {answer}")]
pub struct WrongAnswer {
    step: String,
    answer: String,
}

impl WrongAnswer {
    fn new(step: &impl Debug, answer: &impl Debug) -> Self {
        let text = |value: &dyn Debug| format!("{value:?}").chars().take(TEXT_BYTES_MAX).collect();
        Self { step: text(step), answer: text(answer) }
    }
}
