//! The flags of access: who may call, and what is kept of what they do.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::duration;
use crate::{
    audit::Audit,
    auth::{
        Access, Authenticator, CertificateMap,
        key_file::KeyFile,
        known_keys::KnownKeys,
        known_users::KnownUsers,
        token::{
            RemoteKeys, TokenRules, TokenVerifier,
            keys::{KeySource, TokenKeys},
        },
    },
    store::Store,
    watched::{FlagFile, Looks, Watched},
};

/// Who may call.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessConfig {
    /// Whether calls need credentials [default: required beyond loopback (unless --insecure) and where a flag says who has some; else off]
    #[arg(long, env = "CHATLEDGER_AUTH", value_enum)]
    pub auth: Option<AuthMode>,
    /// Keys of services in a TOML file, besides those that `chatledger key` stores; read again when it changes
    #[arg(long, env = "CHATLEDGER_API_KEYS_FILE", value_name = "FILE")]
    pub api_keys_file: Option<PathBuf>,
    /// The secret by which tokens (JWT, HS256) are signed, in a file of 32 bytes or more; read again when it changes
    #[arg(
        long,
        env = "CHATLEDGER_JWT_SECRET_FILE",
        value_name = "FILE",
        conflicts_with = "jwt_jwks"
    )]
    pub jwt_secret_file: Option<PathBuf>,
    /// The keys by which tokens (JWT, RS256, ES256, EdDSA) are verified: a JSON Web Key Set, by its https URL or in a file
    #[arg(long, env = "CHATLEDGER_JWT_JWKS", value_name = "URL|FILE")]
    pub jwt_jwks: Option<String>,
    /// Who must have issued a token (iss), one of these; needed with --jwt-jwks
    #[arg(
        long,
        env = "CHATLEDGER_JWT_ISSUER",
        value_name = "ISSUER",
        value_delimiter = ','
    )]
    pub jwt_issuer: Vec<String>,
    /// For whom a token must be (aud), one of these; without it, a token with an audience is refused
    #[arg(
        long,
        env = "CHATLEDGER_JWT_AUDIENCE",
        value_name = "AUDIENCE",
        value_delimiter = ','
    )]
    pub jwt_audience: Vec<String>,
    /// By how much the clocks of issuers may differ from this one
    #[arg(long, env = "CHATLEDGER_JWT_LEEWAY", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub jwt_leeway: Duration,
    /// The claim of a token that has the tenant; without it, or where a token has none, the tenant is `default`
    #[arg(long, env = "CHATLEDGER_JWT_TENANT_CLAIM", value_name = "CLAIM")]
    pub jwt_tenant_claim: Option<String>,
    /// The claim of a token that has scopes: a token with it is a service's, one without it an end user's
    #[arg(long, env = "CHATLEDGER_JWT_SCOPES_CLAIM", value_name = "CLAIM")]
    pub jwt_scopes_claim: Option<String>,
    /// Let everybody ask for the contract by reflection, and not only admins
    #[arg(long, env = "CHATLEDGER_REFLECTION")]
    pub reflection: bool,
    /// Where to keep what was done, besides the log: refused credentials, changes of keys, deletions of users, acting for users
    #[arg(long, env = "CHATLEDGER_AUDIT", value_enum, default_value_t = AuditMode::Log)]
    pub audit: AuditMode,
    /// How long it is kept in the table, a day at least
    #[arg(long, env = "CHATLEDGER_AUDIT_RETENTION", value_name = "DURATION", default_value = "365d", value_parser = duration)]
    pub audit_retention: Duration,
}

/// Whether calls need credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthMode {
    /// Every call but those of health.
    Required,
    /// None: every caller is the local service, which may do everything.
    Off,
}

/// Where what was done is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuditMode {
    /// As lines of the log.
    Log,
    /// And as rows of `audit_events`.
    Table,
}

/// The least retention: what is younger can't be deleted.
const LEAST_RETENTION: Duration = Duration::from_hours(24);

impl AccessConfig {
    /// Whether calls need credentials, where no flag says so: `otherwise`.
    pub(super) fn is_required(&self, otherwise: bool) -> bool {
        match self.auth {
            Some(mode) => mode == AuthMode::Required,
            None => otherwise,
        }
    }

    /// Whether a flag says who has credentials.
    pub(super) fn names_credentials(&self) -> bool {
        self.api_keys_file.is_some() || self.jwt_secret_file.is_some() || self.jwt_jwks.is_some()
    }

