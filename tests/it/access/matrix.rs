//! Every method by every kind of caller. What must come of it follows from the one table in `auth::methods`; that a foreigner
//! learns nothing is seen by asking the same about what was never there.

use std::collections::BTreeSet;

use chatledger::{
    auth::{Passwords, Reach, methods},
    domain::access::AccessScope,
};
use jiff::Timestamp;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{
    requests::{MethodRequest, PASSWORD, REQUESTS, SECRET},
    world::*,
};
use crate::{
    harness::{raw::RawClient, *},
    pgbouncer::PgBouncer,
};

/// What somebody has, and a word that is in all of it.
pub struct Belongings {
    pub mark: String,
    pub user_id: String,
    pub external_id: String,
    pub email: String,
    pub session_id: String,
    pub anonymous_id: String,
    pub message_id: String,
    pub document_id: String,
    pub api_key_id: String,
}

impl Belongings {
    /// Those of somebody who was never there.
    pub fn of_a_ghost() -> Self {
        let mark = format!("mark{}", uuid::Uuid::now_v7().simple());
        Belongings {
            user_id: id(),
            external_id: format!("external-{mark}"),
            email: format!("{mark}@example.com"),
            session_id: id(),
            anonymous_id: id(),
            message_id: id(),
            document_id: format!("document-{mark}"),
            api_key_id: "0123456789abcdef".to_owned(),
            mark,
        }
    }
}

/// The owner's tenant, and everybody who may come to its server.
pub struct Matrix {
    pub database: TestDatabase,
    server: TestServer,
    admin: String,
    hash: String,
}

/// What came of a call: a status, and what was answered first.
pub struct MethodAnswer {
    status: Option<Status>,
    body: Vec<u8>,
}

impl MethodAnswer {
    fn code(&self) -> Code {
        self.status.as_ref().map_or(Code::Ok, Status::code)
    }

    /// Whether it is one.
    pub fn is_refusal(&self) -> bool {
        self.status.is_some()
    }

    fn reason(&self) -> String {
        let info = self.status.as_ref().and_then(StatusExt::get_details_error_info);
        info.map(|info| info.reason).unwrap_or_default()
    }

    /// All that a caller sees of a refusal.
    fn refusal(&self) -> (Code, String, String) {
        let text = self.status.as_ref().map_or("", |status| status.message());
        (self.code(), self.reason(), text.to_owned())
    }

    fn has(&self, mark: &str) -> bool {
        self.body
            .windows(mark.len())
            .any(|window| window == mark.as_bytes())
    }
}

impl Matrix {
    /// Over the database itself, without a pooler.
    pub async fn direct() -> Self {
        let database = TestDatabase::new().await;
        let server = guarded(&database).await;
        Matrix::new(database, server).await
    }

    async fn new(database: TestDatabase, server: TestServer) -> Self {
        let admin = key(&database, "acme", &["admin"]).await;
        let hash = Passwords::default()
            .hash(PASSWORD.to_owned())
            .await
            .expect("a hash");
        Matrix {
            database,
            server,
            admin,
            hash,
        }
    }

    /// Something of everything, of a new owner in the tenant.
    pub async fn belongings(&self) -> Belongings {
        let of = Belongings::of_a_ghost();
        let (server, admin) = (&self.server, self.admin.as_str());
        let user = pb::CreateUserRequest {
            user_id: Some(of.user_id.clone()),
            email: of.email.clone(),
            external_id: Some(of.external_id.clone()),
            name: Some(of.mark.clone()),
            profile: Some(pb::Profile {
                experience_level: Some(of.mark.clone()),
                ..Default::default()
            }),
            ..Default::default()
        };
        server.users().create_user(by(admin, user)).await.expect("a user");
        let client = self.database.client().await;
        client
            .execute(
                "UPDATE users SET hashed_password = $1 WHERE email = $2",
                &[&self.hash, &of.email],
            )
            .await
            .expect("a password");
        for (session_id, user_id) in [
            (&of.session_id, Some(of.user_id.clone())),
            (&of.anonymous_id, None),
        ] {
            let session = pb::CreateSessionRequest {
                session_id: Some(session_id.clone()),
                title: Some(of.mark.clone()),
                claim_secret: user_id.is_none().then(|| SECRET.to_owned()),
                user_id,
                ..Default::default()
            };
            server
                .sessions()
                .create_session(by(admin, session))
                .await
                .expect("a session");
        }
        let message = pb::NewMessage {
            citations: vec![citation(&of.document_id, "1", 0.5)],
            ..text_with_id(&of.message_id, &of.mark)
        };
        let append = pb::AppendMessageRequest {
            session_id: of.session_id.clone(),
            message: Some(message),
        };
        server
            .messages()
            .append_message(by(admin, append))
            .await
            .expect("a receipt");
        let document = pb::UpsertDocumentRequest {
            document: Some(pb::Document {
                id: of.document_id.clone(),
                title: of.mark.clone(),
                ..Default::default()
            }),
        };
        server
            .documents()
            .upsert_document(by(admin, document))
            .await
            .expect("a document");
        let api_key_id = id_of(&key(&self.database, "acme", &["read"]).await).to_owned();
        Belongings { api_key_id, ..of }
    }

