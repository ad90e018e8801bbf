//! `chatledger messages`: a conversation, or the newest of it.

use clap::Args;
use uuid::Uuid;

use super::{RoleName, conversation, json, messages_of, page_size, refused, screen::Screen};
use crate::server_target::ServerFlags;
use chatledger_client::ServerChannel;
use chatledger_protocol as pb;

/// Which messages.
#[derive(Debug, Args)]
pub(crate) struct MessagesArgs {
    /// The session
    #[arg(value_name = "SESSION")]
    session: Uuid,
    /// The most to show: the newest, or with --after the first
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Only those with a seq above this, the oldest first
    #[arg(long, value_name = "SEQ")]
    after: Option<i64>,
    /// Only those of this role; may be given more than once
    #[arg(long, value_enum, value_name = "ROLE")]
    role: Vec<RoleName>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

pub(crate) fn run(args: &MessagesArgs) -> anyhow::Result<()> {
    super::run(async {
        let channel = args.server.connect().await?;
        let screen = Screen::of_stdout();
        let show = |message: &pb::Message| {
            if args.json {
                json::print(&json::message(message));
            } else {
                conversation::print(screen, message);
            }
        };
        let roles = RoleName::numbers(&args.role);
        match args.after {
            Some(after) => oldest(&channel, args, after, &roles, show).await,
            None => {
                let newest = newest(&channel, args.session, args.limit, &roles).await?;
                newest.iter().for_each(show);
                Ok(())
            }
        }
    })
}

/// Shows those behind a seq, a page at a time.
async fn oldest(
    channel: &ServerChannel,
    args: &MessagesArgs,
    after: i64,
    roles: &[i32],
    show: impl Fn(&pb::Message),
) -> anyhow::Result<()> {
    let mut left = args.limit;
    let mut page_token = String::new();
    while left > 0 {
        let request = pb::ListMessagesRequest {
            session_id: args.session.to_string(),
            page_size: page_size(left),
            page_token,
            after_seq: Some(after),
            order: i32::from(pb::MessageOrder::SeqAsc),
            roles: roles.to_vec(),
            ..Default::default()
        };
        let page = messages_of(channel).list_messages(request).await;
        let page = page.map_err(|status| refused(&status))?.into_inner();
        page.messages.iter().for_each(&show);
        left = left.saturating_sub(page.messages.len());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(())
}

/// The newest messages, the oldest of them first.
pub(super) async fn newest(
    channel: &ServerChannel,
    session: Uuid,
    limit: usize,
    roles: &[i32],
) -> anyhow::Result<Vec<pb::Message>> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    while found.len() < limit {
        let request = pb::ListMessagesRequest {
            session_id: session.to_string(),
            page_size: page_size(limit - found.len()),
            page_token,
            order: i32::from(pb::MessageOrder::SeqDesc),
            roles: roles.to_vec(),
            ..Default::default()
        };
        let page = messages_of(channel).list_messages(request).await;
        let page = page.map_err(|status| refused(&status))?.into_inner();
        found.extend(page.messages);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    found.reverse();
    Ok(found)
}
