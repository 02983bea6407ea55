//! What an account paid or earned, written so that anyone can recompute it, offline.
//!
//! A statement is a document of records, one a line: who it is for, and for each lease what was
//! agreed (signed by the market), what the market saw, what was receipted (signed by the host), and
//! the charge that follows from these; then the closing, signed by the market, which pins every
//! line. The layout is told in `docs/decisions/0009-money-on-paper.md`; `tools/verify` is a second
//! implementation written from that page.

mod charge;
mod check;
mod csv;
mod fault;
mod html;
mod keys;
mod record;
mod shown;
mod verify;
mod write;

pub use charge::work_out;
pub use fault::{Fault, Holds, Problem, Verdict};
pub use record::{
    ChargeRecord, Closing, Credit, CreditBearer, Head, HostKey, Line, ReceiptRecord, Record, Seen, Segment, Side,
    SignedRecord,
};
pub use shown::Shown;
pub use verify::{verify, verify_with};
pub use write::{Life, StatementError, Writer};

#[cfg(test)]
mod tests;
