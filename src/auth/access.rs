//! What an end user may see and do, of every resource: one table. A service may do all of it, within its tenant.

/// What is done by a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// GetUser, ListUsers.
    ReadUser,
    /// CreateUser.
    CreateUser,
    /// UpdateUser, SetPassword, DeleteUser.
    ChangeUser,
    /// VerifyPassword.
    VerifyPassword,
    /// GetProfile, ListProfiles.
    ReadProfile,
    /// UpdateProfile, DeleteProfile.
    ChangeProfile,
    /// GetSession, ListSessions.
    ReadSession,
    /// CreateSession.
    CreateSession,
    /// UpdateSession, DeleteSession.
    ChangeSession,
    /// ClaimSessions.
    ClaimSessions,
    /// GetMessage, ListMessages, SearchMessages, WatchMessages.
    ReadMessages,
    /// AppendMessage, BatchAppendMessages, StreamAppendMessages.
    AppendMessages,
    /// UpdateMessage, DeleteMessage, ClearMessages.
    ChangeMessages,
    /// ListCitations.
    ReadCitations,
    /// AddCitations, DeleteCitation.
    ChangeCitations,
    /// GetDocument, ListDocuments.
    ReadDocument,
    /// UpsertDocument, DeleteDocument.
    ChangeDocument,
    /// The reports of AnalyticsService.
    Analyze,
    /// CreateApiKey, ListApiKeys, RevokeApiKey.
    ManageKeys,
    /// Counting for the reports, which the server does by itself.
    KeepReports,
    /// Finding out who calls, which the server does by itself.
    Authenticate,
    /// Keeping what was done, which the server does by itself.
    Audit,
    /// Looking at the database for those who operate the server, which the server does by itself.
    Operate,
    /// What `chatledger import` does.
    Import,
    /// The notifications between servers, which nobody asks for.
    NotifyServers,
}

/// What of a resource an action reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The end user's own rows. Nothing else exists for it.
    Own,
    /// All rows of the tenant.
    Tenant,
    /// Nothing: the action is a service's alone.
    Nothing,
}

impl Action {
    /// What of it an end user reaches.
    #[must_use]
    pub const fn of_end_user(self) -> Reach {
        match self {
            Action::ReadUser
            | Action::ChangeUser
            | Action::ReadProfile
            | Action::ChangeProfile
            | Action::ReadSession
            | Action::CreateSession
            | Action::ChangeSession
            // For itself, what it has the secret of.
            | Action::ClaimSessions
            | Action::ReadMessages
            | Action::AppendMessages
            | Action::ChangeMessages
            | Action::ReadCitations
            | Action::ChangeCitations => Reach::Own,
            Action::ReadDocument => Reach::Tenant,
            Action::CreateUser
            // It is how an end user comes to be one.
            | Action::VerifyPassword
            | Action::ChangeDocument
            | Action::Analyze
            | Action::ManageKeys
            | Action::Authenticate
            | Action::Audit
            | Action::KeepReports
            | Action::Operate
            | Action::Import
            | Action::NotifyServers => Reach::Nothing,
        }
    }
}
