//! The database that a command is about: the one of a URL, or an embedded one that lives as long as the command.

use std::path::PathBuf;

use chatledger::config::SourceConfig;
use chatledger_embedded::Cluster;
use chatledger_postgres::url::DatabaseUrl;

/// A database, and the cluster that it is in where that is ours.
pub(super) struct CommandTarget {
    /// Where statements go.
    pub url: DatabaseUrl,
    /// Where migrations go.
    pub direct_url: DatabaseUrl,
    cluster: Option<Cluster>,
}

impl CommandTarget {
    /// Starts an embedded PostgreSQL, where no URL is given.
    pub async fn open(source: &SourceConfig) -> anyhow::Result<CommandTarget> {
        if let Some(external) = source.external()? {
            return Ok(CommandTarget {
                url: external.url,
                direct_url: external.direct_url,
                cluster: None,
            });
        }
        let options = chatledger_embedded::ClusterOptions {
            data_dir: match &source.data_dir {
                Some(dir) => dir.clone(),
                None => chatledger_embedded::default_data_dir()?,
            },
            pg_bin: source.pg_bin.clone(),
            settings: Vec::new(),
        };
        let cluster = Cluster::start(&options).await?;
        let url = DatabaseUrl::parse(cluster.url())?;
        Ok(CommandTarget {
            url: url.clone(),
            direct_url: url,
            cluster: Some(cluster),
        })
    }

    /// Where it is, for people, without a secret.
    pub fn place(&self) -> String {
        match &self.cluster {
            Some(cluster) => format!("embedded at {}", cluster.data_dir().display()),
            None => self.url.display(),
        }
    }

    /// The directory of the embedded PostgreSQL's data.
    pub fn data_dir(&self) -> Option<PathBuf> {
        Some(self.cluster.as_ref()?.data_dir().to_path_buf())
    }

    /// Ends when the embedded PostgreSQL has ended by itself; never, without one.
    pub async fn exited(&self) -> String {
        match &self.cluster {
            Some(cluster) => cluster.exited().await,
            None => std::future::pending().await,
        }
    }

    pub async fn close(self) {
        if let Some(cluster) = self.cluster
            && let Err(error) = cluster.stop().await
        {
            tracing::warn!(%error, "the embedded PostgreSQL did not stop as it should");
        }
    }
}
