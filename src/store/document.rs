//! Documents.

use super::Store;
use crate::{
    auth::Caller,
    domain::{
        Error, Resource, Result,
        document::{Document, DocumentFields, DocumentFilter, NewDocument},
        json::JsonObject,
    },
    statements::document::{Delete, DocumentRow, Get, List, Upsert},
};
use chatledger_postgres::sql::like_literal;

impl From<DocumentRow> for Document {
    fn from(row: DocumentRow) -> Document {
        Document {
            fields: DocumentFields {
                id: row.id,
                title: row.title,
                source_uri: row.source_uri,
                mime_type: row.mime_type,
                content_hash: row.content_hash,
                metadata: row.metadata,
            },
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

impl Store {
    /// Registers a document, or replaces it.
    pub async fn upsert_document(&self, caller: &Caller, new: &NewDocument) -> Result<Document> {
        let upsert = Upsert {
            id: &new.id,
            title: &new.title,
            source_uri: &new.source_uri,
            mime_type: &new.mime_type,
            content_hash: &new.content_hash,
            metadata: new.metadata.as_str(),
        };
        let row = self.first(caller, &upsert).await?;
        row.map(Document::from).ok_or(Error::Internal)
    }

    /// One document.
    pub async fn document(&self, caller: &Caller, id: &str) -> Result<Document> {
        let row = self.first(caller, &Get { id }).await?;
        row.map(Document::from).ok_or(Error::NotFound(Resource::Document))
    }

    /// Forgets a document.
    pub async fn delete_document(&self, caller: &Caller, id: &str) -> Result<()> {
        let deleted = self.first(caller, &Delete { id }).await?;
        deleted.map(drop).ok_or(Error::NotFound(Resource::Document))
    }

    /// One more document than the page holds, if there are as many.
    pub async fn list_documents(&self, caller: &Caller, filter: &DocumentFilter) -> Result<Vec<Document>> {
        let title = filter
            .title_contains
            .as_ref()
            .map(|text| format!("%{}%", like_literal(text)));
        let list = List {
            after_id: filter.page.after.as_ref().map_or("", |(id,)| id.as_str()),
            title: title.as_deref(),
            metadata: filter.metadata_contains.as_ref().map(JsonObject::as_str),
            limit: filter.page.fetch(),
        };
        let rows = self.run(caller, &list).await?;
        Ok(rows.into_iter().map(Document::from).collect())
    }
}
