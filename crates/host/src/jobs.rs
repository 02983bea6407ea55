//! Detached jobs of the leases on this computer: submitted over a client's own SSH session, driven in
//! the guest, kept on disk. Neither the client nor the market has to be there while they run.
//!
//! - `book`: every lease's jobs, found by lease; what is submitted is durable before it is answered.
//! - `job`: one of them: its record (a file, replaced as a whole) and its output.
//! - `ring`: the end of its output, in a file that does not grow.
//! - `drive`: what happens to it while its guest can be spoken to; asks nothing of the past but the
//!   record and what the guest says. What states there are stands in [`sublet_model::job`].

mod book;
mod drive;
mod job;
mod ring;

pub use book::{Jobs, LeaseJobs, SubmitError};
pub use drive::serve;
pub use job::{Job, Record};
pub use ring::Ring;
