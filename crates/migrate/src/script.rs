//! The SQL of a migration: whether it runs in a transaction, and its statements one by one.
//!
//! The splitter knows what hides a semicolon. Quotes, dollar quotes and comments are found by squawk's lexer, which
//! follows PostgreSQL's own (`scan.l`); parentheses and the bodies of SQL-standard functions (`BEGIN ATOMIC ... END`)
//! are counted here, as psql does (`psqlscan.l`). No grammar decides where a statement ends: one that the grammar
//! doesn't know would be cut or lost. Errors are left to PostgreSQL.

use std::fmt;

use squawk_lexer::{TokenKind, tokenize};

/// Marks a file, in a comment before its first statement and behind the program's name and a colon, whose statements
/// can't run in a transaction.
const NO_TRANSACTION: &str = "no-transaction";

/// One direction of a migration.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// The file's text.
    pub text: String,
    /// Whether it all runs in one transaction; else statement by statement.
    pub in_transaction: bool,
}

impl Script {
    /// Reads the mark.
    pub(crate) fn new(text: impl Into<String>) -> Script {
        let text = text.into();
        Script {
            in_transaction: !is_marked(&text),
            text,
        }
    }

    /// The script's statements.
    pub(crate) fn statements(&self) -> Vec<ScriptStatement<'_>> {
        split(&self.text)
    }

    /// Looks for what can't go well: no statement at all, transactions within the transaction, statements that
    /// need none and those that a second run, after an interruption, would fail at.
    pub(crate) fn check(&self) -> Result<(), String> {
        let statements = self.statements();
        if statements.is_empty() {
            return Err("has no statement yet".to_owned());
        }
        for statement in &statements {
            let trouble = if self.in_transaction {
                statement.trouble_in_transaction()
            } else {
                statement.trouble_without_transaction()
            };
            if let Some(trouble) = trouble {
                let line = line_of(&self.text, statement.offset);
                return Err(format!("line {line}: {statement}: {trouble}"));
            }
        }
        Ok(())
    }

    /// Whether the script takes only what holds no rows: then there is nothing to ask before going back.
    pub(crate) fn keeps_data(&self) -> bool {
        self.statements().iter().all(|statement| {
            let drops_code = ["INDEX", "TRIGGER", "FUNCTION", "PROCEDURE", "VIEW", "POLICY"]
                .iter()
                .any(|kind| statement.starts_with(&["DROP", kind]));
            let drops_constraint = statement.starts_with(&["ALTER", "TABLE"])
                && statement.has("CONSTRAINT")
                && !statement.has("COLUMN")
                && statement.count("DROP") == 1;
            let switches_security = statement.starts_with(&["ALTER", "TABLE"]) && statement.has("SECURITY");
            drops_code && !statement.has("CASCADE")
                || drops_constraint
                || switches_security && !statement.has("DROP")
        })
    }
}

fn is_marked(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .take_while(|line| line.is_empty() || line.starts_with("--"))
        .filter_map(|line| line.trim_start_matches('-').split_once(':'))
        .any(|(program, mark)| program.trim().chars().all(is_word) && mark.trim() == NO_TRANSACTION)
}

/// The line of a byte, from 1.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    1 + before.bytes().filter(|&byte| byte == b'\n').count()
}

/// One statement.
#[derive(Clone, Debug)]
pub(crate) struct ScriptStatement<'a> {
    /// The statement's text, without the semicolon.
    pub text: &'a str,
    /// The place where the statement begins in the file, in bytes.
    pub offset: usize,
    /// The statement's words, names, literals and signs, without comments.
    tokens: Vec<&'a str>,
}

/// An index that is built concurrently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConcurrentIndex {
    /// The name as `to_regclass` reads it: with its table's schema where the statement gives one.
    pub name: String,
    /// The index's table, where the statement gives no schema.
    pub table: Option<String>,
    /// The statement that builds it while others wait; `None` where any index of this name will do (IF NOT EXISTS).
    pub(crate) plainly: Option<String>,
}

