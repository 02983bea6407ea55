//! `sublet host own …`: the partitions of the owner's own.

use super::State;
use crate::output::{self, Format, Rows, say_if_terminal};
use clap::{Args, Subcommand};
use sublet_host::division::wish;
use sublet_host::store::{Own, Store, Wish};

/// Your own partitions on this computer (`sublet host divide` makes them)
///
/// One that crashed starts again by itself; one that was shut down from inside stays down until you
/// start it.
#[derive(Debug, Args)]
pub struct Mine {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How they stand
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        state: State,
    },
    /// Start one that is down
    Start(Which),
    /// Shut one down; it stays down until it is started
    Stop(Which),
    /// Shut one down and remove it, with all that is in it
    Remove(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// Its name
    #[arg(value_parser = crate::values::name)]
    name: String,
    #[command(flatten)]
    state: State,
}

impl Mine {
    /// Says it to the store, where the agent hears of it.
    pub fn run(self, format: Format) -> anyhow::Result<()> {
        let (which, wanted) = match self.what {
            What::List { state } => return list(&state.joined()?, format),
            What::Start(which) => (which, Wish::Run),
            What::Stop(which) => (which, Wish::Stop),
            What::Remove(which) => (which, Wish::Remove),
        };
        let store = which.state.joined()?;
        wish(&store, &which.name, wanted)?;
        list(&store, format)
    }
}

/// One, for programs.
pub fn shown(own: &Own) -> serde_json::Value {
    serde_json::json!({
        "partition": own.partition,
        "name": own.name,
        "wish": own.wish.word(),
        "stand": own.stand.word(),
        "resources": own.resources,
        "image": own.manifest().map(|image| image.reference()).ok(),
        "starts": own.starts,
        "waits": own.waits,
        "said": own.said,
    })
}

fn list(store: &Store, format: Format) -> anyhow::Result<()> {
    let all = store.own()?;
    if format == Format::Json {
        return output::json(&all.iter().map(shown).collect::<Vec<_>>());
    }
    let headings = ["partition", "wanted", "stands", "has", "image", "starts", "last heard"];
    let mut rows = Rows::new(&headings, "none; `sublet host divide --own debian:2cpu,4GiB` makes one").right(&[5]);
    for own in &all {
        rows.row(vec![
            own.name.clone(),
            own.wish.word().into(),
            own.stand.word().into(),
            own.resources.to_string(),
            own.manifest().map_or_else(|_| "-".into(), |image| image.reference()),
            own.starts.to_string(),
            own.waits.as_ref().or(own.said.as_ref()).cloned().unwrap_or_else(|| "-".into()),
        ]);
    }
    rows.print()?;
    if !all.is_empty() && !store.has_agent() {
        say_if_terminal("the agent does not run, so nothing changes: start it with `sublet host run`");
    }
    Ok(())
}
