//! `chatledger key`: the keys of services, in the database that servers share.

use std::{sync::Arc, time::Duration};

use chatledger::{
    audit::{AuditEvent, AuditRecord},
    auth::{Caller, DEFAULT_TENANT, NewSecret},
    config::{DatabaseConfig, LogFormat, duration},
    domain::{
        Check, FieldPath, Limits,
        access::{AccessScope, ApiKey, NewApiKey},
        page::{MAX_PAGE_SIZE, Page},
    },
    migrations::{ACCESS, Scope},
    store::Store,
};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};

use super::{
    database::{ANY_SEARCH_CONFIG, DatabaseAccess},
    logs::Logs,
    operator,
    output::say,
};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key; it is printed to stdout, this once
    Create(CreateArgs),
    /// List the keys of a tenant, the newest first
    List(ListArgs),
    /// End a key: within 30 seconds no server takes it any more
    Revoke(RevokeArgs),
    /// Make another key with the name and the scopes of one, which ends after a while: both are taken meanwhile
    Rotate(RotateArgs),
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// What people call it
    #[arg(long, value_name = "NAME")]
    name: String,
    /// What it may do: read, write, users, admin; each includes those before it
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true)]
    scopes: Vec<AccessScope>,
    /// After how long it ends, such as 90d [default: never]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<Duration>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The key's id, the 16 digits behind `cl_`
    id: String,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// The id of the key that ends, the 16 digits behind `cl_`
    id: String,
    /// After how long it ends
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration)]
    overlap: Duration,
    /// After how long the new key ends, such as 90d [default: as long as the old one was to live]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<Duration>,
    #[command(flatten)]
    common: CommonArgs,
}

/// Whose keys, and where they are.
#[derive(Debug, Args)]
struct CommonArgs {
    /// The tenant whose data the key reaches
    #[arg(long, value_name = "TENANT", default_value = DEFAULT_TENANT)]
    tenant: String,
    #[command(flatten)]
    audit: operator::AuditArgs,
    #[command(flatten)]
    database: DatabaseConfig,
}

impl KeyCommand {
    fn common(&self) -> &CommonArgs {
        match self {
            KeyCommand::Create(args) => &args.common,
            KeyCommand::List(args) => &args.common,
            KeyCommand::Revoke(args) => &args.common,
            KeyCommand::Rotate(args) => &args.common,
        }
    }
}

pub(super) fn run(command: &KeyCommand) -> anyhow::Result<()> {
    let _logs = Logs::start(LogFormat::Text, "warn");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let located = DatabaseAccess::find(&command.common().database.source).await?;
        let done = KeyWork::new(command.common(), &located).await;
        let done = match done {
            Ok(work) => work.run(command).await,
            Err(error) => Err(error),
        };
        located.close().await;
        done
    })
}

/// The keys of a tenant, for an operator.
struct KeyWork<'a> {
    store: Store,
    caller: Caller,
    common: &'a CommonArgs,
}

impl<'a> KeyWork<'a> {
    async fn new(common: &'a CommonArgs, located: &DatabaseAccess) -> anyhow::Result<Self> {
        let db = located.with_sets(&common.database, vec![ACCESS]).await?;
        Ok(KeyWork {
            // The keys are the same in every scope.
            store: Store::new(db, Limits::default().into(), Scope::All, ANY_SEARCH_CONFIG),
            caller: Caller::server(&Arc::from(common.tenant.as_str())),
            common,
        })
    }

    async fn run(&self, command: &KeyCommand) -> anyhow::Result<()> {
        match command {
            KeyCommand::Create(args) => {
                let new = NewApiKey {
                    tenant: None,
                    name: args.name.clone(),
                    scopes: args.scopes.iter().copied().collect(),
                    expires_at: end(args.expires)?,
                };
                let (key, secret) = self.create(&new).await?;
                self.audit(AuditEvent::KeyCreated, &key.id).await?;
                show(&key, &secret);
            }
            KeyCommand::List(args) => self.list(args.json).await?,
            KeyCommand::Revoke(args) => {
                let key = self.store.revoke_key(&self.caller, &args.id).await?;
                self.audit(AuditEvent::KeyRevoked, &key.id).await?;
                eprintln!("the key {} ({}) is revoked", key.id, key.name);
            }
            KeyCommand::Rotate(args) => self.rotate(args).await?,
        }
        Ok(())
    }

