//! The Rust code of statements and rows.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    file::{Declared, Module, Parameters, RowPart, RowShape, StatementAnswer, Unbound, find_row},
    named::{Numbered, number},
    types::SqlType,
};

/// The parameters that whoever runs a statement binds.
const TENANT: &str = "tenant";
const END_USER: &str = "end_user";

/// All modules, and the list of all statements.
pub(crate) fn module(modules: &[Module]) -> Result<String> {
    let mut code = String::new();
    let mut all = Vec::new();
    for module in modules.iter().filter(|module| !module.statements.is_empty()) {
        for line in &module.docs {
            writeln!(code, "/// {line}")?;
        }
        // A statement has as many flags as it has parameters of that type; the names of all modules are those of one.
        writeln!(
            code,
            "#[allow(clippy::struct_excessive_bools, clippy::wildcard_imports)]\npub(crate) mod {} {{\nuse super::*;",
            module.name
        )?;
        for shape in &module.rows {
            let emit = if shape.is_borrowed { borrowed_row } else { row };
            emit(&mut code, shape, modules).with_context(|| format!("in the row {}", shape.name))?;
        }
        for declared in &module.statements {
            statement(&mut code, declared, module, modules)
                .with_context(|| format!("in the statement {}.{}", module.name, declared.name))?;
            all.push(format!("{}::{}::DESCRIPTION", module.name, declared.name));
        }
        code.push_str("}\n");
    }
    writeln!(
        code,
        "/// Every statement.\npub(crate) static ALL: &[&Description] = &[{}];",
        all.join(", ")
    )?;
    Ok(code)
}

fn rows(modules: &[Module]) -> impl Iterator<Item = &RowShape> {
    modules.iter().flat_map(|module| &module.rows)
}

/// The Rust path of a row, seen from another module.
fn row_path(modules: &[Module], name: &str) -> Result<String> {
    let module = modules
        .iter()
        .find(|module| module.rows.iter().any(|row| row.name == name))
        .with_context(|| format!("there is no row {name:?}"))?;
    Ok(format!("super::{}::{name}Row", module.name))
}

/// The columns of a row by name and type, those of rows within it included.
fn columns(shape: &RowShape, modules: &[Module]) -> Result<Vec<(String, SqlType)>> {
    let mut flat = Vec::new();
    for part in &shape.parts {
        match part {
            RowPart::Column { name, sql_type, .. } => flat.push((name.clone(), *sql_type)),
            RowPart::Nested { row, .. } => flat.extend(columns(find_row(rows(modules), row)?, modules)?),
        }
    }
    Ok(flat)
}

fn row(code: &mut String, shape: &RowShape, modules: &[Module]) -> Result<()> {
    let name = &shape.name;
    let (mut fields, mut readers, mut place) = (String::new(), String::new(), 0);
    for part in &shape.parts {
        let at = match place {
            0 => "first".to_owned(),
            place => format!("first + {place}"),
        };
        match part {
            RowPart::Column { name, sql_type, .. } => {
                writeln!(fields, "pub(crate) {name}: {},", sql_type.read())?;
                writeln!(readers, "{name}: {},", sql_type.reader(&at))?;
                place += 1;
            }
            RowPart::Nested {
                name,
                row,
                is_optional,
            } => {
                let path = row_path(modules, row)?;
                if *is_optional {
                    writeln!(fields, "pub(crate) {name}: Option<{path}>,")?;
                    writeln!(readers, "{name}: read_optional(row, {at})?,")?;
                } else {
                    writeln!(fields, "pub(crate) {name}: {path},")?;
                    writeln!(readers, "{name}: {path}::read(row, {at})?,")?;
                }
                place += columns(find_row(rows(modules), row)?, modules)?.len();
            }
        }
    }
    writeln!(
        code,
        "/// A row of [`{name}`](self)'s columns.\npub(crate) struct {name}Row {{\n{fields}}}
        impl FromRow for {name}Row {{
            fn read(row: &Row, first: usize) -> Result<Self, tokio_postgres::Error> {{
                Ok({name}Row {{\n{readers}}})
            }}
        }}"
    )?;
    Ok(())
}

