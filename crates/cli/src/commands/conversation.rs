//! `greffe conversation`: creating conversations, their notices, who takes part.

use clap::{Args, Subcommand};
use greffe_client::{ConversationInfo, ConversationState, MemberInfo, mode_name};
use greffe_types::{ConversationId, UserId};
use serde::Serialize;

use super::access::AsUser;
use super::form::{hex, one_line};
use super::query::ModeName;
use super::told::take_in;
use crate::enrol::user_id;
use crate::fail::Result;
use crate::output::{Output, narrate, print};

/// `greffe conversation`
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  greffe conversation create --as alice --mode journaled")]
pub(crate) struct ConversationArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Begin a conversation; its notice has to be acknowledged before anything can be said.
    #[command(after_help = "Example:\n  greffe conversation create --as alice --mode journaled")]
    Create {
        /// Who will be able to read it.
        #[arg(long, value_enum, default_value = "journaled")]
        mode: ModeName,
        #[command(flatten)]
        user: AsUser,
    },
    /// The user's conversations.
    #[command(after_help = "Example:\n  greffe conversation list --as alice")]
    List {
        #[command(flatten)]
        user: AsUser,
    },
    /// A conversation: mode, members, where it stands.
    #[command(after_help = "Example:\n  greffe conversation show CONVERSATION --as alice")]
    Show(One),
    /// The notice that says who can read it, exactly as the tenant's root signed it.
    #[command(
        after_help = "Examples:\n  greffe conversation notice CONVERSATION --as bob --language fr\n  greffe conversation notice CONVERSATION --as bob --next"
    )]
    Notice {
        /// The notice of what the conversation takes up next: the tenant's current disclosure.
        #[arg(long)]
        next: bool,
        /// Language of the notice.
        #[arg(long, default_value = "en")]
        language: String,
        #[command(flatten)]
        one: One,
    },
    /// Put on record that the user was shown the notice; only then are messages sent and delivered.
    #[command(
        after_help = "Examples:\n  greffe conversation acknowledge CONVERSATION --as bob --language fr\n  greffe conversation acknowledge CONVERSATION --as bob --next"
    )]
    Acknowledge {
        /// That of what the conversation takes up next, before it does: nothing waits for it then.
        #[arg(long)]
        next: bool,
        /// Language in which it was shown.
        #[arg(long, default_value = "en")]
        language: String,
        #[command(flatten)]
        one: One,
    },
    /// Have a conversation take up the tenant's current disclosure, with its journaling key, in one commit that every member
    /// sees. Members acknowledge its notice anew; until then they neither send nor are sent anything.
    #[command(after_help = "Example:\n  greffe conversation renew CONVERSATION --as alice")]
    Renew(One),
    /// Replace this device's keys in a conversation, in one commit: what leaked before is useless from then on. The commit also
    /// says anew what the device's client can show, so it is due after an update of the client.
    #[command(after_help = "Example:\n  greffe conversation refresh CONVERSATION --as bob")]
    Refresh(One),
    /// Members who have not acknowledged the notice in force.
    #[command(after_help = "Example:\n  greffe conversation waiting CONVERSATION --as alice")]
    Waiting(One),
    /// Let users in, with all their devices.
    #[command(
        after_help = "Example:\n  greffe conversation invite CONVERSATION bob carol --as alice"
    )]
    Invite(Users),
    /// Remove users, with all their devices.
    #[command(after_help = "Example:\n  greffe conversation remove CONVERSATION carol --as alice")]
    Remove(Users),
}

#[derive(Debug, Args)]
struct One {
    /// The conversation.
    conversation: ConversationId,
    #[command(flatten)]
    user: AsUser,
}

#[derive(Debug, Args)]
struct Users {
    /// The conversation.
    conversation: ConversationId,
    /// The users.
    #[arg(required = true, value_name = "USER")]
    users: Vec<String>,
    #[command(flatten)]
    user: AsUser,
}

#[derive(Serialize)]
struct MemberView {
    user: String,
    device: String,
}

impl MemberView {
    fn new(member: &MemberInfo) -> Self {
        Self {
            user: member.user.clone(),
            device: member.device.to_string(),
        }
    }
}

#[derive(Serialize)]
struct View {
    conversation: String,
    state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    mode: &'static str,
    disclosure: String,
    acknowledged: bool,
    epoch: u64,
    authenticator: Option<String>,
    sequence: u64,
    head: String,
    members: Vec<MemberView>,
}

impl View {
    fn new(info: &ConversationInfo) -> Self {
        Self {
            conversation: info.conversation.to_string(),
            state: match info.state {
                ConversationState::Creating => "creating",
                ConversationState::Active => "active",
                ConversationState::Removed => "removed",
                ConversationState::Broken => "broken",
            },
            reason: info.reason.clone(),
            mode: mode_name(info.mode),
            disclosure: info.disclosure.to_string(),
            acknowledged: info.acknowledged,
            epoch: info.epoch,
            authenticator: info.authenticator.map(|bytes| hex(&bytes)),
            sequence: info.sequence,
            head: info.head.to_string(),
            members: info.members.iter().map(MemberView::new).collect(),
        }
    }

    fn line(&self) -> String {
        let mut users: Vec<String> = self.members.iter().map(|m| one_line(&m.user)).collect();
        users.dedup();
        let notice = if self.acknowledged {
            ""
        } else {
            ", notice not acknowledged"
        };
        format!(
            "{} {} {}{notice}, number {}: {}\n",
            self.conversation,
            self.mode,
            self.state,
            self.sequence,
            users.join(", ")
        )
    }
}

