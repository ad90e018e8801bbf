//! The operator, who has the program and the database, and what is kept of what that one does.

use chatledger::{audit::AuditRecord, config::AuditMode, store::Store};
use clap::Args;

/// The operator's name in the audit.
pub(super) const NAME: &str = "operator";

/// Where what is done is kept.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct AuditArgs {
    /// Where to keep what was done, besides the log
    #[arg(long, env = "CHATLEDGER_AUDIT", value_enum, default_value_t = AuditMode::Log)]
    audit: AuditMode,
}

impl AuditArgs {
    /// Keeps a record, in the log and, where that is wanted, in the table.
    pub(super) async fn keep(self, store: &Store, record: AuditRecord) -> anyhow::Result<()> {
        record.log();
        if self.audit == AuditMode::Table {
            store.keep_audit(&[record]).await?;
        }
        Ok(())
    }
}
