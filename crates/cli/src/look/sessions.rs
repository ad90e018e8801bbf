//! `chatledger sessions`: the sessions of a user, or of nobody.

use clap::{Args, ValueEnum};
use uuid::Uuid;

use super::{
    harmless, json, page_size, refused,
    screen::{Look, Screen, local_time, trimmed},
};
use crate::{output::tell, server_target::ServerFlags};
use chatledger_protocol::{
    self as pb, list_sessions_request::Owner, session_service_client::SessionServiceClient,
};

/// Which sessions.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("owner").required(true).args(["user", "anonymous"])))]
pub(crate) struct SessionsArgs {
    /// Those of this user
    #[arg(long, value_name = "ID")]
    user: Option<Uuid>,
    /// Those that belong to nobody
    #[arg(long)]
    anonymous: bool,
    /// The most to list
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    limit: usize,
    /// The newest first, by what [default: active; created, of those that belong to nobody]
    #[arg(long, value_enum, value_name = "ORDER", conflicts_with = "anonymous")]
    order: Option<SessionSort>,
    /// Only those whose title contains this, without regard to case
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// By what sessions are in order.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SessionSort {
    /// Their last activity.
    Active,
    /// When they were created.
    Created,
}

impl SessionsArgs {
    /// Those of nobody are kept in one order only.
    fn sort(&self) -> pb::SessionOrder {
        match self.order {
            None if self.anonymous => pb::SessionOrder::CreatedDesc,
            Some(SessionSort::Created) => pb::SessionOrder::CreatedDesc,
            Some(SessionSort::Active) | None => pb::SessionOrder::LastActiveDesc,
        }
    }
}

pub(crate) fn run(args: &SessionsArgs) -> anyhow::Result<()> {
    super::run(list(args))
}

async fn list(args: &SessionsArgs) -> anyhow::Result<()> {
    let channel = args.server.connect().await?;
    let mut client = SessionServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut listed = Vec::new();
    let mut page_token = String::new();
    while listed.len() < args.limit {
        let request = pb::ListSessionsRequest {
            page_size: page_size(args.limit - listed.len()),
            page_token,
            owner: Some(match args.user {
                Some(user) => Owner::UserId(user.to_string()),
                None => Owner::Anonymous(true),
            }),
            order_by: i32::from(args.sort()),
            metadata_contains_json: None,
            title_contains: args.title.clone(),
        };
        let page = client
            .list_sessions(request)
            .await
            .map_err(|status| refused(&status))?;
        let page = page.into_inner();
        if args.json {
            page.sessions
                .iter()
                .for_each(|session| json::print(&json::session(session)));
        }
        listed.extend(page.sessions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if !args.json {
        print(Screen::of_stdout(), &listed, !page_token.is_empty());
    }
    Ok(())
}

fn print(screen: Screen, sessions: &[pb::Session], has_more: bool) {
    if sessions.is_empty() {
        tell("no sessions\n");
        return;
    }
    let mut table = screen.table();
    table.set_header(["SESSION", "MESSAGES", "LAST MESSAGE", "TITLE"]);
    for session in sessions {
        table.add_row([
            session.id.clone(),
            session.last_seq.to_string(),
            local_time(session.last_message_time.as_ref()),
            harmless::line(&session.title),
        ]);
    }
    tell(&trimmed(&table));
    if has_more {
        tell(&(screen.paint(Look::Dim, "there are more: --limit") + "\n"));
    }
}
