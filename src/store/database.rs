//! The database itself, for those who operate the server.

use super::Store;
use crate::{
    domain::Result,
    metrics::replicas::{DatabaseState, ReplicaState},
    statements::database::State,
};

impl Store {
    /// The size of the database, and how far its standbys are.
    pub async fn database_state(&self) -> Result<DatabaseState> {
        let mut state = DatabaseState::default();
        for row in self.run_for_nobody(&State {}).await? {
            state.size_bytes = Some(row.size_bytes);
            if let Some(name) = row.replica {
                state.replicas.push(ReplicaState {
                    name,
                    seconds: row.seconds.unwrap_or_default(),
                    bytes: row.bytes.unwrap_or_default(),
                });
            }
        }
        Ok(state)
    }
}