/// A row that stays the driver's: a struct around that, and one of its columns, which are borrowed from it.
fn borrowed_row(code: &mut String, shape: &RowShape, _: &[Module]) -> Result<()> {
    let name = &shape.name;
    let (mut fields, mut readers) = (String::new(), String::new());
    for (place, part) in shape.parts.iter().enumerate() {
        let RowPart::Column { name, sql_type, .. } = part else {
            bail!("a borrowed row can have no row within it");
        };
        let rust = sql_type.borrowed();
        let rust = rust.with_context(|| format!("{name}: an array can't be borrowed"))?;
        writeln!(fields, "pub(crate) {name}: {rust},")?;
        writeln!(readers, "{name}: {},", sql_type.borrowing_reader(place))?;
    }
    writeln!(
        code,
        "/// The columns of a row of [`{name}`](self), borrowed from it.
        pub(crate) struct {name}<'r> {{\n{fields}}}
        /// A row of [`{name}`](self)'s columns, as it has come.
        #[derive(Debug)]
        pub(crate) struct {name}Row(Row);
        impl TakeRow for {name}Row {{
            fn take(row: Row) -> Result<Self, tokio_postgres::Error> {{ Ok({name}Row(row)) }}
        }}
        impl {name}Row {{
            /// Its columns.
            pub(crate) fn read(&self) -> Result<{name}<'_>, tokio_postgres::Error> {{
                let row = &self.0;
                Ok({name} {{\n{readers}}})
            }}
        }}"
    )?;
    Ok(())
}

/// The parameters of a statement, and the statement whose they are, if it isn't this one.
struct ParameterList<'a> {
    list: &'a [(String, SqlType)],
    like: Option<&'a str>,
}

fn parameters<'a>(declared: &'a Declared, module: &'a Module) -> Result<ParameterList<'a>> {
    match &declared.parameters {
        Parameters::Own(list) => Ok(ParameterList { list, like: None }),
        Parameters::Like(other) => {
            let of = module
                .statements
                .iter()
                .find(|statement| statement.name == *other);
            match of.map(|statement| &statement.parameters) {
                Some(Parameters::Own(list)) => Ok(ParameterList {
                    list,
                    like: Some(other),
                }),
                _ => bail!("there is no statement {other:?} with parameters of its own"),
            }
        }
    }
}

/// What a statement is given at its places: the types, and the Rust expressions of the values.
fn places(names: &[String], list: &[(String, SqlType)], this: &str) -> Result<(Vec<String>, Vec<String>)> {
    let (mut types, mut values) = (Vec::new(), Vec::new());
    for name in names {
        let (sql_type, value) = match name.as_str() {
            TENANT => ("Type::TEXT".to_owned(), "&viewer.tenant".to_owned()),
            END_USER => ("Type::UUID".to_owned(), "&viewer.end_user".to_owned()),
            name => {
                let found = list.iter().find(|(known, _)| known == name);
                let (_, sql_type) = found.with_context(|| format!("the parameter :{name} isn't declared"))?;
                (sql_type.constant(), format!("&{this}.{name}"))
            }
        };
        types.push(sql_type);
        values.push(value);
    }
    Ok((types, values))
}

/// The struct of a statement, with its parameters as fields.
fn parameter_struct(
    code: &mut String,
    declared: &Declared,
    parameters: &ParameterList<'_>,
    lifetime: &str,
) -> Result<()> {
    let name = &declared.name;
    for line in &declared.docs {
        writeln!(code, "/// {line}")?;
    }
    match parameters.like {
        Some(other) => writeln!(
            code,
            "pub(crate) struct {name}{lifetime}(pub(crate) {other}{lifetime});"
        )?,
        None if parameters.list.is_empty() => writeln!(code, "pub(crate) struct {name};")?,
        None => {
            writeln!(code, "pub(crate) struct {name}{lifetime} {{")?;
            for (name, sql_type) in parameters.list {
                writeln!(code, "pub(crate) {name}: {},", sql_type.given())?;
            }
            code.push_str("}\n");
        }
    }
    Ok(())
}

