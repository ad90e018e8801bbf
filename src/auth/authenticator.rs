//! From credentials to a principal, from memory as far as that goes.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use super::{
    CertificateMap, ClientCertificate, DEFAULT_TENANT, Principal, PrincipalKind,
    api_key::PresentedKey,
    key_file::KeyFile,
    known_keys::KnownKeys,
    known_users::KnownUsers,
    token::{TokenVerifier, VerifiedToken},
};
use crate::{
    audit::Audit,
    domain::{
        Error, Resource, Result,
        access::{AccessScopes, CredentialFault},
    },
    store::Store,
    watched::Watched,
};

/// What a call brings along to say who it is from.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The text behind `Bearer`.
    pub bearer: Option<Arc<str>>,
    /// The certificate that TLS has verified.
    pub certificate: Option<Arc<ClientCertificate>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bearer = self.bearer.as_ref().map(|_| "[secret]");
        f.debug_struct("Credentials")
            .field("bearer", &bearer)
            .field("certificate", &self.certificate)
            .finish()
    }
}

/// How callers are told apart, and what is kept of what they do. A clone is the same.
#[derive(Clone, Debug)]
pub struct Access {
    /// Finds out who calls; `None`: everybody is the local service.
    pub authenticator: Option<Authenticator>,
    /// The users whom tokens name, and for whom services act.
    pub users: KnownUsers,
    /// Whether everybody may ask for the contract by reflection, and not only admins.
    pub reflection_is_open: bool,
    /// Where what was done is kept.
    pub audit: Audit,
}

impl Access {
    /// That of a server that asks for no credentials.
    #[must_use]
    pub fn open(store: Store) -> Self {
        Access {
            authenticator: None,
            users: KnownUsers::new(store),
            reflection_is_open: true,
            audit: Audit::default(),
        }
    }

    /// Makes a change of keys that was made here hold here at once.
    pub fn keys_have_changed(&self) {
        if let Some(authenticator) = &self.authenticator {
            authenticator.keys.forget();
        }
    }
}

/// Finds out who calls. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Authenticator {
    /// The stored keys.
    pub keys: KnownKeys,
    /// The preshared keys.
    pub key_file: Option<Watched<KeyFile>>,
    /// Verifies tokens.
    pub tokens: Option<TokenVerifier>,
    /// Which services certificates stand for.
    pub certificates: Option<Watched<CertificateMap>>,
    /// The users whom tokens name.
    pub users: KnownUsers,
}

/// A refusal of credentials, and whose they are, as far as that is certain: a secret or a signature was right, and something else
/// wasn't.
#[derive(Clone, Debug)]
pub struct CredentialRefusal {
    /// What the caller is told.
    pub error: Error,
    /// Whose they are, for the audit.
    pub known: Option<Arc<Principal>>,
}

impl From<Error> for CredentialRefusal {
    fn from(error: Error) -> Self {
        CredentialRefusal { error, known: None }
    }
}

impl CredentialRefusal {
    fn of(fault: CredentialFault, known: Arc<Principal>) -> Self {
        CredentialRefusal {
            error: Error::CredentialsRefused(fault),
            known: Some(known),
        }
    }
}

impl Authenticator {
    /// Who has these credentials. A bearer's text goes before a certificate, which may only have been the way in.
    ///
    /// # Errors
    /// [`Error::CredentialsRequired`], [`Error::CredentialsRefused`]; those of the database, where it has to be asked.
    pub async fn authenticate(&self, credentials: &Credentials) -> Result<Arc<Principal>, CredentialRefusal> {
        let now = Timestamp::now();
        let principal = match (&credentials.bearer, &credentials.certificate) {
            (Some(bearer), _) => self.bearer(bearer, now).await?,
            (None, Some(certificate)) => self.certificate(certificate)?,
            (None, None) => return Err(Error::CredentialsRequired.into()),
        };
        if principal.has_ended(now) {
            return Err(CredentialRefusal::of(CredentialFault::Expired, principal));
        }
        Ok(principal)
    }

    async fn bearer(&self, bearer: &str, now: Timestamp) -> Result<Arc<Principal>, CredentialRefusal> {
        if let Some(found) = self
            .key_file
            .as_ref()
            .and_then(|file| file.get().find(bearer).cloned())
        {
            return Ok(found);
        }
        if let Some(key) = PresentedKey::read(bearer) {
            let found = self.keys.find(&key).await?;
            return if found.is_revoked {
                Err(CredentialRefusal::of(CredentialFault::Revoked, found.principal))
            } else {
                Ok(found.principal)
            };
        }
        match &self.tokens {
            Some(tokens) if TokenVerifier::is_token(bearer) => {
                let token = tokens.verify(bearer, now).await?;
                self.of_token(&token).await.map(Arc::new)
            }
            _ => Err(Error::CredentialsRefused(CredentialFault::Unknown).into()),
        }
    }

    async fn of_token(&self, token: &VerifiedToken) -> Result<Principal, CredentialRefusal> {
        let tenant = token.tenant.as_deref().unwrap_or(DEFAULT_TENANT);
        let expires_at = Some(token.expires_at);
        if let Some(scopes) = token.scopes {
            return Ok(Principal {
                name: Arc::from(format!("token:{}", token.subject)),
                expires_at,
                ..Principal::service(tenant, scopes)
            });
        }
        let tenant: Arc<str> = Arc::from(tenant);
        let user = match self.users.find(&tenant, &token.subject).await {
            Ok(user) => user,
            Err(Error::NotFound(Resource::User)) => {
                let subject = Principal {
                    name: Arc::from(format!("token:{}", token.subject)),
                    ..Principal::service(&tenant, AccessScopes::default())
                };
                return Err(CredentialRefusal::of(
                    CredentialFault::NoSuchUser,
                    Arc::new(subject),
                ));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Principal {
            kind: PrincipalKind::EndUser,
            name: Arc::from(format!("user:{user}")),
            end_user: Some(user),
            expires_at,
            ..Principal::service(&tenant, AccessScopes::default())
        })
    }

    fn certificate(&self, certificate: &ClientCertificate) -> Result<Arc<Principal>, CredentialRefusal> {
        let map = self.certificates.as_ref().map(Watched::get);
        let service = map.as_ref().and_then(|map| map.find(certificate));
        let Some(service) = service else {
            let subject = Principal {
                name: Arc::from(format!("certificate:{}", certificate.subject)),
                ..Principal::service("", AccessScopes::default())
            };
            return Err(CredentialRefusal::of(CredentialFault::Unknown, Arc::new(subject)));
        };
        Ok(Arc::new(Principal {
            name: Arc::from(format!("certificate:{}", service.name)),
            expires_at: Some(certificate.not_after),
            ..Principal::service(
                service.tenant.as_deref().unwrap_or(DEFAULT_TENANT),
                service.scopes,
            )
        }))
    }
}
