//! A request of each method of the contract, about what belongs to somebody.

use prost::Message as _;

use super::matrix::Belongings;
use crate::harness::*;

/// A method, and its request about somebody's belongings.
pub struct MethodRequest {
    pub path: &'static str,
    pub make: fn(&Belongings) -> Vec<u8>,
}

macro_rules! requests {
    ($($service:ident { $($method:ident($of:pat_param) $request:expr;)* })*) => {
        pub const REQUESTS: &[MethodRequest] = &[$($(MethodRequest {
            path: concat!("/chatledger.v1.", stringify!($service), "/", stringify!($method)),
            make: |$of| $request.encode_to_vec(),
        }),*),*];
    };
}

requests! {
    UserService {
        CreateUser(of) pb::CreateUserRequest { email: format!("new-{}@example.com", of.user_id), ..Default::default() };
        GetUser(of) pb::GetUserRequest { key: Some(pb::get_user_request::Key::Email(of.email.clone())) };
        UpdateUser(of) pb::UpdateUserRequest { user_id: of.user_id.clone(), name: Some("changed".to_owned()), ..Default::default() };
        DeleteUser(of) pb::DeleteUserRequest { user_id: of.user_id.clone() };
        ListUsers(of) pb::ListUsersRequest { email_prefix: Some(of.email.clone()), ..Default::default() };
        SetPassword(of) pb::SetPasswordRequest { user_id: of.user_id.clone(), password: "another password".to_owned() };
        VerifyPassword(of) pb::VerifyPasswordRequest { email: of.email.clone(), password: PASSWORD.to_owned() };
    }
    ProfileService {
        GetProfile(of) pb::GetProfileRequest { user_id: of.user_id.clone() };
        UpdateProfile(of) pb::UpdateProfileRequest {
            profile: Some(pb::Profile { user_id: of.user_id.clone(), learning_goals: Some("changed".to_owned()), ..Default::default() }),
            allow_missing: true,
            ..Default::default()
        };
        DeleteProfile(of) pb::DeleteProfileRequest { user_id: of.user_id.clone() };
        ListProfiles(of) pb::ListProfilesRequest { experience_level: Some(of.mark.clone()), ..Default::default() };
    }
    SessionService {
        CreateSession(of) pb::CreateSessionRequest { user_id: Some(of.user_id.clone()), ..Default::default() };
        GetSession(of) pb::GetSessionRequest { session_id: of.session_id.clone() };
        ListSessions(of) pb::ListSessionsRequest {
            owner: Some(pb::list_sessions_request::Owner::UserId(of.user_id.clone())),
            ..Default::default()
        };
        UpdateSession(of) pb::UpdateSessionRequest {
            session_id: of.session_id.clone(), title: Some("changed".to_owned()), ..Default::default()
        };
        DeleteSession(of) pb::DeleteSessionRequest { session_id: of.session_id.clone() };
        ClaimSessions(of) pb::ClaimSessionsRequest {
            user_id: of.user_id.clone(),
            session_ids: vec![of.anonymous_id.clone()],
            claim_secrets: vec![SECRET.to_owned()],
        };
    }
    MessageService {
        AppendMessage(of) pb::AppendMessageRequest { session_id: of.session_id.clone(), message: Some(text("new")) };
        BatchAppendMessages(of) pb::BatchAppendMessagesRequest {
            session_id: of.session_id.clone(), messages: vec![text("new")], expected_last_seq: None,
        };
        StreamAppendMessages(of) pb::StreamAppendMessagesRequest {
            entries: vec![pb::AppendEntry { session_id: of.session_id.clone(), message: Some(text("new")) }],
        };
        GetMessage(of) pb::GetMessageRequest { session_id: of.session_id.clone(), message_id: of.message_id.clone() };
        ListMessages(of) pb::ListMessagesRequest { session_id: of.session_id.clone(), ..Default::default() };
        ReadMessages(of) pb::ReadMessagesRequest { session_id: of.session_id.clone(), ..Default::default() };
        UpdateMessage(of) pb::UpdateMessageRequest {
            session_id: of.session_id.clone(), message_id: of.message_id.clone(), metadata_json: "{\"changed\":1}".to_owned(),
            ..Default::default()
        };
        DeleteMessage(of) pb::DeleteMessageRequest { session_id: of.session_id.clone(), message_id: of.message_id.clone() };
        ClearMessages(of) pb::ClearMessagesRequest { session_id: of.session_id.clone() };
        SearchMessages(of) pb::SearchMessagesRequest {
            query: of.mark.clone(), session_id: Some(of.session_id.clone()), ..Default::default()
        };
        WatchMessages(of) pb::WatchMessagesRequest { session_id: of.session_id.clone(), after_seq: 0 };
    }
    CitationService {
        AddCitations(of) pb::AddCitationsRequest {
            session_id: of.session_id.clone(), message_id: of.message_id.clone(), citations: vec![citation("new", "1", 0.5)],
        };
        ListCitations(of) pb::ListCitationsRequest {
            source: Some(pb::list_citations_request::Source::Message(pb::MessageKey {
                session_id: of.session_id.clone(), message_id: of.message_id.clone(),
            })),
            ..Default::default()
        };
        DeleteCitation(of) pb::DeleteCitationRequest {
            session_id: of.session_id.clone(), message_id: of.message_id.clone(), citation_index: 1,
        };
    }
    DocumentService {
        GetDocument(of) pb::GetDocumentRequest { document_id: of.document_id.clone() };
        ListDocuments(of) pb::ListDocumentsRequest { title_contains: Some(of.mark.clone()), ..Default::default() };
        DeleteDocument(of) pb::DeleteDocumentRequest { document_id: of.document_id.clone() };
        // The last: of another tenant's, it makes a document there.
        UpsertDocument(of) pb::UpsertDocumentRequest {
            document: Some(pb::Document { id: of.document_id.clone(), title: "changed".to_owned(), ..Default::default() }),
        };
    }
    AnalyticsService {
        ListTopDocuments(_) pb::ListTopDocumentsRequest { limit: 100, ..Default::default() };
        ListUserActivity(_) pb::ListUserActivityRequest::default();
        ListDailyVolume(_) pb::ListDailyVolumeRequest::default();
        GetSessionLengthDistribution(_) pb::GetSessionLengthDistributionRequest::default();
    }
    AccessService {
        WhoAmI(_) pb::WhoAmIRequest {};
        CreateApiKey(_) pb::CreateApiKeyRequest {
            name: "worker".to_owned(), scopes: vec!["read".to_owned()], ..Default::default()
        };
        ListApiKeys(_) pb::ListApiKeysRequest::default();
        RevokeApiKey(of) pb::RevokeApiKeyRequest { api_key_id: of.api_key_id.clone() };
    }
}

/// The password of every owner.
pub const PASSWORD: &str = "correct horse battery staple";
/// The secret of every session that is nobody's.
pub const SECRET: &str = "a secret that the owner's device keeps";
