//! The services of the contract, in one table. The routes, the names that health knows, and the refusal of a service that
//! the scope leaves out all follow from it. Reflection tells of what the descriptors have, and a test compares the table
//! with them: a new service is one more row here.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::{
    Request, Status,
    server::NamedService,
    service::{RoutesBuilder, interceptor::InterceptedService},
};

use super::ServerSetup;
use crate::{
    api::{
        AccessApi, AnalyticsApi, Api, CitationApi, DocumentApi, Histories, MessageApi, ProfileApi,
        SessionApi, UserApi,
    },
    auth::Passwords,
    domain::Error,
    migrations::Scope,
};
use chatledger_protocol::{
    access_service_server::AccessServiceServer, analytics_service_server::AnalyticsServiceServer,
    citation_service_server::CitationServiceServer, document_service_server::DocumentServiceServer,
    message_service_server::MessageServiceServer, profile_service_server::ProfileServiceServer,
    session_service_server::SessionServiceServer, user_service_server::UserServiceServer,
};

/// A service of the contract.
struct ServiceEntry {
    /// The name with its package, as in a method's path.
    name: &'static str,
    /// Whether a server of this scope answers it.
    is_in: fn(Scope) -> bool,
    /// Adds the service to the routes, or, where the scope leaves it out, one that refuses every call of it.
    add: fn(&mut RoutesBuilder, &Backend<'_>),
}

/// The parts that handlers are made of.
struct Backend<'a> {
    setup: &'a ServerSetup,
    api: Api,
    stopping: &'a watch::Receiver<bool>,
}

/// A row of the table: the generated server, which scopes have it, and what makes its handler.
macro_rules! service_entry {
    ($server:ident, $is_in:path, $handler:expr) => {
        ServiceEntry {
            name: $server::<()>::NAME,
            is_in: $is_in,
            add: |routes, backend| {
                let handler: fn(&Backend<'_>) -> _ = $handler;
                let limits = &backend.setup.limits;
                let server =
                    $server::new(handler(backend)).max_decoding_message_size(limits.max_request_bytes);
                if $is_in(backend.setup.scope) {
                    routes.add_service(server);
                } else {
                    routes.add_service(InterceptedService::new(server, not_served));
                }
            },
        }
    };
}

/// Every service of the contract.
const SERVICES: &[ServiceEntry] = &[
    service_entry!(UserServiceServer, Scope::has_auth, |backend| UserApi {
        api: backend.api.clone(),
        passwords: Passwords::default(),
    }),
    service_entry!(ProfileServiceServer, Scope::has_auth, |backend| ProfileApi(
        backend.api.clone()
    )),
    service_entry!(SessionServiceServer, Scope::has_chat, |backend| SessionApi {
        api: backend.api.clone(),
        hub: backend.setup.hub.clone(),
    }),
    service_entry!(MessageServiceServer, Scope::has_chat, |backend| MessageApi {
        api: backend.api.clone(),
        ledger: backend.setup.ledger.clone(),
        hub: backend.setup.hub.clone(),
        histories: Histories::new(
            backend.api.store.clone(),
            backend.setup.memory.clone(),
            backend.stopping.clone(),
        ),
        stopping: backend.stopping.clone(),
    }),
    service_entry!(CitationServiceServer, Scope::has_chat, |backend| CitationApi(
        backend.api.clone()
    )),
    service_entry!(DocumentServiceServer, Scope::has_chat, |backend| DocumentApi(
        backend.api.clone()
    )),
    service_entry!(AnalyticsServiceServer, Scope::has_chat, |backend| AnalyticsApi(
        backend.api.clone()
    )),
    service_entry!(AccessServiceServer, Scope::has_access, |backend| AccessApi(
        backend.api.clone()
    )),
];

/// Adds all services to the routes. `stopping` becomes true when the server stops.
pub(super) fn add(routes: &mut RoutesBuilder, setup: &ServerSetup, stopping: &watch::Receiver<bool>) {
    let backend = Backend {
        setup,
        api: Api {
            store: setup.store.clone(),
            limits: Arc::clone(&setup.limits),
            access: setup.access.clone(),
            rates: setup.rates.clone(),
        },
        stopping,
    };
    for service in SERVICES {
        (service.add)(routes, &backend);
    }
}

/// The names of the services that a server of this scope answers.
pub(super) fn names(scope: Scope) -> impl Iterator<Item = &'static str> {
    let served = SERVICES.iter().filter(move |service| (service.is_in)(scope));
    served.map(|service| service.name)
}

// tonic's interceptors answer a Status by value.
#[allow(clippy::result_large_err, clippy::needless_pass_by_value)]
fn not_served(_: Request<()>) -> Result<Request<()>, Status> {
    Err(Error::ScopeNotServed.into())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use chatledger_protocol::DESCRIPTORS;

    #[test]
    fn every_service_of_the_contract_is_in_the_table_once() {
        let set = FileDescriptorSet::decode(DESCRIPTORS).expect("a descriptor set");
        let mut contract: Vec<String> = set
            .file
            .iter()
            .flat_map(|file| {
                let services = file.service.iter();
                services.map(|service| format!("{}.{}", file.package(), service.name()))
            })
            .collect();
        contract.sort_unstable();
        let mut table: Vec<&str> = names(Scope::All).collect();
        table.sort_unstable();
        assert_eq!(table, contract);
    }

    #[test]
    fn each_service_is_of_one_migration_set_but_for_access() {
        let (auth, chat): (Vec<_>, Vec<_>) = (names(Scope::Auth).collect(), names(Scope::Chat).collect());
        let both: Vec<_> = auth.iter().filter(|name| chat.contains(name)).collect();
        assert_eq!(both, [&"chatledger.v1.AccessService"]);
        assert_eq!(auth.len() + chat.len(), SERVICES.len() + both.len());
    }
}