    /// Checks what one flag alone can't tell.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        ensure!(
            self.auth != Some(AuthMode::Off) || !self.names_credentials(),
            "--auth off: another flag says who has credentials, and nobody would be asked for them"
        );
        // clap refuses two flags; one of them may be from a file.
        ensure!(
            self.jwt_secret_file.is_none() || self.jwt_jwks.is_none(),
            "--jwt-secret-file and --jwt-jwks: only one of them can say how tokens are verified"
        );
        ensure!(
            self.jwt_jwks.is_none() || !self.jwt_issuer.is_empty(),
            "--jwt-jwks: needs --jwt-issuer, or tokens for other services of that issuer's would be taken as well"
        );
        let has_tokens = self.jwt_secret_file.is_some() || self.jwt_jwks.is_some();
        let has_rules = !self.jwt_issuer.is_empty()
            || !self.jwt_audience.is_empty()
            || self.jwt_tenant_claim.is_some()
            || self.jwt_scopes_claim.is_some();
        ensure!(
            has_tokens || !has_rules,
            "--jwt-issuer, --jwt-audience, --jwt-tenant-claim, --jwt-scopes-claim: need --jwt-secret-file or --jwt-jwks"
        );
        ensure!(
            self.audit_retention >= LEAST_RETENTION,
            "--audit-retention: must be a day at least"
        );
        Ok(())
    }

    /// Reads the files, and puts together how callers are told apart. `looks`: when files are looked at.
    ///
    /// # Errors
    /// A file that can't be read or used; the error names its flag.
    pub fn access(
        &self,
        store: &Store,
        certificates: Option<Watched<CertificateMap>>,
        is_required: bool,
        looks: &Looks,
    ) -> anyhow::Result<Access> {
        let users = KnownUsers::new(store.clone());
        let audit = match self.audit {
            AuditMode::Log => Audit::default(),
            AuditMode::Table => {
                let retention = SignedDuration::try_from(self.audit_retention).unwrap_or(SignedDuration::MAX);
                Audit::to_table(store.clone(), retention)
            }
        };
        let authenticator = if is_required {
            let keys = KnownKeys::new(store.clone());
            Some(self.authenticator(keys, &users, certificates, looks)?)
        } else {
            None
        };
        Ok(Access {
            reflection_is_open: self.reflection || authenticator.is_none(),
            authenticator,
            users,
            audit,
        })
    }

    fn authenticator(
        &self,
        keys: KnownKeys,
        users: &KnownUsers,
        certificates: Option<Watched<CertificateMap>>,
        looks: &Looks,
    ) -> anyhow::Result<Authenticator> {
        let files = self.open(looks)?;
        let rules = TokenRules {
            issuers: self.jwt_issuer.clone(),
            audiences: self.jwt_audience.clone(),
            leeway: self.jwt_leeway,
            tenant_claim: self.jwt_tenant_claim.clone(),
            scopes_claim: self.jwt_scopes_claim.clone(),
        };
        Ok(Authenticator {
            keys,
            key_file: files.keys,
            tokens: files.tokens.map(|source| TokenVerifier::new(source, rules)),
            certificates,
            users: users.clone(),
        })
    }

    /// Reads the files of keys.
    pub(super) fn open(&self, looks: &Looks) -> anyhow::Result<CredentialFiles> {
        let keys = flag_file("--api-keys-file", self.api_keys_file.as_ref())
            .map(|file| {
                Watched::open_text(file, looks, |text| {
                    KeyFile::parse(text).map_err(|error| format!("{error:#}"))
                })
            })
            .transpose()?;
        let tokens = self.token_keys(looks)?;
        Ok(CredentialFiles { keys, tokens })
    }

    fn token_keys(&self, looks: &Looks) -> anyhow::Result<Option<KeySource>> {
        if let Some(file) = flag_file("--jwt-secret-file", self.jwt_secret_file.as_ref()) {
            return watched_keys(file, looks, TokenKeys::of_secret).map(Some);
        }
        match &self.jwt_jwks {
            None => Ok(None),
            Some(url) if url.contains("://") => {
                let keys = RemoteKeys::new(url).context("--jwt-jwks")?;
                Ok(Some(KeySource::Remote(keys)))
            }
            Some(path) => {
                let file = flag_file("--jwt-jwks", Some(&PathBuf::from(path)));
                file.map(|file| watched_keys(file, looks, TokenKeys::of_set))
                    .transpose()
            }
        }
    }
}

/// Who has credentials, by files and URLs.
pub(super) struct CredentialFiles {
    keys: Option<Watched<KeyFile>>,
    tokens: Option<KeySource>,
}

fn watched_keys(
    file: FlagFile,
    looks: &Looks,
    parse: fn(&[u8]) -> anyhow::Result<TokenKeys>,
) -> anyhow::Result<KeySource> {
    let keys = Watched::open(vec![file], looks, move |contents| {
        let contents = contents.first().context("a file")?;
        parse(contents.bytes()).map_err(|error| contents.file.error(format_args!("{error:#}")))
    })?;
    Ok(KeySource::File(keys))
}

fn flag_file(flag: &'static str, path: Option<&PathBuf>) -> Option<FlagFile> {
    path.map(|path| FlagFile {
        flag,
        path: path.clone(),
    })
}
