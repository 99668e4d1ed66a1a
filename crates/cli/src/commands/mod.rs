//! What people do with `greffe`: users speak and read, auditors search, others hold, approve, open and produce.

pub(crate) mod access;
pub(crate) mod config;
mod conversation;
mod details;
mod device;
mod explain;
pub(crate) mod form;
mod history;
mod hold;
pub(crate) mod log;
mod matter;
mod opened;
mod openings;
mod operator;
mod order;
mod policy;
mod query;
mod read;
mod reads;
mod search;
mod send;
mod tenant;
mod told;

use clap::Subcommand;

use crate::fail::Result;
use crate::output::Output;

/// What people do.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one is parsed a process")]
pub(crate) enum PeopleCommand {
    /// The people who run a tenant: keys, trust bundle, journaling key.
    Operator(operator::OperatorArguments),
    /// What the tenant's root vouches for.
    Tenant(tenant::TenantArguments),
    /// Users' devices.
    Device(device::DeviceArguments),
    /// Conversations, their notices and members.
    Conversation(conversation::ConversationArguments),
    /// Send a message: done when the archive has given its receipt.
    Send(send::SendArguments),
    /// Print what came for a user since the last time, or a conversation from any number on.
    Read(read::ReadArguments),
    /// Print what comes for a user until interrupted.
    Watch(read::WatchArguments),
    /// Search the headers of archived records.
    Search(search::SearchArguments),
    /// The cases that holds and orders belong to.
    Matter(matter::MatterArguments),
    /// Legal holds.
    Hold(hold::HoldArguments),
    /// Orders to open records.
    Order(order::OrderArguments),
    /// Open a released order's records and write the production that is handed over.
    Produce(opened::ProduceArguments),
    /// The audit log, with proofs.
    Log(log::LogArguments),
    /// Policy packs, and why records are kept.
    Policy(policy::PolicyArguments),
}

/// Runs one of them.
pub(crate) async fn run(command: PeopleCommand, output: Output) -> Result<()> {
    match command {
        PeopleCommand::Operator(arguments) => operator::run(arguments, output).await,
        PeopleCommand::Tenant(arguments) => tenant::run(arguments, output).await,
        PeopleCommand::Device(arguments) => device::run(arguments, output).await,
        PeopleCommand::Conversation(arguments) => conversation::run(arguments, output).await,
        PeopleCommand::Send(arguments) => send::run(arguments, output).await,
        PeopleCommand::Read(arguments) => read::run(arguments, output).await,
        PeopleCommand::Watch(arguments) => read::watch(arguments, output).await,
        PeopleCommand::Search(arguments) => search::run(arguments, output).await,
        PeopleCommand::Matter(arguments) => matter::run(arguments, output).await,
        PeopleCommand::Hold(arguments) => hold::run(arguments, output).await,
        PeopleCommand::Order(arguments) => order::run(arguments, output).await,
        PeopleCommand::Produce(arguments) => opened::produce(arguments, output).await,
        PeopleCommand::Log(arguments) => log::run(arguments, output).await,
        PeopleCommand::Policy(arguments) => policy::run(arguments, output).await,
    }
}