/// Refuses a parameter that the statement doesn't use, nor any that takes its parameters.
fn check_use(declared: &Declared, names: &[String], module: &Module) -> Result<()> {
    let Parameters::Own(list) = &declared.parameters else {
        return Ok(());
    };
    let is_shared = module
        .statements
        .iter()
        .any(|other| matches!(&other.parameters, Parameters::Like(name) if *name == declared.name));
    for (name, _) in list.iter().filter(|_| !is_shared) {
        ensure!(names.contains(name), "the parameter {name} isn't used");
    }
    Ok(())
}

fn statement(code: &mut String, declared: &Declared, module: &Module, modules: &[Module]) -> Result<()> {
    let parameters = parameters(declared, module)?;
    let Numbered { text, names } = number(&declared.sql);
    let this = if parameters.like.is_some() {
        "self.0"
    } else {
        "self"
    };
    let (types, values) = places(&names, parameters.list, this)?;
    check_use(declared, &names, module)?;
    let is_borrowed = parameters.list.iter().any(|(_, sql_type)| sql_type.is_borrowed());
    let (lifetime, anonymous) = if is_borrowed { ("<'a>", "<'_>") } else { ("", "") };
    parameter_struct(code, declared, &parameters, lifetime)?;
    let (row, answered) = answer(&declared.answer, modules)?;
    let columns: Vec<String> = answered
        .iter()
        .map(|(name, sql_type)| format!("({name:?}, {})", sql_type.constant()))
        .collect();
    let is_caller_free = !names.iter().any(|name| name == TENANT || name == END_USER);
    let name = &declared.name;
    writeln!(
        code,
        "impl Statement for {name}{anonymous} {{
            type Row = {row};
            const DESCRIPTION: &'static Description = &Description {{
                sql: Sql {{ name: \"{module}.{name}\", text: {text:?}, params: &[{types}] }},
                columns: &[{columns}],
                mode: Mode::{mode},
                action: Action::{action},
                binding: {binding},
            }};
            fn params<'p>(&'p self, {viewer}: &'p Viewer<'p>) -> Vec<&'p (dyn ToSql + Sync)> {{ vec![{values}] }}
        }}",
        module = module.name,
        types = types.join(", "),
        columns = columns.join(", "),
        mode = mode(&declared.mode)?,
        action = declared.action,
        binding = binding(declared, &names)?,
        viewer = if is_caller_free { "_" } else { "viewer" },
        values = values.join(", "),
    )?;
    if is_caller_free {
        writeln!(code, "impl CallerFree for {name}{anonymous} {{}}")?;
    }
    Ok(())
}

/// The Rust type of what a statement answers, and its columns.
fn answer(answer: &StatementAnswer, modules: &[Module]) -> Result<(String, Vec<(String, SqlType)>)> {
    Ok(match answer {
        StatementAnswer::Nothing => ("()".to_owned(), Vec::new()),
        StatementAnswer::Column(name, sql_type) => (sql_type.read(), vec![(name.clone(), *sql_type)]),
        StatementAnswer::Row(name) => {
            let shape = find_row(rows(modules), name)?;
            (row_path(modules, name)?, columns(shape, modules)?)
        }
    })
}

fn mode(word: &str) -> Result<&'static str> {
    Ok(match word {
        "read" => "Read",
        "plan" => "ReadPlanned",
        "write" => "Write",
        _ => {
            bail!("{word:?} is no way to run a statement: read, plan (for its parameters, and read) or write")
        }
    })
}

