//! A text that must not be shown.

use std::{fmt, str::FromStr};

use anyhow::Context;

use chatledger_postgres::url::DatabaseUrl;

/// A text that must not be shown. Its `Debug` doesn't.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Reads it as a database's URL; nothing where it is empty. `flag` is what it came by.
    ///
    /// # Errors
    /// It can't be read; the flag, and never the URL.
    pub fn url(&self, flag: &str) -> anyhow::Result<Option<DatabaseUrl>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        DatabaseUrl::parse(&self.0)
            .map(Some)
            .with_context(|| flag.to_owned())
    }

    /// Whether there is no text: a variable that is empty isn't set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Secret(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let secret: Secret = "postgres://u:hunter2@h/d".parse().expect("never fails");
        assert!(!format!("{secret:?}").contains("hunter2"));
    }
}