    /// Calls a method, with a bearer's text and for a user where there is one.
    pub async fn call(
        &self,
        caller: &MatrixCaller,
        request: &MethodRequest,
        of: &Belongings,
    ) -> MethodAnswer {
        let bearer = caller.bearer.as_ref().map(|bearer| format!("Bearer {bearer}"));
        let mut headers = Vec::new();
        if let Some(bearer) = &bearer {
            headers.push(("authorization", bearer.as_str()));
        }
        if let Some(user) = &caller.acts_for {
            headers.push(("x-chatledger-user", user.as_str()));
        }
        let mut client = RawClient::connect(self.server.address).await;
        let body = raw::frame(&(request.make)(of));
        let (status, body) = client
            .begin(request.path, &headers, body, true)
            .await
            .first_answer()
            .await;
        MethodAnswer { status, body }
    }

    /// All that is stored, but for what says when a key was used.
    async fn stored(&self) -> String {
        let client = self.database.client().await;
        let mut all = Vec::new();
        for table in [
            "users",
            "user_profiles",
            "chat_sessions",
            "messages",
            "message_citations",
            "documents",
            "api_keys",
        ] {
            let sql = format!(
                "SELECT md5(coalesce(string_agg(r, E'\\n' ORDER BY r), '')) FROM
                    (SELECT (to_jsonb(t) - 'last_used_at')::text AS r FROM {table} t) rows"
            );
            all.push(
                client
                    .query_one(&sql, &[])
                    .await
                    .expect("a digest")
                    .get::<_, String>(0),
            );
        }
        all.join(" ")
    }
}

/// A kind of caller.
#[derive(Clone)]
pub struct MatrixCaller {
    name: &'static str,
    bearer: Option<String>,
    acts_for: Option<String>,
}

impl MatrixCaller {
    pub fn with(name: &'static str, bearer: &str) -> Self {
        MatrixCaller {
            name,
            bearer: Some(bearer.to_owned()),
            acts_for: None,
        }
    }
}

/// Callers who aren't let in, and the reason that they hear.
async fn strangers(matrix: &Matrix, user_id: &str) -> Vec<(MatrixCaller, &'static str)> {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let database = &matrix.database;
    let (revoked, expired, right) = (
        key(database, "acme", &["admin"]).await,
        key(database, "acme", &["admin"]).await,
        key(database, "acme", &["admin"]).await,
    );
    change_key(database, &revoked, "revoked_at = now()").await;
    change_key(database, &expired, "expires_at = now()").await;
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims =
        json!({"sub": user_id, "iss": ISSUER, "aud": AUDIENCE, "exp": Timestamp::now().as_second() + 600});
    let unsigned = format!("{}.{}.", part(json!({"alg": "none"})), part(claims));
    let bad = format!(
        "{}{}",
        &right[..right.len() - 1],
        if right.ends_with('0') { '1' } else { '0' }
    );
    let refused = [
        ("a key with a wrong secret", bad),
        ("no key at all", "hello".to_owned()),
        ("a revoked key", revoked),
        ("an expired key", expired),
        (
            "an expired token",
            token(user_id, json!({"exp": Timestamp::now().as_second() - 60})),
        ),
        (
            "a token for another audience",
            token(user_id, json!({"aud": "another"})),
        ),
        (
            "a token of another issuer",
            token(user_id, json!({"iss": "https://other.example"})),
        ),
        ("a token that isn't signed", unsigned),
        ("a token about nobody", token("nobody", json!({"tenant": "acme"}))),
    ];
    let nobody = MatrixCaller {
        name: "nobody",
        bearer: None,
        acts_for: None,
    };
    let refused = refused.map(|(name, bearer)| (MatrixCaller::with(name, &bearer), "INVALID_CREDENTIALS"));
    std::iter::once((nobody, "CREDENTIALS_REQUIRED"))
        .chain(refused)
        .collect()
}

