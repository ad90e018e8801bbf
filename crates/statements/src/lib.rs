//! SQL with named parameters, turned into Rust when the service is built.
//!
//! A statement of the service is text in a `.sql` file, where an editor knows it as SQL. This crate is a build dependency:
//! it makes of each statement a struct with a field for every parameter, and of each kind of row a struct with a field for
//! every column. So nobody counts positions, and a parameter or a column has one description.
//!
//! # A file
//!
//! ```sql
//! -- The rows of a table.
//! --: Session
//! --:   id uuid
//! --:   title text = coalesce(title, '')
//!
//! --! Get(id uuid) -> Session
//! --? read ReadSession
//! -- One session.
//! SELECT {{ Session }} FROM chat_sessions WHERE tenant_id = :tenant AND id = :id
//! ```
//!
//! - `--:` begins a *row*: its columns by name, type and, where that isn't the name, expression. `{{ Session }}` in a
//!   statement is the list of them. `message: Message` is another row within this one, `message: Message?` one that is
//!   absent where its first column is null. `--: &Session` is a row that stays as it has come: its columns are borrowed from
//!   it, for whoever reads so many that copies of their texts would cost.
//! - `--!` begins a *statement*: its name, its parameters, the row that it answers (or `(name type)` for a single column, which
//!   the text has to answer under that name; nothing, where no row is read). Further lines begin with `--!` and more blanks.
//!   `Name like Other` takes the parameters of another statement of the file; its struct wraps that one's.
//! - `--?` says how it is run (`read`; `plan`, which is `read` with a plan for the values of its parameters; or `write`), what
//!   is done by it (an `Action`), and, where it doesn't bind `:tenant` and `:end_user`, why not: `each user's, since …` (it
//!   binds the tenant only) or `each tenant's, since …` (neither). These two parameters are no fields: whoever runs the statement
//!   binds the caller's.
//! - The comment below says what the statement is for, and must not be missing: it becomes the struct's.
//! - Types are PostgreSQL's, with `?` where there may be a null: `text`, `int8?`, `uuid[]`, `text?[]`, `text[]?`.
//! - The rest is a [Jinja](https://docs.rs/minijinja) template: what several statements share is a macro, of this file or of
//!   another one of the directory.
//!
//! `clorinde` is the well-kept crate for this. It prepares every statement, which can't be done behind a transaction pooler;
//! it asks a running database for the types, which a build of the service doesn't have; and it has no place for what each
//! statement must say about its caller.
//!
//! # The modules
//!
//! `file` reads a directory, `named` finds the parameters in a text, `types` knows PostgreSQL's types as Rust has them, and
//! `emit` writes Rust.

mod emit;
mod file;
mod named;
mod types;

use std::path::Path;

/// The Rust code for the `.sql` files of some directories: a module for each file that has statements, and `ALL`, the list of the
/// statements' descriptions. It stands in a module that has the names it uses in scope. Of the shared files only the macros can
/// be used.
///
/// # Errors
/// A mistake in a file, with the names of the file and of the statement.
pub fn generate(directories: &[&Path], shared: &[&Path]) -> anyhow::Result<String> {
    let mut files = Vec::new();
    for directory in directories {
        files.extend(file::read(directory)?);
    }
    for path in shared {
        files.push(file::read_file(path)?);
    }
    emit::module(&file::modules(&files)?)
}
