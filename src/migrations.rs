//! The service's schema as sets of migrations, embedded from `migrations/`, and which of them a server serves.

use std::time::Duration;

use chatledger_migrate::{LateConstraint, Program, SetDescription, SetName};
use chatledger_postgres::{Sql, connect::Connector};
use clap::ValueEnum;

use crate::statements;

/// Which migration sets are installed and served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// Everything.
    All,
    /// Sessions, messages, citations, documents and analytics; user ids are the application's own.
    Chat,
    /// Users and profiles.
    Auth,
}

impl Scope {
    /// Whether users and profiles are kept.
    #[must_use]
    pub fn has_auth(self) -> bool {
        self != Scope::Chat
    }

    /// Whether sessions and what is in them are kept.
    #[must_use]
    pub fn has_chat(self) -> bool {
        self != Scope::Auth
    }

    /// Whether keys are kept: always, since every server has callers.
    #[must_use]
    pub fn has_access(self) -> bool {
        true
    }

    /// The sets that it has, in the order in which they are installed.
    #[must_use]
    pub fn sets(self) -> Vec<SetName> {
        let has = |set: &SetName| {
            if *set == AUTH {
                self.has_auth()
            } else if *set == CHAT || *set == SEARCH {
                self.has_chat()
            } else {
                // The foreign key between the two, where both are kept; row-level security and a team's own, always.
                *set != LINK || self == Scope::All
            }
        };
        SETS.into_iter().filter(has).collect()
    }
}

mod access {
    refinery::embed_migrations!("migrations/access");
}
mod auth {
    refinery::embed_migrations!("migrations/auth");
}
mod chat {
    refinery::embed_migrations!("migrations/chat");
}
mod link {
    refinery::embed_migrations!("migrations/link");
}
mod rls {
    refinery::embed_migrations!("migrations/rls");
}
mod search {
    refinery::embed_migrations!("migrations/search");
}

// The ways back, a constant a set, by build.rs.
include!(concat!(env!("OUT_DIR"), "/downs.rs"));

macro_rules! version_of {
    ($table:literal) => {
        Sql {
            name: "migrations.Version",
            text: concat!("SELECT coalesce(max(version), 0)::bigint FROM ", $table),
            params: &[],
        }
    };
}

/// Users and profiles.
pub const AUTH: SetName = SetName::of(
    &SetDescription::embedded(
        "auth",
        "chatledger_auth_migrations",
        auth::migrations::runner,
        AUTH_DOWNS,
    )
    .needed(version_of!("chatledger_auth_migrations")),
);

/// Sessions, messages, citations and documents.
pub const CHAT: SetName = SetName::of(
    &SetDescription::embedded(
        "chat",
        "chatledger_chat_migrations",
        chat::migrations::runner,
        CHAT_DOWNS,
    )
    .needed(version_of!("chatledger_chat_migrations")),
);

/// The foreign key from sessions to users, where both are kept.
pub const LINK: SetName = SetName::of(
    &SetDescription::embedded(
        "link",
        "chatledger_link_migrations",
        link::migrations::runner,
        LINK_DOWNS,
    )
    .stands_on(&["auth", "chat"])
    .needed(version_of!("chatledger_link_migrations")),
);

/// The keys of services, and what is kept of what was done.
pub const ACCESS: SetName = SetName::of(
    &SetDescription::embedded(
        "access",
        "chatledger_access_migrations",
        access::migrations::runner,
        ACCESS_DOWNS,
    )
    .needed(version_of!("chatledger_access_migrations")),
);

/// The index for searching the messages of a whole tenant; opt-in.
pub const SEARCH: SetName = SetName::of(
    &SetDescription::embedded(
        "search",
        "chatledger_search_migrations",
        search::migrations::runner,
        SEARCH_DOWNS,
    )
    .stands_on(&["chat"])
    .optional(),
);

/// Row-level security, for other programs' roles; opt-in.
pub const RLS: SetName = SetName::of(
    &SetDescription::embedded(
        "rls",
        "chatledger_rls_migrations",
        rls::migrations::runner,
        RLS_DOWNS,
    )
    .stands_on(&["auth", "chat"])
    .optional(),
);

/// The team's own, from `--migrations-dir`.
const OWN: SetName = SetName::of(
    &SetDescription::from_directory("own", "chatledger_own_migrations").stands_on(&["auth", "chat"]),
);

const SETS: [SetName; 7] = [ACCESS, AUTH, CHAT, LINK, SEARCH, RLS, OWN];

/// What migrating this program's database is about.
pub static PROGRAM: Program = Program {
    name: "chatledger",
    sets: &SETS,
    late: Some(LateConstraint {
        set: LINK,
        table: "chat_sessions",
        name: "chat_sessions_user_fkey",
        exceptions: "SELECT count(*) FROM chat_sessions s WHERE user_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM users u WHERE u.tenant_id = s.tenant_id AND u.id = s.user_id)",
        what: "sessions name users who don't exist; the foreign key waits until none does",
    }),
    secrets: &[
        ("users", "hashed_password"),
        ("chat_sessions", "claim_hash"),
        ("api_keys", "secret_hash"),
    ],
    statements: || statements::all().map(|statement| &statement.sql).collect(),
    table_exists: "where the tables are another tool's, `migrate adopt` converts them and `import` copies them; where they \
                   are ours already, `migrate stamp` records that",
    example_table: "messages",
};

/// Brings the schema of a scope up to date, checks that the text search configuration exists, and answers the server's
/// version, such as `15.18`.
///
/// # Errors
/// As [`Migrator::boot`](chatledger_migrate::Migrator::boot).
pub async fn prepare(
    connector: &Connector,
    scope: Scope,
    search_config: &str,
    patience: Duration,
) -> anyhow::Result<String> {
    chatledger_migrate::prepare(connector, &PROGRAM, scope.sets(), search_config, patience).await
}

/// How far the sets are, for the test that prepares all statements.
pub fn statements() -> impl Iterator<Item = &'static Sql> {
    SETS.into_iter().filter_map(SetName::version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_migration_has_a_way_back_and_is_well_formed() {
        assert_eq!(PROGRAM.check(), Ok(()));
    }
}