/// What the statement binds of its caller, which must agree with what it says.
fn binding(declared: &Declared, names: &[String]) -> Result<String> {
    let binds = |name: &str| names.iter().any(|known| known == name);
    Ok(match (binds(TENANT), binds(END_USER), &declared.unbound) {
        (true, true, None) => "Binding::EndUser".to_owned(),
        (true, false, Some(Unbound::EachUsers(reason))) => format!("Binding::Tenant({reason:?})"),
        (false, false, Some(Unbound::EachTenants(reason))) => format!("Binding::Nothing({reason:?})"),
        (true, true, Some(_)) => bail!("binds tenant and end user, and gives a reason why it doesn't"),
        (true, false, _) => bail!("doesn't bind :end_user: say \"each user's, since\" and why"),
        (false, false, _) => bail!("doesn't bind :tenant: say \"each tenant's, since\" and why"),
        (false, true, _) => bail!("binds :end_user without :tenant"),
    })
}

#[cfg(test)]
mod tests {
    use crate::{emit, file};

    fn generate(sql: &str) -> anyhow::Result<String> {
        emit::module(&file::modules(&[("chats".to_owned(), sql.to_owned())])?)
    }

    fn mistake(sql: &str) -> String {
        format!("{:#}", generate(sql).unwrap_err())
    }

    const GET: &str = "-- Chats.
--: Chat
--:   id uuid
--:   title text = coalesce(title, '')

--! Get(id uuid) -> Chat
--? read ReadSession
-- One chat.
SELECT {{ Chat }} FROM chats
WHERE tenant_id = :tenant AND (:end_user::uuid IS NULL OR user_id = :end_user) AND id = :id
";

    #[test]
    fn a_statement_becomes_a_struct_with_its_parameters() {
        let code = generate(GET).unwrap();
        assert!(
            code.contains("pub(crate) struct Get {\npub(crate) id: Uuid,\n}"),
            "{code}"
        );
        assert!(
            code.contains("SELECT id, coalesce(title, '') AS title FROM chats"),
            "{code}"
        );
        assert!(
            code.contains("params: &[Type::TEXT, Type::UUID, Type::UUID]"),
            "{code}"
        );
        assert!(
            code.contains("vec![&viewer.tenant, &viewer.end_user, &self.id]"),
            "{code}"
        );
        assert!(code.contains("binding: Binding::EndUser"), "{code}");
    }

    #[test]
    fn a_statement_that_forgets_its_caller_ends_the_build() {
        let forgets = |from, to| mistake(&GET.replace(from, to));
        let text = forgets("(:end_user::uuid IS NULL OR user_id = :end_user)", "true");
        assert!(
            text.contains("in the statement chats.Get") && text.contains(":end_user"),
            "{text}"
        );
        let text = forgets(
            "tenant_id = :tenant AND (:end_user::uuid IS NULL OR user_id = :end_user)",
            "true",
        );
        assert!(text.contains(":tenant"), "{text}");
        let text = forgets("ReadSession", "ReadSession, each user's, since I say so");
        assert!(text.contains("gives a reason"), "{text}");
    }

    #[test]
    fn a_row_with_an_ampersand_is_borrowed_from() {
        let code = generate(&GET.replace("--: Chat", "--: &Chat")).unwrap();
        for part in [
            "pub(crate) struct Chat<'r> {\npub(crate) id: Uuid,\npub(crate) title: &'r str,\n}",
            "pub(crate) struct ChatRow(Row);",
            "title: row.try_get(1)?,",
            "type Row = super::chats::ChatRow;",
        ] {
            assert!(code.contains(part), "{part}: {code}");
        }
        let text = mistake(
            &GET.replace("--: Chat", "--: &Chat")
                .replace("title text =", "title text[] ="),
        );
        assert!(text.contains("title: an array"), "{text}");
    }

    #[test]
    fn mistakes_are_named() {
        for (from, to, said) in [
            ("id = :id", "id = :other", ":other isn't declared"),
            (" AND id = :id", "", "parameter id isn't used"),
            ("-> Chat", "-> Talk", "no row \"Talk\""),
            ("id uuid)", "id varchar)", "varchar"),
            ("? read ", "? look ", "no way to run"),
            ("-- One chat.\n", "", "no comment"),
            ("{{ Chat }}", "{{ Talk }}", "undefined"),
        ] {
            let text = mistake(&GET.replace(from, to));
            assert!(text.contains(said), "{said}: {text}");
            assert!(text.contains("chats"), "{text}");
        }
    }
}
