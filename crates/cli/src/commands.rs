//! One file a command.

pub mod access;
pub mod account;
pub mod admin;
pub mod backup;
pub mod completions;
pub mod context;
pub mod copy;
pub mod depot;
pub mod dispute;
pub mod events;
pub mod forward;
pub mod host;
pub mod image;
pub mod job;
pub mod lease;
mod leasing;
pub mod market;
mod market_keys;
mod module;
pub mod money;
mod nearest;
mod needs;
pub mod proxy;
pub mod rent;
mod renting;
pub mod run;
pub mod search;
pub mod ssh_config;
pub mod statement;
mod stop;
pub mod token;
pub mod user;
pub mod verify;

use crate::api::Market;
use crate::args::{Command, Global};
use std::process::ExitCode;

/// Does what a command says.
pub async fn run(command: Command, global: Global) -> anyhow::Result<ExitCode> {
    let market = || Market::open(&global.asked());
    let format = global.output;
    // What can't be meant is said before anybody is asked.
    needs(&command).map_or(Ok(()), |needs| needs.requirements().map(drop))?;
    match command {
        Command::Search(search) => return search.run(&market()?, format).await,
        Command::Run(run) => return run.run(&market()?, global.verbose > 0).await,
        Command::Rent(rent) => return rent.run(&market()?, format).await,
        Command::Ssh(ssh) => return ssh.run(&market()?).await,
        Command::Cp(copy) => return copy.run(&market()?).await,
        Command::Forward(forward) => return forward.run(&market()?).await,
        Command::Proxy(proxy) => return proxy.run(market).await,
        Command::SshConfig(config) => return config.run(&market()?).await,
        Command::Job(job) => return job.run(&market()?, format).await,
        Command::Release(release) => return release.run(&market()?, format).await,
        Command::Host(host) => return host.run(&global).await,
        Command::Lease(lease) => return lease.run(&market()?, format).await,
        Command::Extend(extend) => extend.run(&market()?, format).await?,
        Command::Statement(statement) => statement.run(&market()?, format).await?,
        Command::Balance(balance) => balance.run(&market()?, format).await?,
        Command::Alerts(alerts) => alerts.run(&market()?, format).await?,
        Command::Events(events) => events.run(&market()?, format).await?,
        Command::Dispute(dispute) => dispute.run(&market()?, format).await?,
        Command::Verify(verify) => return verify.run(format),
        Command::Login(login) => login.run(&global).await?,
        Command::Context(contexts) => contexts.run(format)?,
        Command::Whoami => context::whoami(&market()?, format).await?,
        Command::Image(image) => image.run(&global).await?,
        Command::Depot(depot) => return depot.run().await,
        Command::Market(market) => market.run(format).await?,
        Command::Account(account) => account.run(&market()?, format).await?,
        Command::User(user) => user.run(&market()?, format).await?,
        Command::Token(token) => token.run(&market()?, format).await?,
        Command::Admin(admin) => admin.run(&market()?, format).await?,
        Command::Completions(completions) => completions.run()?,
        // Taken care of in `main`, before there is a runtime.
        Command::Guard(guard) => return host::guard::run(guard),
    }
    Ok(ExitCode::SUCCESS)
}

fn needs(command: &Command) -> Option<&needs::Needs> {
    match command {
        Command::Search(search) => Some(&search.needs),
        Command::Run(run) => Some(&run.needs),
        Command::Rent(rent) => Some(&rent.needs),
        _ => None,
    }
}
