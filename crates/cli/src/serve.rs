//! `chatledger serve`: a database, its schema, and the server over it.

use std::{io::Write, net::SocketAddr, sync::Arc};

use anyhow::Context;
use tokio::net::TcpListener;

use super::{logs::Logs, signals::StopSignals, target::CommandTarget};
use chatledger::{
    auth::CertificateMap,
    config::ServeConfig,
    ledger::{Ledger, LedgerOptions},
    memory::MemoryBudget,
    migrations::PROGRAM,
    rates::RateLimits,
    server::{self, ServerSetup, ServerTls},
    store::Store,
    telemetry::{self, Telemetry, TelemetrySettings, Variables},
    watch::{Hub, WatchOptions},
    watched::{FlagFile, Watched},
};
use chatledger_migrate::{LockPolicy, Migrator, Settings};
use chatledger_postgres::{Db, DbOptions, connect::Connector};

/// What is logged where RUST_LOG says nothing. refinery's lines say what ours say.
const DEFAULT_LOG: &str = "info,refinery_core=off";

pub(super) fn run(config: &ServeConfig) -> anyhow::Result<()> {
    config.validate()?;
    let telemetry = TelemetrySettings::read(&Variables::of_process())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let telemetry = {
        let _in_runtime = runtime.enter();
        Telemetry::start(&telemetry)?
    };
    let logs = Logs::start_with(config.log_format, DEFAULT_LOG, telemetry.logs());
    runtime.spawn(logs.tell_dropped());
    let served = runtime.block_on(serve(config));
    // While the runtime still is there, and not in it.
    telemetry.shut_down();
    // A password that is still being hashed isn't waited for.
    runtime.shutdown_background();
    served
}

async fn serve(config: &ServeConfig) -> anyhow::Result<()> {
    let mut stop = StopSignals::listen()?;
    // The port first: where it is taken, nothing else is worth starting.
    let listener = bind(config.listen).await?;
    let address = listener.local_addr()?;
    let rates = match &config.limits_file {
        Some(path) => RateLimits::open(
            FlagFile {
                flag: "--limits-file",
                path: path.clone(),
            },
            config.reload_interval,
        )?,
        None => RateLimits::default(),
    };
    let files = ServeFiles {
        rates,
        tls: config.tls.open(config.reload_interval)?,
        client_certificates: config.tls.open_certificates(config.reload_interval)?,
    };
    let database = tokio::select! {
        opened = ServedDatabase::open(config) => opened?,
        () = stop.asked() => return Ok(()),
    };
    let served = async {
        let service = service(config, &database, files)?;
        announce(address, &database);
        tokio::select! {
            served = server::run(listener, service, stop_asked(stop)) => served,
            reason = database.target.exited() => Err(anyhow::anyhow!("the embedded PostgreSQL has ended: {reason}")),
        }
    }
    .await;
    database.target.close().await;
    served
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address}"))
}

/// Ends when a signal asks the server to stop. A second signal ends the process.
async fn stop_asked(mut stop: StopSignals) {
    stop.asked().await;
    tracing::info!("stopping; requests under way are being finished");
    tokio::spawn(stop.insisted());
}

/// What is made of files, which are read before anything else is begun.
struct ServeFiles {
    rates: RateLimits,
    tls: Option<ServerTls>,
    client_certificates: Option<Watched<CertificateMap>>,
}

fn service(
    config: &ServeConfig,
    database: &ServedDatabase,
    files: ServeFiles,
) -> anyhow::Result<ServerSetup> {
    let limits = Arc::new(config.limits.limits());
    telemetry::set_database(database.connector.config());
    let db = Db::new(database.connector.clone(), database.options.clone())?;
    let store = Store::new(db, Arc::clone(&limits), config.scope, &config.search_config);
    let memory = MemoryBudget::new(config.memory_budget);
    let watch = WatchOptions {
        memory: memory.clone(),
        heartbeat: config.watch_heartbeat,
        ..WatchOptions::default()
    };
    let hub = Hub::start(&store, database.listener.clone(), watch)?;
    let ledger = LedgerOptions {
        lanes: config
            .append_lanes
            .map_or_else(LedgerOptions::usual_lanes, usize::from),
        ..LedgerOptions::default()
    };
    let access = config.access.access(
        &store,
        files.client_certificates,
        config.is_auth_required(),
        config.reload_interval,
    )?;
    Ok(ServerSetup {
        access,
        ledger: Ledger::start(store.db(), &hub, &ledger)?,
        store,
        hub,
        limits,
        scope: config.scope,
        request_timeout: config.request_timeout,
        max_requests: usize::try_from(config.max_requests).unwrap_or(usize::MAX),
        max_streams: usize::try_from(config.max_streams).unwrap_or(usize::MAX),
        max_connections: usize::try_from(config.max_connections).unwrap_or(usize::MAX),
        max_connection_age: config.max_connection_age,
        max_connection_age_grace: config.max_connection_age_grace,
        memory,
        read_timeout: config.read_timeout,
        shutdown_grace: config.shutdown_grace,
        rates: files.rates,
        tls: files.tls,
    })
}

/// The one line on stdout, for people and for scripts that wait for it.
fn announce(address: SocketAddr, database: &ServedDatabase) {
    let line = format!(
        "chatledger {} serving on {address} ({})",
        env!("CARGO_PKG_VERSION"),
        database.description
    );
    // Whoever started the server may have gone, or may not read; the server doesn't wait for that.
    std::thread::spawn(move || writeln!(std::io::stdout(), "{line}"));
}

/// A database with the scope's schema.
struct ServedDatabase {
    connector: Connector,
    options: DbOptions,
    /// The connector for notifications between servers, where they can be had.
    listener: Option<Connector>,
    /// Such as `PostgreSQL 15.18, embedded at /var/lib/chatledger`.
    description: String,
    target: CommandTarget,
}

impl ServedDatabase {
    async fn open(config: &ServeConfig) -> anyhow::Result<ServedDatabase> {
        let target = CommandTarget::open(&config.database.source).await?;
        let version = boot(config, &target)
            .await
            .with_context(|| format!("database {}", target.direct_url.display()))?;
        let listener = if config.database.source.migrates_pooled(&target.direct_url) {
            None
        } else {
            Some(Connector::new(&target.direct_url)?)
        };
        Ok(ServedDatabase {
            connector: Connector::new(&target.url)?,
            options: config.database.options(&target.url),
            listener,
            description: format!("PostgreSQL {version}, {}", target.place()),
            target,
        })
    }
}

async fn boot(config: &ServeConfig, target: &CommandTarget) -> anyhow::Result<String> {
    let source = &config.database.source;
    let settings = Settings {
        program: &PROGRAM,
        scope: config.scope.sets(),
        only: None,
        with: Vec::new(),
        migrations_dir: config.migrations_dir.clone(),
        patience: source.connect_timeout,
        locks: LockPolicy::default(),
        pooled: source.migrates_pooled(&target.direct_url),
    };
    let migrator = Migrator::new(Connector::new(&target.direct_url)?, settings)?;
    migrator.boot(config.migrate, &config.search_config).await
}
