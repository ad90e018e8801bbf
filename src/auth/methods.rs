//! The methods of the contract, and what each takes of its caller: one table. It is asked before anything is read of a request,
//! so that who may not ask doesn't learn what there is.

use super::Action;
use crate::domain::access::AccessScope;

/// What a method takes.
#[derive(Clone, Copy, Debug)]
pub struct MethodRule {
    /// The path by which it is called.
    pub path: &'static str,
    /// The scope that a service needs; `None`: every caller may.
    pub scope: Option<AccessScope>,
    /// What is done by it, which says what of it an end user reaches; `None`: it looks at no data.
    pub action: Option<Action>,
}

macro_rules! methods {
    ($($service:ident { $($method:ident: $scope:ident $action:ident),* $(,)? })*) => {
        &[$($(MethodRule {
            path: concat!("/chatledger.v1.", stringify!($service), "/", stringify!($method)),
            scope: Some(AccessScope::$scope),
            action: Some(Action::$action),
        }),*),*]
    };
}

/// The one method that every caller may call: it tells what the server takes the caller for.
const WHO_AM_I: MethodRule = MethodRule {
    path: "/chatledger.v1.AccessService/WhoAmI",
    scope: None,
    action: None,
};

/// Every other method of the contract.
const RULES: &[MethodRule] = methods! {
    UserService {
        CreateUser: Users CreateUser,
        GetUser: Read ReadUser,
        UpdateUser: Users ChangeUser,
        DeleteUser: Users ChangeUser,
        ListUsers: Read ReadUser,
        SetPassword: Users ChangeUser,
        VerifyPassword: Users VerifyPassword,
    }
    ProfileService {
        GetProfile: Read ReadProfile,
        UpdateProfile: Users ChangeProfile,
        DeleteProfile: Users ChangeProfile,
        ListProfiles: Read ReadProfile,
    }
    SessionService {
        CreateSession: Write CreateSession,
        GetSession: Read ReadSession,
        ListSessions: Read ReadSession,
        UpdateSession: Write ChangeSession,
        DeleteSession: Write ChangeSession,
        ClaimSessions: Write ClaimSessions,
    }
    MessageService {
        AppendMessage: Write AppendMessages,
        BatchAppendMessages: Write AppendMessages,
        StreamAppendMessages: Write AppendMessages,
        GetMessage: Read ReadMessages,
        ListMessages: Read ReadMessages,
        ReadMessages: Read ReadMessages,
        UpdateMessage: Write ChangeMessages,
        DeleteMessage: Write ChangeMessages,
        ClearMessages: Write ChangeMessages,
        SearchMessages: Read ReadMessages,
        WatchMessages: Read ReadMessages,
    }
    CitationService {
        AddCitations: Write ChangeCitations,
        ListCitations: Read ReadCitations,
        DeleteCitation: Write ChangeCitations,
    }
    DocumentService {
        UpsertDocument: Write ChangeDocument,
        GetDocument: Read ReadDocument,
        ListDocuments: Read ReadDocument,
        DeleteDocument: Write ChangeDocument,
    }
    AnalyticsService {
        ListTopDocuments: Read Analyze,
        ListUserActivity: Read Analyze,
        ListDailyVolume: Read Analyze,
        GetSessionLengthDistribution: Read Analyze,
    }
    AccessService {
        CreateApiKey: Admin ManageKeys,
        ListApiKeys: Admin ManageKeys,
        RevokeApiKey: Admin ManageKeys,
    }
};

/// The rules of all methods.
pub fn rules() -> impl Iterator<Item = &'static MethodRule> {
    RULES.iter().chain(std::iter::once(&WHO_AM_I))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use chatledger_protocol::DESCRIPTORS;

    #[test]
    fn every_method_of_the_contract_has_one_rule() {
        let set = FileDescriptorSet::decode(DESCRIPTORS).expect("a descriptor set");
        let contract: BTreeSet<String> = set
            .file
            .iter()
            .flat_map(|file| file.service.iter().map(move |service| (file.package(), service)))
            .flat_map(|(package, service)| {
                let methods = service.method.iter();
                methods.map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
            })
            .collect();
        let table: Vec<&str> = rules().map(|rule| rule.path).collect();
        assert_eq!(table.len(), contract.len());
        assert_eq!(
            table.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(),
            contract
        );
    }
}
