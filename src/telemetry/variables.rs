//! The variables by which telemetry is set up: read by the rules of OpenTelemetry's specification, but for one: a value that
//! is wrong ends the start, where the specification would have it ignored.

use std::{ffi::OsString, fmt::Display, str::FromStr, time::Duration};

use anyhow::{Context as _, bail};

/// The values of variables, by their names.
type Values = Box<dyn Fn(&str) -> Option<OsString>>;

/// Where variables come from.
pub struct Variables(Values);

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Variables")
    }
}

impl Variables {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Variables(Box::new(|name| std::env::var_os(name)))
    }

    /// These, for tests.
    #[cfg(test)]
    pub(super) fn of(pairs: &[(&str, &str)]) -> Self {
        let pairs: Vec<(String, OsString)> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), OsString::from(*value)))
            .collect();
        Variables(Box::new(move |name| {
            let found = pairs.iter().find(|(of, _)| of == name);
            found.map(|(_, value)| value.clone())
        }))
    }

    /// The text of a variable. One that is empty isn't set.
    ///
    /// # Errors
    /// What isn't UTF-8. The value isn't shown: it may be a secret.
    pub fn text(&self, name: &str) -> anyhow::Result<Option<String>> {
        let Some(value) = (self.0)(name) else {
            return Ok(None);
        };
        match value.into_string() {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Err(_) => bail!("{name} isn't UTF-8"),
        }
    }

    /// Whether a variable says so.
    pub(super) fn flag(&self, name: &str) -> anyhow::Result<Option<bool>> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(text) => bail!("{name}={text}: must be true or false"),
        }
    }

    /// A number of things.
    pub(super) fn count(&self, name: &str) -> anyhow::Result<Option<usize>> {
        self.parsed(name, "a number from 1 on", |count| *count > 0)
    }

    /// A time in milliseconds.
    pub(super) fn millis(&self, name: &str) -> anyhow::Result<Option<Duration>> {
        let millis = self.parsed(name, "a number of milliseconds from 1 on", |millis: &u64| {
            *millis > 0
        })?;
        Ok(millis.map(Duration::from_millis))
    }

    /// A value that can be read and is good.
    pub(super) fn parsed<T: FromStr<Err: Display>>(
        &self,
        name: &str,
        what: &str,
        is_good: impl Fn(&T) -> bool,
    ) -> anyhow::Result<Option<T>> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let value = text.parse().ok().filter(is_good);
        value
            .map(Some)
            .with_context(|| format!("{name}={text}: must be {what}"))
    }
}
