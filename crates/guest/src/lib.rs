//! What host and guest say to each other over one byte stream.
//!
//! Pure: no I/O and nothing beyond the standard library, so that both ends (the small program in
//! the partition and the agent on the host) share one definition.
//!
//! - [`frames`]: how messages are cut out of a byte stream that may begin in the middle of anything.
//! - [`messages`]: what is said, and its limits.
//! - [`codec`]: how values are laid out inside a payload.

pub mod codec;
pub mod frames;
pub mod messages;