#[test]
fn every_method_has_a_request() {
    let requests: BTreeSet<&str> = REQUESTS.iter().map(|request| request.path).collect();
    let methods: BTreeSet<&str> = methods::rules().map(|rule| rule.path).collect();
    assert_eq!(requests, methods);
}

#[tokio::test]
async fn nobody_comes_in_without_good_credentials() {
    strangers_are_refused(&Matrix::direct().await).await;
}

async fn strangers_are_refused(matrix: &Matrix) {
    let of = matrix.belongings().await;
    let before = matrix.stored().await;
    for (caller, reason) in strangers(matrix, &of.user_id).await {
        // The keys that were just made.
        let made = matrix.stored().await;
        for request in REQUESTS {
            let answer = matrix.call(&caller, request, &of).await;
            let what = format!("{} by {}", request.path, caller.name);
            assert_eq!(
                (answer.code(), answer.reason().as_str()),
                (Code::Unauthenticated, reason),
                "{what}"
            );
            assert!(!answer.has(&of.mark), "{what}");
        }
        assert_eq!(matrix.stored().await, made, "{}", caller.name);
    }
    assert_ne!(matrix.stored().await, before);
}

#[tokio::test]
async fn scopes_allow_what_the_table_says_and_nothing_else() {
    scopes_allow_what_the_table_says(&Matrix::direct().await).await;
}

