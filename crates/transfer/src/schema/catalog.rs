//! What the database has of ours: tables, columns, keys and indexes.

use tokio_postgres::{Client, Row};

use chatledger_postgres::connect::describe;

// Our tables: those with models, and refinery's histories, keys, the audit and what reports keep, which other tools would
// otherwise want to drop.

const COLUMNS: &str = "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        pg_get_expr(d.adbin, d.adrelid), a.attgenerated <> ''
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (c.oid, a.attnum)
    WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) AND a.attnum > 0 AND NOT a.attisdropped
        AND (c.relname = ANY($1) OR c.relname ~ '^(chatledger_|api_keys$|audit_events$)')
    ORDER BY c.relname, a.attnum";

const CONSTRAINTS: &str =
    "SELECT c.relname::text, k.conname::text, k.contype::text, pg_get_constraintdef(k.oid),
        ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u (n, o)
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.o),
        f.relname::text,
        ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u (n, o)
            JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.o),
        k.confdeltype::text
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_class f ON f.oid = k.confrelid
    WHERE pg_table_is_visible(c.oid) AND k.contype IN ('p', 'u', 'f', 'c')
        AND (c.relname = ANY($1) OR c.relname ~ '^(chatledger_|api_keys$|audit_events$)')
    ORDER BY c.relname, k.contype = 'p' DESC, k.conname";

/// The indexes that no constraint has made.
const INDEXES: &str = "SELECT c.relname::text, i.relname::text, x.indisunique, m.amname::text, pg_get_indexdef(x.indexrelid),
        pg_get_expr(x.indpred, x.indrelid),
        ARRAY(SELECT pg_get_indexdef(x.indexrelid, n, true) FROM generate_series(1, x.indnkeyatts) n ORDER BY n),
        ARRAY(SELECT x.indkey[n - 1] = 0 FROM generate_series(1, x.indnkeyatts) n ORDER BY n),
        ARRAY(SELECT CASE WHEN o.opcdefault THEN '' ELSE o.opcname::text END
            FROM generate_series(1, x.indnkeyatts) n JOIN pg_opclass o ON o.oid = x.indclass[n - 1] ORDER BY n),
        coalesce(i.reloptions, '{}')
    FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
        JOIN pg_am m ON m.oid = i.relam
    WHERE pg_table_is_visible(c.oid) AND x.indisvalid
        AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x'))
        AND (c.relname = ANY($1) OR c.relname ~ '^(chatledger_|api_keys$|audit_events$)')
    ORDER BY c.relname, i.relname";

/// Our tables, by name.
#[derive(Debug, Default)]
pub struct Schema {
    /// The tables.
    pub tables: Vec<SchemaTable>,
}

/// A table.
#[derive(Debug, Default)]
pub struct SchemaTable {
    /// The table's name.
    pub name: String,
    /// The table's columns, in order.
    pub columns: Vec<Column>,
    /// The primary key first, and the unique constraints.
    pub keys: Vec<TableKey>,
    /// The table's foreign keys.
    pub(crate) foreign_keys: Vec<ForeignKey>,
    /// The table's constraints as SQL: name and definition.
    pub constraints: Vec<(String, String)>,
    /// The indexes that no constraint has made.
    pub indexes: Vec<Index>,
}

/// A column.
#[derive(Debug)]
pub struct Column {
    /// The column's name.
    pub name: String,
    /// The column's type, as PostgreSQL spells it.
    pub type_name: String,
    /// Whether the column may be NULL.
    pub(crate) nullable: bool,
    /// The value where nothing is given.
    pub default: Option<String>,
    /// The expression that the column always is, where nothing can be given.
    pub(crate) generated: Option<String>,
}

/// A primary key or a unique constraint.
#[derive(Debug)]
pub struct TableKey {
    /// The key's name.
    pub name: String,
    /// Whether the key is the primary key.
    pub primary: bool,
    /// The key's columns, in order.
    pub columns: Vec<String>,
}

/// A foreign key.
#[derive(Debug)]
pub(crate) struct ForeignKey {
    /// The foreign key's name.
    pub name: String,
    /// The foreign key's columns, in order.
    pub columns: Vec<String>,
    /// The table that the key refers to.
    pub to: String,
    /// The columns there.
    pub(crate) to_columns: Vec<String>,
    /// Whether rows go with what they refer to.
    pub cascades: bool,
}