impl ScriptStatement<'_> {
    /// The statement's words, names, literals and signs.
    pub(crate) fn words(&self) -> &[&str] {
        &self.tokens
    }

    fn starts_with(&self, words: &[&str]) -> bool {
        self.tokens.len() >= words.len()
            && words
                .iter()
                .zip(&self.tokens)
                .all(|(word, token)| token.eq_ignore_ascii_case(word))
    }

    fn has(&self, word: &str) -> bool {
        self.count(word) > 0
    }

    fn count(&self, word: &str) -> usize {
        self.tokens
            .iter()
            .filter(|token| token.eq_ignore_ascii_case(word))
            .count()
    }

    /// Whether the statement waits for others without holding them up: it needs no limit on that.
    pub(crate) fn is_concurrent(&self) -> bool {
        ["CREATE", "DROP", "REINDEX"]
            .iter()
            .any(|word| self.starts_with(&[word]))
            // CREATE UNIQUE INDEX CONCURRENTLY, REINDEX (VERBOSE) TABLE CONCURRENTLY
            && self.tokens.iter().take(6).any(|token| token.eq_ignore_ascii_case("CONCURRENTLY"))
    }

    /// The index that the statement builds concurrently; `None` for other statements, and without a name.
    pub(crate) fn concurrent_index(&self) -> Option<ConcurrentIndex> {
        let create = self.starts_with(&["CREATE"]) && self.is_concurrent();
        let at = |word: &str| {
            self.tokens
                .iter()
                .position(|token| token.eq_ignore_ascii_case(word))
        };
        let (concurrently, on) = (at("CONCURRENTLY")?, at("ON")?);
        let name = *self.tokens.get(on.checked_sub(1)?)?;
        if !create || on <= concurrently + 1 || name.eq_ignore_ascii_case("EXISTS") {
            return None;
        }
        let mut table = self.tokens[on + 1..].iter();
        let mut first = table.next()?;
        if first.eq_ignore_ascii_case("ONLY") {
            first = table.next()?;
        }
        let has_schema = table.next() == Some(&".");
        // A token is a part of the text.
        let at = self.tokens[concurrently].as_ptr() as usize - self.text.as_ptr() as usize;
        let (before, rest) = self.text.split_at(at);
        let plainly = format!("{before}{}", &rest[self.tokens[concurrently].len()..]);
        Some(ConcurrentIndex {
            name: if has_schema {
                format!("{first}.{name}")
            } else {
                name.to_owned()
            },
            table: (!has_schema).then(|| (*first).to_owned()),
            plainly: (!self.has("EXISTS")).then_some(plainly),
        })
    }

    fn trouble_in_transaction(&self) -> Option<&'static str> {
        let controls = ["BEGIN", "COMMIT", "ROLLBACK", "END", "ABORT", "START"];
        let alone = ["VACUUM"];
        if controls.iter().any(|word| self.starts_with(&[word])) && !self.has("SAVEPOINT") {
            Some("a migration is a transaction already, leave this out")
        } else if self.is_concurrent()
            || alone.iter().any(|word| self.starts_with(&[word]))
            || self.starts_with(&["ALTER", "SYSTEM"])
            || ["CREATE", "DROP"]
                .iter()
                .any(|word| self.starts_with(&[word, "DATABASE"]))
        {
            Some("can't run in a transaction: put `-- migrate: no-transaction` in the first line")
        } else {
            None
        }
    }

    fn trouble_without_transaction(&self) -> Option<&'static str> {
        if self.starts_with(&["CREATE"]) && self.is_concurrent() {
            let unnamed = self.concurrent_index().is_none();
            return unnamed.then_some("give the index a name: an interrupted build is found again by it");
        }
        let is_guarded = self.has("EXISTS") || self.starts_with(&["CREATE", "OR", "REPLACE"]);
        let may_fail_again = match self
            .tokens
            .first()
            .map(|word| word.to_ascii_uppercase())
            .as_deref()
        {
            Some("BEGIN" | "START" | "COMMIT" | "ROLLBACK") => true,
            Some("CREATE" | "DROP") => !is_guarded,
            Some("ALTER") => (self.has("ADD") || self.has("DROP") || self.has("RENAME")) && !is_guarded,
            Some("INSERT") => !self.has("CONFLICT") && !is_guarded,
            _ => false,
        };
        may_fail_again.then_some(
            "can't be run again after an interruption: write IF [NOT] EXISTS (ON CONFLICT for rows), or move it to \
             a migration of its own, without the mark",
        )
    }
}

/// The statement's first words, to be recognized by.
impl fmt::Display for ScriptStatement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Enough for CREATE UNIQUE INDEX CONCURRENTLY and a name.
        const WORDS: usize = 5;
        f.write_str(&self.tokens[..self.tokens.len().min(WORDS)].join(" "))
    }
}

