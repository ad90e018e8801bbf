//! The tables as SQL, for people and for tools that read SQL. Without functions and triggers: those are the
//! migrations'.

use super::{catalog::Schema, models};

/// Writes the tables with models.
pub(super) fn write(schema: &Schema) -> String {
    let mut blocks = vec![
        "-- chatledger's tables, as they are in this database. For reading: the server migrates them itself."
            .to_owned(),
    ];
    let mut foreign_keys = Vec::new();
    for (_, table) in models(schema) {
        let mut lines: Vec<String> = table
            .columns
            .iter()
            .map(|column| {
                let null = if column.nullable { "" } else { " NOT NULL" };
                let default = match (&column.default, &column.generated) {
                    (Some(text), _) => format!(" DEFAULT {text}"),
                    (_, Some(text)) => format!(" GENERATED ALWAYS AS ({text}) STORED"),
                    _ => String::new(),
                };
                format!("    {} {}{null}{default}", column.name, column.type_name)
            })
            .collect();
        for (name, definition) in &table.constraints {
            // A foreign key may refer to a table that comes later.
            if definition.starts_with("FOREIGN KEY") {
                foreign_keys.push(format!(
                    "ALTER TABLE {} ADD CONSTRAINT {name} {definition};",
                    table.name
                ));
            } else {
                lines.push(format!("    CONSTRAINT {name} {definition}"));
            }
        }
        let mut block = format!("CREATE TABLE {} (\n{}\n);", table.name, lines.join(",\n"));
        for index in &table.indexes {
            block += &format!("\n{};", index.definition);
        }
        blocks.push(block);
    }
    if !foreign_keys.is_empty() {
        blocks.push(foreign_keys.join("\n"));
    }
    blocks.join("\n\n") + "\n"
}
