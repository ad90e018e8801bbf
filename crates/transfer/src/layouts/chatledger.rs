//! `chatledger`: our own tables. The rows come as records already; an export is nothing but these.

use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    plan::{NOTHING, ReadPlan, RowQuery},
    tables::TableColumns,
};
use crate::{
    record::{Record, RecordKind, parse_as},
    row::Origin,
};

/// The part of a database that is exported.
#[derive(Clone, Copy, Debug)]
pub enum ExportPart {
    /// Everything.
    All,
    /// A user, with the profile and the sessions.
    User(Uuid),
    /// A session.
    Session(Uuid),
}

/// The statements over those of our tables that the scope has. The ids are UUIDs, whose text needs no quoting.
pub(crate) fn plan(tables: &TableColumns, tenant: &str, part: ExportPart, passwords: bool) -> ReadPlan {
    let tenant = literal(tenant);
    let has_chat = tables.has("chat_sessions");
    let password = if passwords {
        "t.hashed_password"
    } else {
        "NULL::text"
    };
    let mut before = Vec::new();
    if matches!(part, ExportPart::All) && has_chat {
        before.push(rows(
            RecordKind::Document,
            "t.id, t.title, t.source_uri, t.mime_type, t.content_hash, t.metadata, t.created_at, t.updated_at",
            &format!("documents t WHERE tenant_id = {tenant} ORDER BY t.id COLLATE \"C\""),
            |_, row, _| parse(row, Record::Document),
        ));
    }
    let of_user = match part {
        ExportPart::All => Some(String::new()),
        ExportPart::User(id) => Some(format!(" AND t.id = '{id}'")),
        ExportPart::Session(_) => None,
    };
    if let Some(of_user) = of_user.filter(|_| tables.has("users")) {
        before.push(rows(
            RecordKind::User,
            &format!(
                "t.id, t.email, t.external_id, t.name, {password} AS hashed_password, t.is_active, t.created_at,
                t.updated_at"
            ),
            &format!("users t WHERE t.tenant_id = {tenant}{of_user} ORDER BY t.id"),
            |_, row, _| parse(row, Record::User),
        ));
        before.push(rows(
            RecordKind::Profile,
            "p.*",
            &format!(
                "user_profiles p JOIN users t ON t.id = p.user_id WHERE t.tenant_id = {tenant}{of_user} ORDER BY t.id"
            ),
            |_, row, _| parse(row, Record::Profile),
        ));
    }
    let which = match part {
        ExportPart::All => String::new(),
        ExportPart::User(id) => format!(" AND s.user_id = '{id}'"),
        ExportPart::Session(id) => format!(" AND s.id = '{id}'"),
    };
    ReadPlan {
        before,
        chats: has_chat.then(|| (sessions(&tenant, &which, passwords), messages(&tenant, &which))),
        count: if has_chat {
            format!(
                "SELECT count(*) FROM messages m JOIN chat_sessions s ON s.id = m.session_id
                WHERE s.tenant_id = {tenant}{which}"
            )
        } else {
            NOTHING.to_owned()
        },
        lost_citations: None,
    }
}

/// A text as SQL writes it: a cursor takes no parameters.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn sessions(tenant: &str, which: &str, passwords: bool) -> RowQuery {
    // What is known of a secret travels with what is known of passwords.
    let claim_hash = if passwords {
        "encode(s.claim_hash, 'hex')"
    } else {
        "NULL::text"
    };
    rows(
        RecordKind::Session,
        &format!(
            "s.id, s.user_id, s.title, s.metadata, {claim_hash} AS claim_hash, s.created_at, s.updated_at"
        ),
        &format!("chat_sessions s WHERE s.tenant_id = {tenant}{which} ORDER BY s.id"),
        |_, row, _| parse(row, Record::Session),
    )
}

fn messages(tenant: &str, which: &str) -> RowQuery {
    rows(
        RecordKind::Message,
        "m.session_id, coalesce(m.given_id, m.id) AS id, m.seq, m.role, m.content, m.selected_text, m.metadata,
        translate(encode(m.payload, 'base64'), E'\\n', '') AS payload, m.created_at, m.deleted_at,
        coalesce((SELECT json_agg(json_build_object('citation_index', c.citation_index, 'document_id', c.document_id,
                'chunk_id', nullif(c.chunk_id, ''), 'score', CASE WHEN c.score NOT IN ('NaN', 'Infinity', '-Infinity')
                THEN c.score ELSE 0 END) ORDER BY c.citation_index)
            FROM message_citations c WHERE c.message_id = m.id), '[]') AS citations",
        &format!(
            "messages m JOIN chat_sessions s ON s.id = m.session_id
            WHERE s.tenant_id = {tenant}{which} ORDER BY m.session_id, m.seq"
        ),
        |_, row, _| parse(row, |message| Record::Message(Box::new(message))),
    )
}

fn rows(
    kind: RecordKind,
    columns: &str,
    from: &str,
    read: fn(&Origin, &str, Option<&str>) -> Result<Record, String>,
) -> RowQuery {
    RowQuery {
        sql: format!("SELECT row_to_json(r)::text, NULL::text, false FROM (SELECT {columns} FROM {from}) r"),
        read,
        kind,
    }
}

fn parse<T: DeserializeOwned>(row: &str, record: fn(T) -> Record) -> Result<Record, String> {
    parse_as(row).map(record)
}