/// An index.
#[derive(Debug)]
pub struct Index {
    /// The index's name.
    pub name: String,
    /// Whether the index is unique.
    pub unique: bool,
    /// The access method, such as `btree`.
    pub method: String,
    /// The statement that makes the index.
    pub definition: String,
    /// The condition of the rows that the index has, where it hasn't all.
    pub(crate) predicate: Option<String>,
    /// The columns and expressions that the index is over.
    pub parts: Vec<IndexPart>,
    /// Storage parameters: name and value.
    pub options: Vec<(String, String)>,
}

/// A column or an expression of an index.
#[derive(Debug)]
pub struct IndexPart {
    /// The column's name, or the expression.
    pub text: String,
    /// Whether the part is an expression.
    pub(crate) is_expression: bool,
    /// The operator class, where it isn't the type's default; else empty.
    pub operators: String,
}

impl Schema {
    /// Reads it from a migrated database.
    ///
    /// # Errors
    /// It can't be read, or has none of our tables.
    pub async fn read(client: &Client) -> anyhow::Result<Schema> {
        let mut schema = Schema::default();
        for row in query(client, COLUMNS).await? {
            let expression: Option<String> = row.get(4);
            let (default, generated) = if row.get(5) {
                (None, expression)
            } else {
                (expression, None)
            };
            schema.at(row.get(0)).columns.push(Column {
                name: row.get(1),
                type_name: row.get(2),
                nullable: !row.get::<_, bool>(3),
                default,
                generated,
            });
        }
        for row in query(client, CONSTRAINTS).await? {
            schema.at(row.get(0)).add_constraint(&row);
        }
        for row in query(client, INDEXES).await? {
            schema.at(row.get(0)).indexes.push(index(&row));
        }
        anyhow::ensure!(
            !schema.tables.is_empty(),
            "the database has no tables of chatledger's"
        );
        Ok(schema)
    }

    /// The table of this name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&SchemaTable> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The table of this name, made where it is missing. Rows come by table.
    fn at(&mut self, name: String) -> &mut SchemaTable {
        let place = self
            .tables
            .iter()
            .position(|table| table.name == name)
            .unwrap_or_else(|| {
                self.tables.push(SchemaTable {
                    name,
                    ..SchemaTable::default()
                });
                self.tables.len() - 1
            });
        &mut self.tables[place]
    }
}

impl SchemaTable {
    /// The primary key.
    pub(crate) fn primary_key(&self) -> Option<&TableKey> {
        self.keys.iter().find(|key| key.primary)
    }

    /// Whether a row may belong to nothing by this foreign key.
    pub(crate) fn may_lack(&self, key: &ForeignKey) -> bool {
        let of_key = |column: &&Column| key.columns.contains(&column.name);
        self.columns.iter().filter(of_key).any(|column| column.nullable)
    }

    fn add_constraint(&mut self, row: &Row) {
        let (name, kind, definition): (String, String, String) = (row.get(1), row.get(2), row.get(3));
        match kind.as_str() {
            "p" | "u" => self.keys.push(TableKey {
                name: name.clone(),
                primary: kind == "p",
                columns: row.get(4),
            }),
            "f" => self.foreign_keys.push(ForeignKey {
                name: name.clone(),
                columns: row.get(4),
                to: row.get(5),
                to_columns: row.get(6),
                cascades: row.get::<_, String>(7) == "c",
            }),
            _ => {}
        }
        self.constraints.push((name, definition));
    }
}

fn index(row: &Row) -> Index {
    let texts: Vec<String> = row.get(6);
    let expressions: Vec<bool> = row.get(7);
    let operators: Vec<String> = row.get(8);
    let parts = texts.into_iter().zip(expressions).zip(operators);
    let options: Vec<String> = row.get(9);
    Index {
        name: row.get(1),
        unique: row.get(2),
        method: row.get(3),
        definition: row.get(4),
        predicate: row.get(5),
        parts: parts
            .map(|((text, is_expression), operators)| IndexPart {
                text,
                is_expression,
                operators,
            })
            .collect(),
        options: options
            .iter()
            .filter_map(|option| option.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    }
}

async fn query(client: &Client, sql: &str) -> anyhow::Result<Vec<Row>> {
    let tables: Vec<&str> = super::NAMES.iter().map(|names| names.table).collect();
    let typed = [(
        &tables as &(dyn tokio_postgres::types::ToSql + Sync),
        tokio_postgres::types::Type::TEXT_ARRAY,
    )];
    let rows = client.query_typed(sql, &typed).await;
    rows.map_err(|error| anyhow::anyhow!(describe(&error)))
}
