//! `chatledger doctor`: looks at the database as `serve` with the same settings would use it, and tells what is well and what
//! isn't.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail, ensure};
use clap::Args;
use jiff::Timestamp;
use serde_json::json;

use super::{
    logs::Logs,
    look::{
        harmless,
        screen::{Look, Screen, trimmed},
    },
    output::{say, show},
};
use chatledger::{
    config::{DatabaseConfig, LogFormat, duration},
    ledger::LedgerOptions,
    migrations::{PROGRAM, Scope},
};
use chatledger_doctor::{CHECKS, ConnectionNeed, Examination, Finding, Patient, Severity, examine};
use chatledger_embedded::{Cluster, ClusterOptions, EmbeddedError};
use chatledger_migrate::{LockPolicy, Migrator, Settings};
use chatledger_postgres::{connect::Connector, url::DatabaseUrl};

/// The number of the form that `--json` has; another one means that something was taken away or changed its meaning.
const FORM: u32 = 1;

/// The connections of a server besides its pool's and its lanes': three of watches, and one of health.
const OTHER_CONNECTIONS: u32 = 4;

/// What to look at, and how to tell it.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Warnings make the exit code 1 as well; errors always do
    #[arg(long)]
    strict: bool,
    /// Answer in JSON, one document on stdout
    #[arg(long)]
    json: bool,
    /// List the checks, and look at nothing
    #[arg(long)]
    list: bool,
    /// How many servers there are to be, for the connections that they may want
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    servers: u32,
    /// What is kept and served
    #[arg(long, env = "CHATLEDGER_SCOPE", value_enum, default_value_t = Scope::All)]
    scope: Scope,
    /// How many batches of appends are committed at a time [default: as many as there are processors, 2 to 4]
    #[arg(long, env = "CHATLEDGER_APPEND_LANES", value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    append_lanes: Option<u8>,
    /// The longest that a request may take
    #[arg(long, env = "CHATLEDGER_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    request_timeout: Duration,
    /// A directory of your own migrations, which run after the embedded ones
    #[arg(long, env = "CHATLEDGER_MIGRATIONS_DIR", value_name = "DIR")]
    migrations_dir: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseConfig,
}

pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    if args.list {
        for check in CHECKS {
            say!("{}: {}", check.id, check.about);
        }
        return Ok(());
    }
    let _logs = Logs::start(LogFormat::Text, "error,refinery_core=off");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let examination = runtime.block_on(async {
        let place = Place::find(args).await?;
        let examined = match patient(args, &place) {
            Ok(patient) => Ok(examine(&patient).await),
            Err(error) => Err(error),
        };
        place.close().await;
        examined
    })?;
    if args.json {
        show!("{}", document(&examination)?);
    } else {
        show!("{}", page(Screen::of_stdout(), &examination));
    }
    verdict(args, &examination)
}

/// The exit code.
fn verdict(args: &DoctorArgs, examination: &Examination) -> anyhow::Result<()> {
    let (errors, warnings) = (
        examination.count(Severity::Error),
        examination.count(Severity::Warning),
    );
    ensure!(errors == 0, "the doctor found {}", plural(errors, "error"));
    ensure!(
        warnings == 0 || !args.strict,
        "--strict: the doctor found {}",
        plural(warnings, "warning")
    );
    Ok(())
}

/// Where the database is.
struct Place {
    url: DatabaseUrl,
    direct_url: DatabaseUrl,
    /// Where an embedded database has its data.
    data_dir: Option<PathBuf>,
    /// The embedded one, where it wasn't running.
    cluster: Option<Cluster>,
}

impl Place {
    /// The database of the URL; or the embedded one that a server runs just now; or the embedded one, started. None is made.
    async fn find(args: &DoctorArgs) -> anyhow::Result<Place> {
        let source = &args.database.source;
        if let Some(external) = source.external()? {
            return Ok(Place {
                url: external.url,
                direct_url: external.direct_url,
                data_dir: None,
                cluster: None,
            });
        }
        let data_dir = match &source.data_dir {
            Some(dir) => dir.clone(),
            None => chatledger_embedded::default_data_dir()?,
        };
        if !data_dir.is_dir() {
            bail!(
                "there is nothing to look at: give --database-url (DATABASE_URL); or --data-dir, where an embedded database \
                 has been ({} isn't there)",
                data_dir.display()
            );
        }
        let options = ClusterOptions {
            data_dir: data_dir.clone(),
            pg_bin: source.pg_bin.clone(),
            settings: Vec::new(),
        };
        let (url, cluster) = match Cluster::start(&options).await {
            Ok(cluster) => (cluster.url().to_owned(), Some(cluster)),
            Err(EmbeddedError::InUse { url, .. }) => (url, None),
            Err(error) => return Err(error.into()),
        };
        let url = DatabaseUrl::parse(&url).context("the embedded database's URL")?;
        Ok(Place {
            direct_url: url.clone(),
            url,
            data_dir: Some(data_dir),
            cluster,
        })
    }

