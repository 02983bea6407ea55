//! What crosses the network, shared by both ends: bodies, problems, the host's sync and its proof
//! of identity, the one HTTP client, the way from client to host, and the cap on connections that
//! every server has.

pub mod api;
pub mod client;
pub mod connections;
pub mod events;
pub mod jobs;
pub mod join;
pub mod mac;
pub mod path;
pub mod problem;
pub mod sync;
pub mod tls;

/// Makes an id: the only randomness that names things, taken outside the model.
pub fn new_id<T: From<uuid::Uuid>>() -> T {
    T::from(uuid::Uuid::now_v7())
}

/// Fills an array with randomness from the operating system.
///
/// # Panics
/// Where the operating system has no randomness to give, nothing secret can be made.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}
