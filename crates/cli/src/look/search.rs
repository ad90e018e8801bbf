//! `chatledger search`: messages by their words.

use clap::Args;
use uuid::Uuid;

use super::{
    RoleName, harmless, json, messages_of, page_size, refused,
    screen::{Look, Screen, local_time},
};
use crate::{output::tell, server_target::ServerFlags};
use chatledger_protocol as pb;

/// What to search for, and where.
#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// The words; "a phrase", or, -not
    #[arg(value_name = "QUERY")]
    query: String,
    /// In the sessions of this user
    #[arg(long, value_name = "ID")]
    user: Option<Uuid>,
    /// In this session
    #[arg(long, value_name = "ID")]
    session: Option<Uuid>,
    /// The most to show, the best first
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Only messages of this role; may be given more than once
    #[arg(long, value_enum, value_name = "ROLE")]
    role: Vec<RoleName>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

pub(crate) fn run(args: &SearchArgs) -> anyhow::Result<()> {
    super::run(search(args))
}

async fn search(args: &SearchArgs) -> anyhow::Result<()> {
    let channel = args.server.connect().await?;
    let screen = Screen::of_stdout();
    let mut left = args.limit;
    let mut page_token = String::new();
    let mut found = 0;
    while left > 0 {
        let request = pb::SearchMessagesRequest {
            query: args.query.clone(),
            page_size: page_size(left),
            page_token,
            user_id: args.user.map(|id| id.to_string()),
            session_id: args.session.map(|id| id.to_string()),
            roles: RoleName::numbers(&args.role),
            fields: Vec::new(),
        };
        let page = messages_of(&channel).search_messages(request).await;
        let page = page.map_err(|status| refused(&status))?.into_inner();
        for hit in &page.hits {
            if args.json {
                json::print(&json::hit(hit));
            } else {
                print(screen, hit);
            }
        }
        found += page.hits.len();
        left = left.saturating_sub(page.hits.len());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if found == 0 && !args.json {
        tell("nothing found\n");
    }
    Ok(())
}

fn print(screen: Screen, hit: &pb::SearchHit) {
    let message = hit.message.clone().unwrap_or_default();
    let title = harmless::line(&hit.session_title);
    tell(&format!(
        "{} {}  {}{}\n{}\n",
        screen.paint(Look::Bold, &message.session_id),
        screen.paint(
            Look::Dim,
            &format!("#{} {}", message.seq, json::role(message.role))
        ),
        screen.paint(Look::Dim, &local_time(message.create_time.as_ref())),
        if title.is_empty() {
            title
        } else {
            format!("  {title}")
        },
        marked(screen, &screen.indented(&harmless::block(&hit.snippet))),
    ));
}

/// The matched words in bold, where there is a terminal for it; plain, `*` is beside them. They come between `<b>` and `</b>`,
/// which the message may have of its own: then more than they is marked, and nothing else.
fn marked(screen: Screen, text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("<b>") {
        let Some((word, after)) = behind.split_once("</b>") else {
            break;
        };
        let bold = screen.paint(Look::Bold, word);
        let sign = if bold == word { "*" } else { "" };
        shown.extend([before, sign, &bold, sign]);
        rest = after;
    }
    shown + rest
}
