//! A URL as the environment variables that libpq reads, for PostgreSQL's own programs. Unlike arguments, other users
//! don't see them.

use std::collections::BTreeMap;

use tokio_postgres::config::{ChannelBinding, Host};

use super::{DatabaseUrl, SessionAttrs};
use crate::tls::{ClientCert, RootCerts, TlsMode};

impl DatabaseUrl {
    /// The variables, with the password in `PGPASSWORD`.
    #[must_use]
    pub fn libpq_env(&self) -> BTreeMap<&'static str, String> {
        let list = |part: &dyn Fn(&super::ServerAddress) -> String| -> String {
            self.targets.iter().map(part).collect::<Vec<_>>().join(",")
        };
        let mut env = BTreeMap::from([
            ("PGHOST", list(&host)),
            ("PGPORT", list(&|target| target.port.to_string())),
            ("PGDATABASE", self.database().to_owned()),
            ("PGSSLMODE", self.ssl_mode().to_owned()),
            ("PGTARGETSESSIONATTRS", self.session_attrs_text().to_owned()),
            ("PGAPPNAME", "chatledger".to_owned()),
        ]);
        if self.targets.iter().any(|target| target.addr.is_some()) {
            let address =
                |target: &super::ServerAddress| target.addr.map(|addr| addr.to_string()).unwrap_or_default();
            env.insert("PGHOSTADDR", list(&address));
        }
        env.extend(self.base.get_user().map(|user| ("PGUSER", user.to_owned())));
        let password = self
            .base
            .get_password()
            .map(|text| String::from_utf8_lossy(text).into_owned());
        env.extend(password.map(|password| ("PGPASSWORD", password)));
        env.extend(
            self.base
                .get_options()
                .map(|options| ("PGOPTIONS", options.to_owned())),
        );
        let timeout = self.base.get_connect_timeout();
        env.extend(timeout.map(|timeout| ("PGCONNECT_TIMEOUT", timeout.as_secs().max(2).to_string())));
        if self.base.get_channel_binding() == ChannelBinding::Require {
            env.insert("PGCHANNELBINDING", "require".to_owned());
        }
        self.add_certificates(&mut env);
        env
    }

    /// The database's name; without one the server takes the user's.
    #[must_use]
    pub fn database(&self) -> &str {
        self.base
            .get_dbname()
            .or(self.base.get_user())
            .unwrap_or_default()
    }

    /// Another database of the same server.
    #[must_use]
    pub fn with_database(&self, name: &str) -> DatabaseUrl {
        let mut other = self.clone();
        other.base.dbname(name);
        other.config.dbname(name);
        other
    }

    fn ssl_mode(&self) -> &'static str {
        match self.tls.mode {
            TlsMode::Disable => "disable",
            TlsMode::Allow => "allow",
            TlsMode::Prefer => "prefer",
            TlsMode::Require => "require",
            TlsMode::VerifyCa => "verify-ca",
            TlsMode::VerifyFull => "verify-full",
        }
    }

    fn session_attrs_text(&self) -> &'static str {
        match self.session_attrs {
            SessionAttrs::Any => "any",
            SessionAttrs::ReadWrite => "read-write",
            SessionAttrs::ReadOnly => "read-only",
            SessionAttrs::Primary => "primary",
            SessionAttrs::Standby => "standby",
            SessionAttrs::PreferStandby => "prefer-standby",
        }
    }

    fn add_certificates(&self, env: &mut BTreeMap<&'static str, String>) {
        let verifies = matches!(self.tls.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
        match &self.tls.root {
            RootCerts::File(file) => {
                env.insert("PGSSLROOTCERT", file.display().to_string());
            }
            // libpq knows the system's from version 16 on, and only for verify-full.
            RootCerts::System => {
                env.insert("PGSSLROOTCERT", "system".to_owned());
            }
            RootCerts::Default if verifies && !has_default_root() => {
                env.insert("PGSSLROOTCERT", "system".to_owned());
            }
            RootCerts::Default | RootCerts::None => {}
        }
        if let ClientCert::Files { cert, key } = &self.tls.client {
            env.extend(cert.iter().map(|file| ("PGSSLCERT", file.display().to_string())));
            env.extend(key.iter().map(|file| ("PGSSLKEY", file.display().to_string())));
        }
    }
}

fn has_default_root() -> bool {
    std::env::home_dir().is_some_and(|home| home.join(".postgresql/root.crt").exists())
}

fn host(target: &super::ServerAddress) -> String {
    match &target.host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(dir) => dir.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_the_variables_of_libpq() {
        let url = DatabaseUrl::parse(
            "postgres://ada:p%40ss@a.example:5433,b.example/chat?sslmode=verify-full&sslrootcert=/r.pem\
             &channel_binding=require&options=endpoint%3Dx&target_session_attrs=read-write",
        )
        .unwrap();
        let env = url.libpq_env();
        for (name, value) in [
            ("PGHOST", "a.example,b.example"),
            ("PGPORT", "5433,5432"),
            ("PGUSER", "ada"),
            ("PGPASSWORD", "p@ss"),
            ("PGDATABASE", "chat"),
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", "/r.pem"),
            ("PGCHANNELBINDING", "require"),
            ("PGOPTIONS", "endpoint=x"),
            ("PGTARGETSESSIONATTRS", "read-write"),
        ] {
            assert_eq!(env[name], value, "{name}");
        }
        assert_eq!(url.with_database("other").libpq_env()["PGDATABASE"], "other");
        let socket = DatabaseUrl::parse("postgresql://chatledger@/chatledger?host=%2Ftmp%2Fs").unwrap();
        assert_eq!(socket.libpq_env()["PGHOST"], "/tmp/s");
        assert!(!socket.libpq_env().contains_key("PGPASSWORD"));
    }
}