async fn scopes_allow_what_the_table_says(matrix: &Matrix) {
    for scope in AccessScope::ALL {
        let bearer = key(&matrix.database, "acme", &[scope.name()]).await;
        let caller = MatrixCaller::with(scope.name(), &bearer);
        for request in REQUESTS {
            let rule = methods::rules()
                .find(|rule| rule.path == request.path)
                .expect("a rule");
            let of = matrix.belongings().await;
            let before = matrix.stored().await;
            let answer = matrix.call(&caller, request, &of).await;
            let what = format!("{} by {}: {:?}", request.path, caller.name, answer.status);
            if rule.scope.is_none_or(|needed| scope >= needed) {
                assert_eq!(answer.code(), Code::Ok, "{what}");
            } else {
                assert_eq!(
                    (answer.code(), answer.reason().as_str()),
                    (Code::PermissionDenied, "SCOPE_REQUIRED"),
                    "{what}"
                );
                assert_eq!(matrix.stored().await, before, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn an_owner_reaches_what_is_its_own() {
    let matrix = Matrix::direct().await;
    let service = key(&matrix.database, "acme", &["users"]).await;
    for request in REQUESTS {
        let rule = methods::rules()
            .find(|rule| rule.path == request.path)
            .expect("a rule");
        let reach = rule.action.map(chatledger::auth::Action::of_end_user);
        for by_service in [false, true] {
            let of = matrix.belongings().await;
            let caller = if by_service {
                MatrixCaller {
                    acts_for: Some(of.user_id.clone()),
                    ..MatrixCaller::with("a service for the owner", &service)
                }
            } else {
                MatrixCaller::with("the owner", &token(&of.external_id, json!({"tenant": "acme"})))
            };
            let answer = matrix.call(&caller, request, &of).await;
            let what = format!("{} by {}: {:?}", request.path, caller.name, answer.status);
            if reach == Some(Reach::Nothing) {
                assert_eq!(
                    (answer.code(), answer.reason().as_str()),
                    (Code::PermissionDenied, "SCOPE_REQUIRED"),
                    "{what}"
                );
            } else {
                assert_eq!(answer.code(), Code::Ok, "{what}");
            }
        }
    }
}

/// Asks, of each method, about somebody's belongings and about a ghost's: the same must come of it, none of what is answered may
/// have the owner's mark, and nothing of the owner's may have changed.
async fn learns_nothing(matrix: &Matrix, callers: &[MatrixCaller], shared: impl Fn(&str) -> bool) {
    let of = matrix.belongings().await;
    for caller in callers {
        for request in REQUESTS.iter().filter(|request| !shared(request.path)) {
            let ghost = Belongings::of_a_ghost();
            let before = of_owner(matrix, &of).await;
            let about_owner = matrix.call(caller, request, &of).await;
            let about_ghost = matrix.call(caller, request, &ghost).await;
            let what = format!("{} by {}", request.path, caller.name);
            assert_eq!(about_owner.refusal(), about_ghost.refusal(), "{what}");
            // A stream's errors are in its body.
            if about_owner.code() == Code::Ok && request.path.ends_with("StreamAppendMessages") {
                assert_eq!(about_owner.body, about_ghost.body, "{what}");
            }
            assert!(!about_owner.has(&of.mark) || echoes(request), "{what}");
            assert_eq!(of_owner(matrix, &of).await, before, "{what}");
        }
    }
}

/// Whether the answer repeats what was asked.
fn echoes(request: &MethodRequest) -> bool {
    ["CreateUser", "UpsertDocument", "CreateApiKey"]
        .iter()
        .any(|method| request.path.ends_with(method))
}

/// What is stored of an owner, by the mark that is in all of it.
async fn of_owner(matrix: &Matrix, of: &Belongings) -> String {
    let client = matrix.database.client().await;
    let sql = "SELECT coalesce(md5(string_agg(r, E'\\n' ORDER BY r)), '') FROM (
            SELECT to_jsonb(u)::text AS r FROM users u WHERE id = $1
            UNION ALL SELECT to_jsonb(p)::text FROM user_profiles p WHERE user_id = $1
            UNION ALL SELECT to_jsonb(s)::text FROM chat_sessions s WHERE id IN ($2, $3) OR user_id = $1
            UNION ALL SELECT to_jsonb(m)::text FROM messages m WHERE session_id IN ($2, $3)
            UNION ALL SELECT to_jsonb(c)::text FROM message_citations c WHERE session_id IN ($2, $3)
            UNION ALL SELECT to_jsonb(d)::text FROM documents d WHERE id = $4 AND tenant_id = 'acme') rows";
    let uuid = |text: &str| text.parse::<uuid::Uuid>().expect("an id");
    let (user, session, anonymous) = (uuid(&of.user_id), uuid(&of.session_id), uuid(&of.anonymous_id));
    let row = client
        .query_one(sql, &[&user, &session, &anonymous, &of.document_id])
        .await;
    row.expect("a digest").get(0)
}

async fn foreigners_learn_nothing(matrix: &Matrix) {
    let other = matrix.belongings().await;
    let service = key(&matrix.database, "acme", &["users"]).await;
    let within = [
        MatrixCaller::with("another user", &token(&other.user_id, json!({"tenant": "acme"}))),
        MatrixCaller {
            acts_for: Some(other.user_id.clone()),
            ..MatrixCaller::with("a service for another user", &service)
        },
    ];
    // Documents are the tenant's; who has the secret of a session that is nobody's is who may have it.
    learns_nothing(matrix, &within, |path| {
        path.contains("DocumentService/") || path.ends_with("ClaimSessions")
    })
    .await;
    let admin = key(&matrix.database, "other", &["admin"]).await;
    let admin = [MatrixCaller::with("another tenant's admin", &admin)];
    learns_nothing(matrix, &admin, |_| false).await;
}

#[tokio::test]
async fn whoever_else_there_is_learns_nothing() {
    foreigners_learn_nothing(&Matrix::direct().await).await;
}

#[tokio::test]
async fn all_of_it_holds_through_a_pooler() {
    let database = TestDatabase::new().await;
    let Some(pgbouncer) = PgBouncer::before(&database).await else {
        return;
    };
    let connector = pgbouncer.connector(&database);
    let server = start_with(&database, |options| {
        options.connector = connector;
        options.db.pooled = true;
        options.access = Box::new(access);
    })
    .await;
    let matrix = Matrix::new(database, server).await;
    strangers_are_refused(&matrix).await;
    scopes_allow_what_the_table_says(&matrix).await;
    foreigners_learn_nothing(&matrix).await;
}