/// The statements of a text.
pub(crate) fn split(text: &str) -> Vec<ScriptStatement<'_>> {
    let mut found = Vec::new();
    let mut tokens: Vec<&str> = Vec::new();
    let (mut start, mut end) = (0, 0);
    let (mut parentheses, mut blocks) = (0_usize, 0_usize);
    for (offset, token) in tokens_of(text) {
        if token == ";" && parentheses == 0 && blocks == 0 {
            if !tokens.is_empty() {
                let tokens = std::mem::take(&mut tokens);
                found.push(ScriptStatement {
                    text: &text[start..end],
                    offset: start,
                    tokens,
                });
            }
            continue;
        }
        if tokens.is_empty() {
            start = offset;
        }
        match token {
            "(" => parentheses += 1,
            ")" => parentheses = parentheses.saturating_sub(1),
            _ if parentheses == 0 && creates_routine(&tokens) => count_block(token, &mut blocks),
            _ => {}
        }
        tokens.push(token);
        end = offset + token.len();
    }
    if !tokens.is_empty() {
        found.push(ScriptStatement {
            text: &text[start..end],
            offset: start,
            tokens,
        });
    }
    found
}

fn creates_routine(tokens: &[&str]) -> bool {
    let mut words = tokens.iter().filter(|token| {
        !["OR", "REPLACE"]
            .iter()
            .any(|word| token.eq_ignore_ascii_case(word))
    });
    let is = |token: Option<&&str>, words: &[&str]| {
        token.is_some_and(|token| words.iter().any(|word| token.eq_ignore_ascii_case(word)))
    };
    is(words.next(), &["CREATE"]) && is(words.next(), &["FUNCTION", "PROCEDURE"])
}

fn count_block(word: &str, blocks: &mut usize) {
    if word.eq_ignore_ascii_case("BEGIN") || (*blocks > 0 && word.eq_ignore_ascii_case("CASE")) {
        *blocks += 1;
    } else if word.eq_ignore_ascii_case("END") {
        *blocks = blocks.saturating_sub(1);
    }
}

