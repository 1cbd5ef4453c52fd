//! Stores that fail, lie and remember, and the suite that holds every store to its obligations. For tests only.

pub mod contract;
pub mod disk;
pub mod fault;
pub mod power_cut;
pub mod record;

pub use self::{
    contract::check_store,
    disk::Disk,
    fault::{Fault, FaultStore, Request, Stopped},
    power_cut::{Remains, power_cut},
    record::{Event, Operation, RecordingStore},
};
