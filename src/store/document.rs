//! `documents`.

use tokio_postgres::{Row, types::Type};

use super::{Store, first};
use crate::{
    auth::Caller,
    domain::{
        Error, Resource, Result,
        document::{Document, DocumentFields, DocumentFilter, NewDocument},
        json::JsonObject,
    },
};
use chatledger_postgres::{Sql, Time, sql::like_literal};

// Documents belong to the tenant, not to a user: $2 is not looked at.

macro_rules! columns {
    () => {
        "id, coalesce(title, ''), coalesce(source_uri, ''), coalesce(mime_type, ''), coalesce(content_hash, ''),
         metadata::text, created_at, updated_at"
    };
}

static UPSERT: Sql = Sql {
    text: concat!(
        "INSERT INTO documents (tenant_id, id, title, source_uri, mime_type, content_hash, metadata)
        VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb)
        ON CONFLICT (tenant_id, id) DO UPDATE SET (title, source_uri, mime_type, content_hash, metadata, updated_at)
            = (excluded.title, excluded.source_uri, excluded.mime_type, excluded.content_hash, excluded.metadata, now())
        RETURNING ", columns!()
    ),
    params: &[Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT],
};

static GET: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM documents WHERE tenant_id = $1 AND id = $2"
    ),
    params: &[Type::TEXT, Type::TEXT],
};

static DELETE: Sql = Sql {
    text: "DELETE FROM documents WHERE tenant_id = $1 AND id = $2 RETURNING id",
    params: &[Type::TEXT, Type::TEXT],
};

static LIST: Sql = Sql {
    text: concat!(
        "SELECT ",
        columns!(),
        " FROM documents WHERE tenant_id = $1 AND id > $2
            AND ($3::text IS NULL OR coalesce(title, '') ILIKE $3) AND ($4::text IS NULL OR metadata @> $4::text::jsonb)
        ORDER BY id LIMIT $5"
    ),
    params: &[Type::TEXT, Type::TEXT, Type::TEXT, Type::TEXT, Type::INT8],
};

pub(super) static ALL: &[&Sql] = &[&UPSERT, &GET, &DELETE, &LIST];

fn document(row: &Row) -> Document {
    Document {
        fields: DocumentFields {
            id: row.get(0),
            title: row.get(1),
            source_uri: row.get(2),
            mime_type: row.get(3),
            content_hash: row.get(4),
            metadata: row.get(5),
        },
        created_at: row.get::<_, Time>(6).0,
        updated_at: row.get::<_, Time>(7).0,
    }
}

impl Store {
    /// Registers a document, or replaces it.
    pub async fn upsert_document(&self, caller: &Caller, new: &NewDocument) -> Result<Document> {
        let rows = self
            .write(
                caller,
                &UPSERT,
                &[
                    &caller.tenant.as_ref(),
                    &new.id,
                    &new.title,
                    &new.source_uri,
                    &new.mime_type,
                    &new.content_hash,
                    &new.metadata.as_str(),
                ],
            )
            .await?;
        rows.first().map(document).ok_or(Error::Internal)
    }

    /// One document.
    pub async fn document(&self, caller: &Caller, id: &str) -> Result<Document> {
        let rows = self.read(caller, &GET, &[&caller.tenant.as_ref(), &id]).await?;
        rows.first()
            .map(document)
            .ok_or(Error::NotFound(Resource::Document))
    }

    /// Forgets a document.
    pub async fn delete_document(&self, caller: &Caller, id: &str) -> Result<()> {
        let rows = self
            .write(caller, &DELETE, &[&caller.tenant.as_ref(), &id])
            .await?;
        first(rows).map(drop).ok_or(Error::NotFound(Resource::Document))
    }

    /// One more document than the page holds, if there are as many.
    pub async fn list_documents(&self, caller: &Caller, filter: &DocumentFilter) -> Result<Vec<Document>> {
        let after = filter.page.after.as_ref().map_or("", |(id,)| id.as_str());
        let title = filter
            .title_contains
            .as_ref()
            .map(|text| format!("%{}%", like_literal(text)));
        let rows = self
            .read_planned(
                caller,
                &LIST,
                &[
                    &caller.tenant.as_ref(),
                    &after,
                    &title,
                    &filter.metadata_contains.as_ref().map(JsonObject::as_str),
                    &filter.page.fetch(),
                ],
            )
            .await?;
        Ok(rows.iter().map(document).collect())
    }
}