/// The tokens of a text that are neither blank nor comment, and where each begins.
fn tokens_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut end = 0;
    tokenize(text).filter_map(move |token| {
        let start = end;
        end += usize::try_from(token.len).unwrap_or(usize::MAX);
        let is_blank = matches!(
            token.kind,
            TokenKind::Whitespace | TokenKind::LineComment | TokenKind::BlockComment { .. }
        );
        (!is_blank).then(|| (start, &text[start..end]))
    })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<&str> {
        split(sql).iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn semicolons_end_statements_where_nothing_hides_them() {
        assert_eq!(texts("SELECT 1; SELECT 2"), ["SELECT 1", "SELECT 2"]);
        assert_eq!(texts(" ;; -- a; b\n /* c; /* d; */ e; */ ;"), Vec::<&str>::new());
        for whole in [
            "SELECT 'a;''b;', \"c;\"\"d;\", E'e\\';f', 'g\\'",
            "SELECT $$a;$$, $x$b; $$ $y$ ;$x$",
            "SELECT 1 -- a; b\n + /* ; */ 2",
            "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM a; DELETE FROM b)",
            "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN 1=1 THEN 2 END; SELECT 3; END",
            "SELECT 'ü;€', \"ä;\", $ö$;$ö$",
        ] {
            let text = format!("{whole}; SELECT 1;");
            assert_eq!(texts(&text), [whole, "SELECT 1"]);
        }
        // Parameters and names with a dollar open nothing.
        assert_eq!(texts("EXECUTE p($1, $2); SELECT a$b$c; SELECT 1").len(), 3);
        assert_eq!(texts("SELECT 'never closed; SELECT 1").len(), 1);
        assert_eq!(texts("SELECT $$never closed; SELECT 1").len(), 1);
        assert_eq!(texts("SELECT 1 /* never /* closed */; SELECT 1").len(), 1);
    }

    #[test]
    fn tokens_are_what_postgresql_takes_them_for() {
        // A carriage return ends a comment, a number ends before a dollar quote, and prefixes belong to their quotes.
        assert_eq!(texts("SELECT 1 -- a;\r + 2; SELECT 1").len(), 2);
        assert_eq!(texts("SELECT 1$$;$$; SELECT 1").len(), 2);
        assert_eq!(
            texts("SELECT U&'\\';U&\"a;\", b';', x';', n';', e'\\\\'; SELECT 1").len(),
            3
        );
        // An editor's byte order mark isn't a part of the first word.
        assert_eq!(texts("\u{feff}SELECT 1; SELECT 2"), ["SELECT 1", "SELECT 2"]);
        // A statement that no grammar knows yet is still one.
        let unknown = "FROBNICATE TABLE x BEGIN (1; 2) AS 'a;b'";
        assert_eq!(texts(&format!("{unknown}; SELECT 1")), [unknown, "SELECT 1"]);
    }

    #[test]
    fn an_error_names_the_first_words() {
        let first = |sql: &str| split(sql)[0].to_string();
        assert_eq!(
            first("CREATE TABLE a.b (c int DEFAULT 1.5)"),
            "CREATE TABLE a . b"
        );
        assert_eq!(
            first("/* why */ SELECT /* what */ 1.5e3::text"),
            "SELECT 1.5e3 : : text"
        );
    }

    #[test]
    fn the_mark_is_in_a_comment_before_the_first_statement() {
        assert!(!Script::new("-- program: no-transaction\nSELECT 1").in_transaction);
        assert!(!Script::new("-- About.\n\n--program: no-transaction \nSELECT 1").in_transaction);
        assert!(Script::new("SELECT 1; -- program: no-transaction").in_transaction);
        assert!(Script::new("SELECT 1;\n-- program: no-transaction").in_transaction);
    }

    fn index_of(sql: &str) -> Option<String> {
        split(sql)[0].concurrent_index().map(|index| index.name)
    }

    #[test]
    fn an_index_is_found_by_its_name() {
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(index_of("create index concurrently a on t (x)"), name("a"));
        assert_eq!(
            index_of("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS \"A b\" ON ONLY s.t USING gin (x)"),
            name("s.\"A b\"")
        );
        assert_eq!(index_of("CREATE INDEX CONCURRENTLY ON t (x)"), None);
        assert_eq!(index_of("CREATE INDEX CONCURRENTLY IF NOT EXISTS ON t (x)"), None);
        assert_eq!(index_of("CREATE INDEX a ON t (x)"), None);
        assert_eq!(index_of("DROP INDEX CONCURRENTLY a"), None);
    }

    #[test]
    fn what_can_not_go_well_is_said_before() {
        let trouble = |text: &str| Script::new(text).check().expect_err(text);
        assert!(trouble("-- only a comment").contains("no statement"));
        assert!(trouble("SELECT 1;\nCOMMIT;").contains("line 2: COMMIT"));
        assert!(trouble("CREATE INDEX CONCURRENTLY a ON t (x)").contains("no-transaction"));
        assert!(trouble("VACUUM t").contains("no-transaction"));
        let unsafe_again = |sql: &str| trouble(&format!("-- program: {NO_TRANSACTION}\n{sql}"));
        assert!(unsafe_again("CREATE INDEX CONCURRENTLY ON t (x)").contains("name"));
        for sql in [
            "ALTER TABLE t ADD COLUMN c int",
            "CREATE TABLE t ()",
            "DROP TABLE t",
            "INSERT INTO t VALUES (1)",
            "BEGIN",
        ] {
            assert!(unsafe_again(sql).contains("line 2"), "{sql}");
        }
        for sql in [
            "ALTER TABLE t ADD COLUMN IF NOT EXISTS c int",
            "ALTER TABLE t VALIDATE CONSTRAINT c",
            "UPDATE t SET x = 1 WHERE x IS NULL",
            "CREATE INDEX CONCURRENTLY a ON t (x)",
            "DROP INDEX CONCURRENTLY IF EXISTS a",
            "VACUUM ANALYZE t",
        ] {
            let checked = Script::new(format!("-- program: {NO_TRANSACTION}\n{sql}")).check();
            assert_eq!(checked, Ok(()), "{sql}");
        }
        assert_eq!(Script::new("ALTER TABLE t ADD COLUMN c int;").check(), Ok(()));
    }

    #[test]
    fn what_may_drop_rows_is_told_from_what_does_not() {
        for sql in [
            "DROP INDEX a",
            "DROP TRIGGER a ON t; DROP FUNCTION a()",
            "ALTER TABLE t DROP CONSTRAINT c",
            "DROP POLICY IF EXISTS p ON t; ALTER TABLE IF EXISTS t DISABLE ROW LEVEL SECURITY",
        ] {
            assert!(Script::new(sql).keeps_data(), "{sql}");
        }
        for sql in [
            "DROP TABLE t",
            "ALTER TABLE t DROP COLUMN c",
            "ALTER TABLE t DROP c",
            "ALTER TABLE t DROP CONSTRAINT c, DROP d",
            "DELETE FROM t",
            "DROP FUNCTION f CASCADE",
            "DO $$ $$",
        ] {
            assert!(!Script::new(sql).keeps_data(), "{sql}");
        }
    }
}
