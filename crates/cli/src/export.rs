//! `chatledger export`: lines of JSON that `chatledger import` reads.

use std::{
    fs::File,
    io::{BufWriter, Write, stdout},
    path::PathBuf,
};

use anyhow::Context;
use uuid::Uuid;

use super::{database::Located, logs::Logs};
use chatledger::config::{DatabaseConfig, LogFormat};
use chatledger_transfer::{Part, Progress, Source, export, source::Tables};

/// What to export, and whereto.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("part").required(true).args(["user", "session", "all"])))]
pub(super) struct Export {
    /// A user, with the profile, the sessions and their messages
    #[arg(long, value_name = "ID")]
    user: Option<Uuid>,
    /// A session, with its messages
    #[arg(long, value_name = "ID")]
    session: Option<Uuid>,
    /// Everything
    #[arg(long)]
    all: bool,
    /// The file to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// With the hashes of passwords, so that users can sign in where it is imported
    #[arg(long)]
    password_hashes: bool,
    #[command(flatten)]
    database: DatabaseConfig,
}

impl Export {
    fn part(&self) -> Part {
        match (self.user, self.session) {
            (Some(user), _) => Part::User(user),
            (_, Some(session)) => Part::Session(session),
            _ => Part::All,
        }
    }
}

pub(super) fn run(args: &Export) -> anyhow::Result<()> {
    let _logs = Logs::start(LogFormat::Text, "warn");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let located = Located::find(&args.database.source).await?;
        let exported = from(args, &located).await;
        located.close().await;
        exported
    })
}

async fn from(args: &Export, located: &Located) -> anyhow::Result<()> {
    let tables = Tables::open_part(&located.direct, args.part(), args.password_hashes).await?;
    let mut source = Source::Tables(tables);
    let progress = Progress::of(&source, "exporting").await?;
    let mut output: Box<dyn Write> = match &args.output {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("--output {}", path.display()))?;
            Box::new(BufWriter::new(file))
        }
        None => Box::new(BufWriter::new(stdout().lock())),
    };
    let done = export::run(&mut source, &mut output, &progress).await;
    progress.clear();
    let records = done?;
    anyhow::ensure!(
        records > 0 || args.all,
        "there is no such {}",
        if args.user.is_some() { "user" } else { "session" }
    );
    Ok(())
}