#[derive(Serialize)]
struct List {
    conversations: Vec<View>,
}

#[derive(Serialize)]
struct NoticeView {
    conversation: String,
    language: String,
    digest: String,
    text: String,
}

#[derive(Serialize)]
struct Acknowledged {
    conversation: String,
    language: String,
    log_index: u64,
}

#[derive(Serialize)]
struct Membership {
    conversation: String,
    members: Vec<MemberView>,
}

/// Does what was asked.
pub(crate) async fn run(arguments: ConversationArguments, output: Output) -> Result<()> {
    match arguments.what {
        What::Create { mode, user } => create(mode, &user, output).await,
        What::List { user } => list(&user, output).await,
        What::Show(one) => {
            let held = one.user.open().await?;
            take_in(&held).await?;
            let info = held.device.conversation(&one.conversation).await?;
            print(output, &View::new(&info), |view| {
                let mut text = view.line();
                for member in &view.members {
                    let user = one_line(&member.user);
                    text.push_str(&format!("  {} {user}\n", member.device));
                }
                text
            })
        }
        What::Notice {
            next,
            language,
            one,
        } => notice(&one, &language, next, output).await,
        What::Acknowledge {
            next,
            language,
            one,
        } => acknowledge(&one, language, next, output).await,
        What::Renew(one) => {
            let held = one.user.open().await?;
            take_in(&held).await?;
            held.device.redisclose(&one.conversation).await?;
            let info = held.device.conversation(&one.conversation).await?;
            print(output, &View::new(&info), View::line)
        }
        What::Refresh(one) => {
            let held = one.user.open().await?;
            take_in(&held).await?;
            held.device.update_keys(&one.conversation).await?;
            let info = held.device.conversation(&one.conversation).await?;
            print(output, &View::new(&info), View::line)
        }
        What::Waiting(one) => {
            let held = one.user.open().await?;
            let waiting = held.device.waiting(&one.conversation).await?;
            let list = Membership {
                conversation: one.conversation.to_string(),
                members: waiting.iter().map(MemberView::new).collect(),
            };
            print(output, &list, |list| {
                let line = |m: &MemberView| format!("{} {}\n", m.device, one_line(&m.user));
                list.members.iter().map(line).collect()
            })
        }
        What::Invite(users) => change(&users, Change::Invite, output).await,
        What::Remove(users) => change(&users, Change::Remove, output).await,
    }
}

async fn create(mode: ModeName, user: &AsUser, output: Output) -> Result<()> {
    let held = user.open().await?;
    let id = held.device.create(mode.mode()).await?;
    narrate(
        "show and acknowledge its notice next: `greffe conversation notice`, then `acknowledge`",
    );
    let info = held.device.conversation(&id).await?;
    print(output, &View::new(&info), View::line)
}

async fn list(user: &AsUser, output: Output) -> Result<()> {
    let held = user.open().await?;
    take_in(&held).await?;
    let mut conversations = Vec::new();
    for id in held.device.conversations().await? {
        conversations.push(View::new(&held.device.conversation(&id).await?));
    }
    print(output, &List { conversations }, |list| {
        list.conversations.iter().map(View::line).collect()
    })
}

async fn notice(one: &One, language: &str, next: bool, output: Output) -> Result<()> {
    let held = one.user.open().await?;
    take_in(&held).await?;
    let notice = if next {
        held.device.next_notice(&one.conversation, language).await?
    } else {
        held.device.notice(&one.conversation, language).await?
    };
    let view = NoticeView {
        conversation: one.conversation.to_string(),
        language: notice.language().to_owned(),
        digest: notice.digest().to_string(),
        text: notice.text().to_owned(),
    };
    print(output, &view, |view| view.text.clone())
}

async fn acknowledge(one: &One, language: String, next: bool, output: Output) -> Result<()> {
    let held = one.user.open().await?;
    take_in(&held).await?;
    let (device, id) = (&held.device, &one.conversation);
    let log_index = if next {
        device.acknowledge_next(id, &language).await?
    } else {
        device.acknowledge(id, &language).await?
    };
    let done = Acknowledged {
        conversation: one.conversation.to_string(),
        language,
        log_index,
    };
    print(output, &done, |done| {
        format!("acknowledged: entry {} of the log\n", done.log_index)
    })
}

#[derive(Clone, Copy)]
enum Change {
    Invite,
    Remove,
}

async fn change(users: &Users, change: Change, output: Output) -> Result<()> {
    let names = users.users.iter().map(|name| user_id(name));
    let names = names.collect::<Result<Vec<UserId>>>()?;
    let held = users.user.open().await?;
    take_in(&held).await?;
    let id = &users.conversation;
    let changed = match change {
        Change::Invite => held.device.invite(id, &names).await?,
        Change::Remove => held.device.remove(id, &names).await?,
    };
    let done = Membership {
        conversation: id.to_string(),
        members: changed.iter().map(MemberView::new).collect(),
    };
    print(output, &done, |done| {
        let word = match change {
            Change::Invite => "in",
            Change::Remove => "removed",
        };
        let line = |m: &MemberView| format!("{word}: {} {}\n", m.device, one_line(&m.user));
        done.members.iter().map(line).collect()
    })
}
