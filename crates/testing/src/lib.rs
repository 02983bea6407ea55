//! A world of real processes for tests: a market, a depot, hosts and the people who use them,
//! each a `sublet` program of its own on loopback, with real partitions.
//!
//! Nothing there is a stand-in: what a test does, a person could type. And beside it, in
//! [`simulation`], the same parts in one thread under one seed, where everything goes wrong.

pub mod process;
pub mod relay;
pub mod simulation;
pub mod world;

pub use process::Process;
pub use relay::Relay;
pub use world::{Host, Person, Ran, World, WorldOptions};

/// Writes down what was tried and what came of it, for people: `target/bad-inputs/NAME.md`.
pub fn table(name: &str, tried: &[(String, String)]) -> anyhow::Result<()> {
    let cell = |text: &str| text.replace(|c: char| c.is_control(), " ").replace('|', "\\|");
    let rows = tried.iter().map(|(tried, answered)| format!("| {} | {} |\n", cell(tried), cell(answered)));
    let text: String = std::iter::once("| tried | answered |\n|---|---|\n".to_owned()).chain(rows).collect();
    let own = || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(own, Into::into).join("bad-inputs");
    std::fs::create_dir_all(&folder)?;
    Ok(std::fs::write(folder.join(format!("{name}.md")), text)?)
}
