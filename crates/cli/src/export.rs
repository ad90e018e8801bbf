//! `chatledger export`: lines of JSON that `chatledger import` reads.

use std::{
    fs::File,
    io::{BufWriter, Write, stdout},
    path::PathBuf,
};

use anyhow::Context;
use uuid::Uuid;

use super::{database::DatabaseAccess, logs::Logs, operator};
use chatledger::{
    audit::{AuditEvent, AuditRecord},
    auth::DEFAULT_TENANT,
    config::{DatabaseConfig, LogFormat},
};
use chatledger_transfer::{ExportPart, Source, TableSource, TransferProgress, export};

/// What to export, and whereto.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("part").required(true).args(["user", "session", "all"])))]
pub(super) struct ExportArgs {
    /// A user, with the profile, the sessions and their messages
    #[arg(long, value_name = "ID")]
    user: Option<Uuid>,
    /// A session, with its messages
    #[arg(long, value_name = "ID")]
    session: Option<Uuid>,
    /// Everything of the tenant
    #[arg(long)]
    all: bool,
    /// The tenant whose data it is
    #[arg(long, value_name = "TENANT", default_value = DEFAULT_TENANT)]
    tenant: String,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// With the hashes of passwords and claim secrets, so that users can sign in, and claim sessions, where it is imported
    #[arg(long)]
    password_hashes: bool,
    #[command(flatten)]
    audit: operator::AuditArgs,
    #[command(flatten)]
    database: DatabaseConfig,
}

impl ExportArgs {
    fn part(&self) -> ExportPart {
        match (self.user, self.session) {
            (Some(user), _) => ExportPart::User(user),
            (_, Some(session)) => ExportPart::Session(session),
            _ => ExportPart::All,
        }
    }
}

pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let _logs = Logs::start(LogFormat::Text, "warn");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let located = DatabaseAccess::find(&args.database.source).await?;
        let exported = from(args, &located).await;
        located.close().await;
        exported
    })
}

async fn from(args: &ExportArgs, located: &DatabaseAccess) -> anyhow::Result<()> {
    let tables =
        TableSource::open_part(&located.direct, &args.tenant, args.part(), args.password_hashes).await?;
    let mut source = Source::Tables(tables);
    let progress = TransferProgress::of(&source, "exporting").await?;
    let mut output: Box<dyn Write> = match &args.output {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("--output {}", path.display()))?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(BufWriter::new(stdout().lock())),
    };
    let done = export(&mut source, &mut output, &progress).await;
    progress.clear();
    let records = done?;
    anyhow::ensure!(
        records > 0 || args.all,
        "the tenant {} has no such {}",
        args.tenant,
        if args.user.is_some() { "user" } else { "session" }
    );
    let mut record = AuditRecord::new(AuditEvent::DataExported, &args.tenant, operator::NAME);
    if let Some(subject) = args.user.or(args.session) {
        record = record.to(subject);
    }
    args.audit.keep(&located.unchanged(&args.database)?, record).await
}
