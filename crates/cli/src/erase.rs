//! `chatledger erase`: a person's data, wherever the ledger has it.

use std::{
    io::{IsTerminal, Write},
    sync::Arc,
};

use clap::Args;
use uuid::Uuid;

use super::{
    database::{ANY_SEARCH_CONFIG, DatabaseAccess},
    logs::Logs,
    operator,
    output::say,
};
use chatledger::{
    audit::{AuditEvent, AuditRecord},
    auth::Caller,
    config::{DatabaseConfig, LogFormat},
    domain::{Error, Limits, Result as DomainResult},
    migrations::Scope,
    reports,
    store::{Folded, Store, UserContents},
};

/// Whom to erase, and where.
#[derive(Debug, Args)]
pub(super) struct EraseArgs {
    /// The user, by id: with profile, sessions, messages and citations
    #[arg(long, value_name = "ID")]
    user: Uuid,
    /// The tenant that the user belongs to
    #[arg(long, value_name = "NAME", default_value = "default")]
    tenant: String,
    /// What is kept here: in scope chat, sessions by the application's own user ids
    #[arg(long, env = "CHATLEDGER_SCOPE", value_enum, default_value_t = Scope::All)]
    scope: Scope,
    /// Don't ask before
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    audit: operator::AuditArgs,
    #[command(flatten)]
    database: DatabaseConfig,
}

pub(super) fn run(args: &EraseArgs) -> anyhow::Result<()> {
    let _logs = Logs::start(LogFormat::Text, "warn");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let located = DatabaseAccess::find(&args.database.source).await?;
        let erased = erase(args, &located).await;
        located.close().await;
        erased
    })
}

async fn erase(args: &EraseArgs, located: &DatabaseAccess) -> anyhow::Result<()> {
    check_scope(args.scope, located).await?;
    let db = located
        .migrated(&args.database, args.scope, ANY_SEARCH_CONFIG)
        .await?;
    let store = Store::new(db, Arc::new(Limits::default()), args.scope, ANY_SEARCH_CONFIG);
    let caller = Caller::server(&Arc::from(args.tenant.as_str()));
    if !args.yes {
        confirm(&told(args, store.user_contents(&caller, args.user).await)?)?;
    }
    let removed = told(args, store.erase_user(&caller, args.user).await)?;
    let record = AuditRecord::new(AuditEvent::UserErased, &args.tenant, operator::NAME).to(args.user);
    args.audit.keep(&store, record).await?;
    say!("erased: {}", words(&removed));
    if args.scope.has_chat() {
        let folded = told(args, reports::catch_up(&store, store.db(), false).await)?;
        if !matches!(folded, Folded::All) {
            say!(
                "Reports still know the sessions' ids and the documents cited; a server that runs forgets them in a moment."
            );
        }
    }
    told(args, store.analyze().await)
}

/// Refuses a scope that is only a part of what the database has: something of the person's would stay, or go unsaid.
async fn check_scope(scope: Scope, located: &DatabaseAccess) -> anyhow::Result<()> {
    if scope == Scope::All {
        return Ok(());
    }
    let (client, _) = located.direct.connect().await?;
    let both = "SELECT to_regclass('users') IS NOT NULL AND to_regclass('chat_sessions') IS NOT NULL";
    let has_both: bool = client.query_one(both, &[]).await?.try_get(0)?;
    anyhow::ensure!(
        !has_both,
        "--scope: the database has users and sessions, so that this would be a part of the person's data; leave it out"
    );
    Ok(())
}

/// A failure in this command's words.
fn told<T>(args: &EraseArgs, result: DomainResult<T>) -> anyhow::Result<T> {
    result.map_err(|error| match error {
        Error::NotFound(_) => anyhow::anyhow!(
            "--user {}: the tenant {} has nothing of that user",
            args.user,
            args.tenant
        ),
        error => anyhow::anyhow!("{error}"),
    })
}

fn words(contents: &UserContents) -> String {
    let UserContents {
        users,
        profiles,
        sessions,
        messages,
        citations,
    } = contents;
    format!(
        "{users} users, {profiles} profiles, {sessions} sessions, {messages} messages, {citations} citations"
    )
}

fn confirm(contents: &UserContents) -> anyhow::Result<()> {
    if contents.is_empty() {
        // The erasure says so.
        return Ok(());
    }
    let words = words(contents);
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "this would erase {words}: confirm it with --yes"
    );
    eprint!("This erases {words}. There is no way back. Go on? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    anyhow::ensure!(
        ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()),
        "nothing was erased"
    );
    Ok(())
}
