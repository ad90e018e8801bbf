//! `chatledger serve`: a database, its schema, and the server over it.

use std::{io::Write, net::SocketAddr, sync::Arc, thread};

use anyhow::Context;
use tokio::net::TcpListener;

use super::{
    config_file::{GivenSettings, Invocation},
    logs::{Logs, parse_filter},
    reload::Reload,
    signals::{ReloadSignal, StopSignals, release_hangups},
    target::CommandTarget,
};
use chatledger::{
    admin::{self, AdminState},
    auth::CertificateMap,
    config::ServeConfig,
    ledger::{Ledger, LedgerOptions},
    memory::MemoryBudget,
    metrics::{
        push::MetricsPush,
        view::{DatabasePlace, ServerParts, ServerView},
    },
    migrations::PROGRAM,
    rates::RateLimits,
    server::{self, OpenConnections, ServerSetup, ServerTls},
    store::Store,
    telemetry::{self, Telemetry, TelemetrySettings, Variables},
    watch::{Hub, WatchOptions},
    watched::{Looks, Watched},
};
use chatledger_migrate::{BootedSchema, LockPolicy, Migrator, Settings};
use chatledger_postgres::{Db, DbOptions, connect::Connector};

pub(super) fn run(
    config: &ServeConfig,
    invocation: &Invocation,
    settings: GivenSettings,
) -> anyhow::Result<()> {
    config.validate()?;
    let telemetry = TelemetrySettings::read(&Variables::of_process())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (telemetry, push) = {
        let _in_runtime = runtime.enter();
        let metrics = telemetry.metrics.as_ref();
        let push = metrics.map(|metrics| MetricsPush::new(metrics, &telemetry.resource));
        (Telemetry::start(&telemetry)?, push.transpose()?)
    };
    let logs = Logs::start_with(
        config.log_format,
        parse_filter(&config.log_filter)?,
        telemetry.logs(),
    );
    runtime.spawn(logs.tell_dropped());
    let reload = Reload {
        invocation: invocation.clone(),
        running: settings,
        looks: Looks::every(config.reload_interval),
        log_filter: logs.filter(),
    };
    let admin = AdminState::default();
    if let Some(push) = &push {
        runtime.spawn(push.clone().run(admin.clone()));
    }
    let served = runtime.block_on(serve(config, reload, &admin));
    // While the runtime still is there, and not in it; all of it within the time that a receiver is given.
    thread::scope(|scope| {
        scope.spawn(|| telemetry.shut_down());
        if let Some(push) = push {
            runtime.block_on(push.finish(&admin));
        }
    });
    // A password that is still being hashed isn't waited for.
    runtime.shutdown_background();
    served
}

async fn serve(config: &ServeConfig, reload: Reload, admin: &AdminState) -> anyhow::Result<()> {
    let mut stop = StopSignals::listen()?;
    let hangups = ReloadSignal::listen()?;
    // What came before is heard now.
    release_hangups();
    // The port first: where it is taken, nothing else is worth starting.
    let listener = bind("--listen", config.listen).await?;
    let address = listener.local_addr()?;
    let looks = reload.looks.clone();
    if let Some(listen) = config.admin_listen {
        let listener = bind("--admin-listen", listen).await?;
        tracing::info!(address = %listener.local_addr()?, "the admin port answers");
        // It ends with the runtime, when the last request has been finished.
        tokio::spawn(admin::serve(listener, admin.clone()));
    }
    let files = ServeFiles {
        rates: config.rates(&looks)?,
        tls: config.tls.open(&looks)?,
        client_certificates: config.tls.open_certificates(&looks)?,
        looks,
    };
    let database = tokio::select! {
        opened = ServedDatabase::open(config) => opened?,
        () = stop.asked() => return Ok(()),
    };
    let served = async {
        let service = service(config, &database, files, admin)?;
        // Whoever waits for the line may ask at once.
        admin.readiness.set(None);
        tokio::spawn(reload.follow(hangups));
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

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{flag}: can't listen on {address}"))
}

/// Ends when a signal asks the server to stop. A second signal ends the process.
async fn stop_asked(mut stop: StopSignals) {
    stop.asked().await;
    tracing::info!("stopping");
    tokio::spawn(stop.insisted());
}

/// What is made of files, which are read before anything else is begun.
struct ServeFiles {
    rates: RateLimits,
    tls: Option<ServerTls>,
    client_certificates: Option<Watched<CertificateMap>>,
    looks: Looks,
}

fn service(
    config: &ServeConfig,
    database: &ServedDatabase,
    files: ServeFiles,
    admin: &AdminState,
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
        &files.looks,
    )?;
    let ledger = Ledger::start(store.db(), &hub, &ledger)?;
    let connections = OpenConnections::default();
    admin.show(ServerView::new(ServerParts {
        store: store.clone(),
        lanes: ledger.loads(),
        hub: hub.clone(),
        memory: memory.clone(),
        connections: connections.clone(),
        readiness: admin.readiness.clone(),
        place: DatabasePlace {
            migrations: database.migrations.clone(),
            data_dir: database.target.data_dir(),
        },
    }));
    Ok(ServerSetup {
        access,
        ledger,
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
        drain_delay: config.drain_delay,
        shutdown_grace: config.shutdown_grace,
        rates: files.rates,
        tls: files.tls,
        health_check_interval: config.health_check_interval,
        readiness: admin.readiness.clone(),
        connections,
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
    /// The newest migration of each set.
    migrations: Vec<(String, i64)>,
    target: CommandTarget,
}

impl ServedDatabase {
    async fn open(config: &ServeConfig) -> anyhow::Result<ServedDatabase> {
        let target = CommandTarget::open(&config.database.source).await?;
        let schema = boot(config, &target)
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
            description: format!("PostgreSQL {}, {}", schema.server_version, target.place()),
            migrations: schema.versions,
            target,
        })
    }
}

async fn boot(config: &ServeConfig, target: &CommandTarget) -> anyhow::Result<BootedSchema> {
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
