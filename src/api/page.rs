//! Pages of a list: the request's size and token, and the response's rows and token.

use prost::Message;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    auth::Caller,
    domain::{
        Check, FieldPath,
        page::{self, Fingerprint, MAX_PAGE_BYTES, Page},
    },
};

/// A request for a page of a list.
pub(super) trait ListRequest: Message + Clone + Default {
    /// The RPC.
    const RPC: &'static str;

    /// The fields that say which page: size and token.
    fn page_fields(&mut self) -> (&mut i32, &mut String);
}

/// Implements [`ListRequest`] for requests that have the fields of that name.
macro_rules! list_requests {
    ($($request:ident),* $(,)?) => {$(
        impl ListRequest for super::pb::$request {
            const RPC: &'static str = stringify!($request);

            fn page_fields(&mut self) -> (&mut i32, &mut String) {
                (&mut self.page_size, &mut self.page_token)
            }
        }
    )*};
}

list_requests!(
    ListUsersRequest,
    ListProfilesRequest,
    ListSessionsRequest,
    ListMessagesRequest,
    SearchMessagesRequest,
    ListCitationsRequest,
    ListDocumentsRequest,
    ListUserActivityRequest,
    ListApiKeysRequest,
);

/// Takes the page out of a request, and what the next page's token is bound to.
pub(super) fn read<R: ListRequest, K: DeserializeOwned>(
    check: &mut Check<'_>,
    caller: &Caller,
    request: &R,
) -> (Page<K>, Fingerprint) {
    let mut filters = request.clone();
    let (size, token) = filters.page_fields();
    let (size, token) = (std::mem::take(size), std::mem::take(token));
    let user = caller.end_user.map(uuid::Uuid::into_bytes);
    let list = Fingerprint::of(&[
        R::RPC.as_bytes(),
        caller.tenant.as_bytes(),
        user.as_ref().map_or(&[], |user| user.as_slice()),
        &filters.encode_to_vec(),
    ]);
    let size = page::size(check, &FieldPath::ROOT.field("page_size"), size);
    let after = page::decode(list, &token).unwrap_or_else(|description| {
        check.violation(&FieldPath::ROOT.field("page_token"), description);
        None
    });
    (Page { size, after }, list)
}

/// The token of the page behind a row, by its key.
pub(super) fn token<K: Serialize>(list: Fingerprint, key: &K) -> String {
    page::encode(list, key)
}

/// How many rows with a JSON field of their own are read at a time: a page of the usual size, and the one more that
/// tells whether there is another.
const PORTION: usize = page::DEFAULT_PAGE_SIZE + 1;

/// The rows of a page while they are read, some at a time, so that no more are read than it shows, and about one portion:
/// 501 rows may have 32 MiB.
pub(super) struct Portions<R, K> {
    /// How many rows are shown at most.
    pub(super) size: usize,
    pub(super) rows: Vec<R>,
    bytes: usize,
    /// The portion to ask for next; `None`: nothing.
    next: Option<Page<K>>,
}

impl<R, K: Clone> Portions<R, K> {
    pub(super) fn new(page: &Page<K>) -> Self {
        Portions {
            size: page.size,
            rows: Vec::new(),
            bytes: 0,
            next: Some(Page {
                size: page.size.min(PORTION - 1),
                after: page.after.clone(),
            }),
        }
    }

    /// The portion to read next.
    pub(super) fn next(&self) -> Option<Page<K>> {
        self.next.clone()
    }

    /// Adds what was read. `bytes` tells how much of a row's encoding is its long texts.
    pub(super) fn add(&mut self, read: Vec<R>, key: impl Fn(&R) -> K, bytes: impl Fn(&R) -> usize) {
        let asked = self.next.take().map_or(0, |page| page.size + 1);
        let is_last = read.len() < asked;
        self.bytes += read.iter().map(bytes).sum::<usize>();
        self.rows.extend(read);
        let missing = (self.size + 1).saturating_sub(self.rows.len());
        if is_last || missing == 0 || self.bytes > MAX_PAGE_BYTES {
            return;
        }
        self.next = self.rows.last().map(|last| Page {
            size: missing.min(PORTION) - 1,
            after: Some(key(last)),
        });
    }
}

/// The rows of a page and the token of the next.
pub(super) struct FinishedPage<T> {
    pub(super) rows: Vec<T>,
    pub(super) next_page_token: String,
}

/// Ends a page where it is full, in rows or in bytes. `available` is how many rows there are for it, all of
/// which, or the first of which, are `rows`.
pub(super) fn finish<R, T: Message, K: Serialize>(
    list: Fingerprint,
    size: usize,
    rows: Vec<R>,
    available: usize,
    key: impl Fn(&R) -> K,
    encode: impl Fn(R) -> T,
) -> FinishedPage<T> {
    let mut finished = FinishedPage {
        rows: Vec::new(),
        next_page_token: String::new(),
    };
    let (mut bytes, mut last_key) = (0, None);
    for row in rows.into_iter().take(size) {
        let row_key = key(&row);
        let row = encode(row);
        bytes += row.encoded_len();
        if bytes > MAX_PAGE_BYTES && last_key.is_some() {
            break;
        }
        last_key = Some(row_key);
        finished.rows.push(row);
    }
    if finished.rows.len() < available
        && let Some(key) = last_key
    {
        finished.next_page_token = token(list, &key);
    }
    finished
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::{api::pb, domain::Limits};

    #[test]
    fn a_token_is_its_caller_s() {
        let limits = Limits::default();
        let of = |tenant: &str, end_user: Option<Uuid>| Caller {
            tenant: tenant.into(),
            end_user,
            ..Caller::local_service(None)
        };
        let (ada, eve) = (Uuid::now_v7(), Uuid::now_v7());
        let first = pb::ListDocumentsRequest::default();
        let mut check = Check::new(&limits, Timestamp::UNIX_EPOCH);
        let (_, list) = read::<_, (String,)>(&mut check, &of("acme", Some(ada)), &first);
        let next = pb::ListDocumentsRequest {
            page_token: token(list, &("module-1".to_owned(),)),
            ..first
        };
        for (caller, is_good) in [
            (of("acme", Some(ada)), true),
            (of("umbrella", Some(ada)), false),
            (of("acme", Some(eve)), false),
            (of("acme", None), false),
        ] {
            let mut check = Check::new(&limits, Timestamp::UNIX_EPOCH);
            let (page, _) = read::<_, (String,)>(&mut check, &caller, &next);
            assert_eq!(
                (check.finish(()).is_ok(), page.after.is_some()),
                (is_good, is_good)
            );
        }
    }
}