    async fn create(&self, new: &NewApiKey) -> anyhow::Result<(ApiKey, NewSecret)> {
        let limits = Limits::default();
        let mut check = Check::new(&limits, Timestamp::now());
        new.validate(&mut check, &FieldPath::ROOT);
        let tenant = &self.common.tenant;
        check.required_chars(&FieldPath::ROOT.field("tenant"), tenant, 255);
        check.finish(())?;
        let secret = NewSecret::generate()?;
        let key = self.store.create_key(&self.caller, new, &secret).await?;
        Ok((key, secret))
    }

    async fn rotate(&self, args: &RotateArgs) -> anyhow::Result<()> {
        let old = self.store.key(&self.caller, &args.id).await?;
        anyhow::ensure!(
            old.revoked_at.is_none(),
            "the key {} is revoked: make another with `key create`",
            old.id
        );
        let new = NewApiKey {
            tenant: None,
            name: old.name.clone(),
            scopes: old.scopes,
            expires_at: end(args.expires.or_else(|| lifetime(&old)))?,
        };
        let (key, secret) = self.create(&new).await?;
        let until = Timestamp::now().checked_add(SignedDuration::try_from(args.overlap)?)?;
        let old = self.store.expire_key(&self.caller, &old.id, until).await?;
        self.audit(AuditEvent::KeyCreated, &key.id).await?;
        self.audit(AuditEvent::KeyRotated, &old.id).await?;
        if let Some(until) = old.expires_at {
            eprintln!("the key {} is taken until {until:.0}", old.id);
        }
        show(&key, &secret);
        Ok(())
    }

    async fn list(&self, json: bool) -> anyhow::Result<()> {
        let mut page = Page {
            size: MAX_PAGE_SIZE,
            after: None,
        };
        loop {
            let mut keys = self.store.list_keys(&self.caller, &page).await?;
            let has_more = keys.len() > page.size;
            keys.truncate(page.size);
            for key in &keys {
                if json {
                    say!("{}", as_json(key));
                } else {
                    say!("{}", as_line(key));
                }
            }
            match keys.last() {
                Some(last) if has_more => {
                    page.after = Some((last.created_at.as_microsecond(), last.id.clone()));
                }
                _ => return Ok(()),
            }
        }
    }

    async fn audit(&self, event: AuditEvent, key: &str) -> anyhow::Result<()> {
        let record = AuditRecord::new(event, &self.common.tenant, operator::NAME).to(key);
        self.common.audit.keep(&self.store, record).await
    }
}

/// How long a key was to live, if not for ever.
fn lifetime(key: &ApiKey) -> Option<Duration> {
    let lifetime = key.expires_at?.duration_since(key.created_at);
    Duration::try_from(lifetime).ok()
}

fn end(after: Option<Duration>) -> anyhow::Result<Option<Timestamp>> {
    let end = |after| Ok(Timestamp::now().checked_add(SignedDuration::try_from(after)?)?);
    after.map(end).transpose()
}

/// The key alone on stdout, so that a script can take it; what is known of it on stderr.
fn show(key: &ApiKey, secret: &NewSecret) {
    eprintln!("{}", as_line(key));
    eprintln!("the key is shown this once; what is stored is a hash of it:");
    say!("{}", secret.key);
}

fn as_line(key: &ApiKey) -> String {
    let mut parts = vec![
        key.id.clone(),
        key.tenant.clone(),
        key.scopes.names().join(","),
        key.name.clone(),
    ];
    for (what, at) in [
        ("expires", key.expires_at),
        ("revoked", key.revoked_at),
        ("last used", key.last_used_at),
    ] {
        parts.extend(at.map(|at| format!("{what} {at:.0}")));
    }
    parts.join("  ")
}

fn as_json(key: &ApiKey) -> serde_json::Value {
    serde_json::json!({
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "scopes": key.scopes.names(),
        "create_time": key.created_at,
        "expire_time": key.expires_at,
        "revoke_time": key.revoked_at,
        "last_use_time": key.last_used_at,
    })
}
