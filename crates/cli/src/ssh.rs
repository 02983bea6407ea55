//! The way into a partition: a key that is made here and stays here, a certificate and a pinned
//! host key that come with the lease, and the system's own `ssh`. No prompt, and no trust on
//! first use.

mod ask;
mod command;
mod dial;
mod key;
mod pass;
mod run;

pub use ask::{Asked, ask};
pub use command::{Invocation, Target, quoted, shell_line, way};
pub use dial::{Line, dial, dial_local};
pub use key::ClientKey;
pub use pass::Pass;
pub use run::{Ended, available, end_with_us, run, run_to, run_tool};
