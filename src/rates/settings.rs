//! The file of limits: what a caller, a tenant and a method may do.

use std::{
    collections::{HashMap, HashSet},
    num::{NonZeroU32, NonZeroU64},
    sync::LazyLock,
    time::Duration,
};

use governor::Quota;
use prost::Message;
use prost_types::FileDescriptorSet;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{config, watched::parse_toml};
use chatledger_protocol::DESCRIPTORS;

/// What the file says. What it doesn't mention has no limit.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateSettings {
    /// The limits of each caller.
    pub caller: CallLimits,
    /// The limits of each tenant, all of its callers together.
    pub tenant: CallLimits,
    /// The limits of single tenants, in the place of `tenant`.
    pub tenants: HashMap<String, CallLimits>,
    /// The limits of each caller in single methods, such as `VerifyPassword`, besides those that it has altogether.
    pub methods: HashMap<String, CallLimits>,
    /// How often passwords may be tried.
    pub logins: Option<LoginLimits>,
    /// How much is stored for a tenant.
    pub storage: StorageSettings,
}

/// The limits on calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallLimits {
    /// How many calls may begin in a second, streams among them.
    pub requests_per_second: Option<NonZeroU32>,
    /// How many may begin at once after a pause; as many as in a second, where it isn't said.
    pub burst: Option<NonZeroU32>,
    /// How many calls may be under way, streams aside.
    pub concurrent_requests: Option<NonZeroU32>,
    /// How many streams may be open.
    pub concurrent_streams: Option<NonZeroU32>,
    /// How many bytes of memory the requests that are under way may take.
    pub in_flight_bytes: Option<NonZeroU64>,
}

impl CallLimits {
    /// The size of the bucket, and how it is filled.
    pub(super) fn quota(&self) -> Option<Quota> {
        let rate = self.requests_per_second?;
        Some(Quota::per_second(rate).allow_burst(self.burst.unwrap_or(rate)))
    }

    pub(super) fn has_any(&self) -> bool {
        *self != CallLimits::default()
    }
}

/// How often passwords may be tried: so many times freely, then with a delay that doubles.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginLimits {
    /// How often an account's password may be wrong before there is a delay.
    pub free_by_account: u32,
    /// The same of what comes from one address. An application that passes on its users' passwords is one address for all
    /// of them, so there is no such limit where it isn't asked for.
    pub free_by_peer: Option<u32>,
    /// The first delay.
    #[serde(deserialize_with = "duration")]
    pub first_delay: Duration,
    /// The longest one.
    #[serde(deserialize_with = "duration")]
    pub longest_delay: Duration,
    /// After so long without an attempt all is forgotten.
    #[serde(deserialize_with = "duration")]
    pub forget_after: Duration,
}

impl Default for LoginLimits {
    /// People mistype a few times. Who guesses gets some hundred attempts a day; and whoever wants to keep somebody else
    /// out has to go on trying, and keeps him out for five minutes at a time.
    fn default() -> Self {
        LoginLimits {
            free_by_account: 5,
            free_by_peer: None,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_mins(5),
            forget_after: Duration::from_hours(24),
        }
    }
}

/// How much is stored for a tenant, and how often that is counted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// What is logged as a warning.
    pub soft: StorageAmounts,
    /// What is refused.
    pub hard: StorageAmounts,
    /// The amounts of single tenants, in the place of these.
    pub tenants: HashMap<String, TenantStorage>,
    /// How long a count is good for.
    #[serde(deserialize_with = "duration")]
    pub count_every: Duration,
}

impl Default for StorageSettings {
    /// Half a minute: a tenant that is beyond its quota by what it stores in that is no trouble.
    fn default() -> Self {
        StorageSettings {
            soft: StorageAmounts::default(),
            hard: StorageAmounts::default(),
            tenants: HashMap::new(),
            count_every: Duration::from_secs(30),
        }
    }
}

/// How much one tenant may store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantStorage {
    /// What is logged as a warning.
    pub soft: StorageAmounts,
    /// What is refused.
    pub hard: StorageAmounts,
}

/// Amounts of what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageAmounts {
    /// The sessions.
    pub sessions: Option<u64>,
    /// The messages.
    pub messages: Option<u64>,
    /// The bytes of the messages' contents.
    pub bytes: Option<u64>,
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    config::duration(&text).map_err(D::Error::custom)
}

/// The contract's methods.
static METHODS: LazyLock<HashSet<String>> = LazyLock::new(|| {
    // The descriptors are the program's own.
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
    let services = set.file.into_iter().flat_map(|file| file.service);
    let methods = services.flat_map(|service| service.method);
    methods.map(|method| method.name().to_owned()).collect()
});

impl RateSettings {
    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong, with its line or its name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings: RateSettings = parse_toml(text)?;
        for method in settings.methods.keys() {
            if !METHODS.contains(method) {
                return Err(format!("methods.{method}: there is no such method"));
            }
        }
        let tenants = settings
            .tenants
            .iter()
            .map(|(name, of)| (format!("tenants.{name}"), of));
        let methods = settings
            .methods
            .iter()
            .map(|(name, of)| (format!("methods.{name}"), of));
        let each = [
            ("caller".to_owned(), &settings.caller),
            ("tenant".to_owned(), &settings.tenant),
        ];
        for (name, limits) in each.into_iter().chain(tenants).chain(methods) {
            if limits.burst.is_some() && limits.requests_per_second.is_none() {
                return Err(format!("{name}.burst needs {name}.requests_per_second"));
            }
        }
        Ok(settings)
    }

    /// The limits of a tenant.
    pub(super) fn of_tenant(&self, tenant: &str) -> &CallLimits {
        self.tenants.get(tenant).unwrap_or(&self.tenant)
    }

    /// What a tenant may store: softly, and at most.
    pub(super) fn storage_of(&self, tenant: &str) -> (StorageAmounts, StorageAmounts) {
        let storage = &self.storage;
        match storage.tenants.get(tenant) {
            Some(own) => (own.soft, own.hard),
            None => (storage.soft, storage.hard),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documents_is_read() {
        let document = include_str!("../../docs/security.md");
        let example = document
            .split("```toml\n")
            .find(|block| block.contains("[caller]"));
        let (example, _) = example.expect("an example").split_once("```").expect("its end");
        let settings = RateSettings::parse(example).expect("settings");
        assert!(settings.caller.quota().is_some() && settings.of_tenant("acme") != &settings.tenant);
        assert!(settings.logins.is_some() && settings.storage_of("acme") != settings.storage_of("x"));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, expected) in [
            ("[callers]", "line 1: unknown field `callers`"),
            ("[caller]\n\nper_second = 1", "line 3: unknown field `per_second`"),
            ("[caller]\nrequests_per_second = 0", "line 2: invalid value"),
            (
                "[caller]\nburst = 2",
                "caller.burst needs caller.requests_per_second",
            ),
            ("[tenants.acme]\nburst = 2", "tenants.acme.burst needs"),
            (
                "[methods.Fly]\nconcurrent_requests = 1",
                "methods.Fly: there is no such method",
            ),
            (
                "[logins]\nfirst_delay = \"soon\"",
                "line 2: must be a positive duration",
            ),
            ("[storage.hard]\nrows = 1", "line 2: unknown field `rows`"),
            (
                "[storage.tenants.acme]\nhard = { messages = -1 }",
                "line 2: invalid value",
            ),
        ] {
            let error = RateSettings::parse(text).expect_err("a mistake");
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        assert_eq!(RateSettings::parse(""), Ok(RateSettings::default()));
    }
}