    async fn close(self) {
        if let Some(cluster) = self.cluster
            && let Err(error) = cluster.stop().await
        {
            tracing::warn!(%error, "the embedded PostgreSQL did not stop as it should");
        }
    }
}

fn patient(args: &DoctorArgs, place: &Place) -> anyhow::Result<Patient> {
    let source = &args.database.source;
    let migrates_pooled = source.migrates_pooled(&place.direct_url);
    let settings = Settings {
        program: &PROGRAM,
        scope: args.scope.sets(),
        only: None,
        with: Vec::new(),
        migrations_dir: args.migrations_dir.clone(),
        patience: source.connect_timeout,
        locks: LockPolicy::default(),
        pooled: migrates_pooled,
    };
    let lanes = args
        .append_lanes
        .map_or_else(LedgerOptions::usual_lanes, usize::from);
    let lanes = u32::try_from(lanes).unwrap_or(u32::MAX);
    Ok(Patient {
        url: place.url.clone(),
        direct_url: place.direct_url.clone(),
        has_direct: source.has_direct(),
        is_pooled: source.is_pooled(&place.url),
        migrates_pooled,
        data_dir: place.data_dir.clone(),
        program: &PROGRAM,
        connections: ConnectionNeed {
            // Each lane has a second connection, for what waits.
            per_server: args
                .database
                .pool_size
                .saturating_add(lanes.saturating_mul(2))
                .saturating_add(OTHER_CONNECTIONS),
            servers: args.servers,
        },
        request_timeout: args.request_timeout,
        patience: source.connect_timeout,
        migrator: Migrator::new(Connector::new(&place.direct_url)?, settings)?,
    })
}

/// The document of `--json`: docs/doctor.md describes it.
fn document(examination: &Examination) -> anyhow::Result<String> {
    let document = json!({
        "form": FORM,
        "time": Timestamp::now().to_string(),
        "database": examination.database,
        "server_version": examination.server_version,
        "summary": {
            "ok": examination.count(Severity::Ok),
            "notice": examination.count(Severity::Notice),
            "warning": examination.count(Severity::Warning),
            "error": examination.count(Severity::Error),
        },
        "checks": examination.checks,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// All of it for people, by group.
fn page(screen: Screen, examination: &Examination) -> String {
    let mut text = screen.paint(Look::Bold, &harmless::line(&examination.database));
    if let Some(version) = &examination.server_version {
        text = text + ", PostgreSQL " + &harmless::line(version);
    }
    text.push('\n');
    let groups = examination.checks.chunk_by(|one, other| one.group == other.group);
    for group in groups {
        text.push('\n');
        text.push_str(&screen.paint(Look::Bold, group.first().map_or("", |finding| finding.group)));
        text.push('\n');
        text.push_str(&section(screen, group));
    }
    let parts = [Severity::Ok, Severity::Notice, Severity::Warning, Severity::Error].map(|severity| {
        let count = examination.count(severity);
        if severity == Severity::Ok {
            format!("{count} ok")
        } else {
            plural(count, severity.as_str())
        }
    });
    let summary = format!("\n{} checks: {}\n", examination.checks.len(), parts.join(", "));
    text + &summary
}

fn section(screen: Screen, findings: &[Finding]) -> String {
    /// Enough for the longest id, so that the groups are in line.
    const ID_WIDTH: usize = 31;
    let mut table = screen.table();
    for finding in findings {
        let mut what = harmless::line(&finding.found);
        if let Some(advice) = &finding.advice {
            what.push_str("\n-> ");
            what.push_str(&harmless::line(advice));
        }
        let severity = format!("{:<7}", finding.severity.as_str());
        table.add_row([severity, format!("{:<ID_WIDTH$}", finding.id), what]);
    }
    let text = trimmed(&table);
    // A table counts the columns that colours don't take; so they come afterwards, to the first word of a line.
    let mut coloured = String::new();
    for line in text.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        let at_start = line.len() - line.trim_start().len() <= 2;
        let look = match word {
            "ok" => Some(Look::Green),
            "notice" => Some(Look::Cyan),
            "warning" => Some(Look::Yellow),
            "error" => Some(Look::Red),
            _ => None,
        };
        match look.filter(|_| at_start) {
            Some(look) => coloured.push_str(&line.replacen(word, &screen.paint(look, word), 1)),
            None => coloured.push_str(line),
        }
        coloured.push('\n');
    }
    coloured
}

fn plural(count: usize, one: &str) -> String {
    if count == 1 {
        format!("1 {one}")
    } else {
        format!("{count} {one}s")
    }
}
