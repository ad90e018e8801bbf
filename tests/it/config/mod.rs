//! The configuration file and `chatledger config`: what wins, what is refused, and that secrets stay hidden.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::harness::{
    process::{chatledger, open_dir},
    *,
};

/// A part of every secret here.
const PASSWORD: &str = "hunter2";

/// What a command says, and its exit code. No secret is said.
fn said(command: &mut Command) -> (i32, String, String) {
    let output = command.output().expect("chatledger");
    let stdout = String::from_utf8(output.stdout).expect("a text");
    let stderr = String::from_utf8(output.stderr).expect("a text");
    assert!(!stdout.contains(PASSWORD), "{stdout}");
    assert!(!stderr.contains(PASSWORD), "{stderr}");
    (output.status.code().expect("a code"), stdout, stderr)
}

fn config(command: &str, file: &Path) -> Command {
    let mut program = chatledger();
    program.args(["config", command, "--config"]).arg(file);
    program
}

/// `config show --json`, by key.
fn shown(command: &mut Command) -> impl Fn(&str) -> (Value, String) + use<> {
    let (code, stdout, stderr) = said(command.arg("--json"));
    assert_eq!(code, 0, "{stderr}");
    let document: Value = serde_json::from_str(&stdout).expect("JSON");
    move |key| {
        let settings = document["settings"].as_array().expect("a list");
        let setting = settings.iter().find(|setting| setting["key"] == key);
        let setting = setting.unwrap_or_else(|| panic!("{key} isn't in {document:#}"));
        let mut source = setting["source"].as_str().expect("a source").to_owned();
        for detail in ["variable", "line"] {
            if let Some(detail) = setting.get(detail) {
                source = format!("{source} {}", detail.to_string().trim_matches('"'));
            }
        }
        (setting["value"].clone(), source)
    }
}

#[test]
fn a_flag_wins_over_a_variable_and_that_over_the_file() {
    let dir = open_dir();
    let file = dir.path().join("chatledger.toml");
    fs::write(
        &file,
        "# The limits.\nmax-requests = 7\nmax-streams = 0x10\nmax-connections = 9\n\
         request-timeout = '5s'\nreflection = true\nscope = 'chat'\njwt-issuer = ['one', 'two']\n\
         max-citations = 3\npool-size = 2\napi-key = 'cl_hunter2'\n\
         database-url = 'postgres://u:hunter2@files/d?application_name=hunter2'\n\
         jwt-jwks = 'https://u:hunter2@issuer.example/keys?key=hunter2'\n",
    )
    .expect("written");
    let command = || {
        let mut command = config("show", &file);
        command
            .env("CHATLEDGER_MAX_STREAMS", "17")
            .env("CHATLEDGER_MAX_CONNECTIONS", "18")
            .env("CHATLEDGER_REFLECTION", "false")
            // Empty is as if it weren't set.
            .env("CHATLEDGER_POOL_SIZE", "")
            .args(["--max-connections", "19"]);
        command
    };
    let value = shown(&mut command());
    let is = |key: &str, expected: Value, source: &str| {
        assert_eq!(value(key), (expected, source.to_owned()), "{key}");
    };
    is("max-requests", 7.into(), "file 2");
    is("max-streams", 17.into(), "variable CHATLEDGER_MAX_STREAMS");
    is("max-connections", 19.into(), "flag");
    is("request-timeout", "5s".into(), "file 5");
    is("reflection", false.into(), "variable CHATLEDGER_REFLECTION");
    is("scope", "chat".into(), "file 7");
    is("jwt-issuer", vec!["one", "two"].into(), "file 8");
    is("pool-size", 2.into(), "file 10");
    is("max-payload-bytes", 1_048_576.into(), "default");
    is("append-lanes", Value::Null, "unset");
    is("database-url", "postgres://[hidden]@files/d".into(), "file 12");
    is(
        "jwt-jwks",
        "https://[hidden]@issuer.example/keys?[hidden]".into(),
        "file 13",
    );

    let (_, text, _) = said(&mut command());
    for line in [
        "max-requests = 7 ",
        "max-connections = 19 ",
        "jwt-issuer = [\"one\", \"two\"] ",
        "# append-lanes = ",
    ] {
        assert!(
            text.lines().any(|shown| shown.starts_with(line)),
            "{line} in {text}"
        );
    }

    // Neon's variable is one of the database's.
    let value = shown(command().env("NEON_DATABASE_URL", "postgres://u:hunter2@neon/d"));
    assert_eq!(value("database-url"), (Value::Null, "unset".to_owned()));
    // The file may be named by a variable.
    let value = shown(
        chatledger()
            .env("CHATLEDGER_CONFIG", &file)
            .args(["config", "show"]),
    );
    assert_eq!(value("max-connections"), (9.into(), "file 4".to_owned()));
}

#[test]
fn every_mistake_of_a_file_is_told_with_its_line_and_the_nearest_key() {
    let dir = open_dir();
    let file = dir.path().join("chatledger.toml");
    let text = "max-request = 1\nmax_streams = 1\nmax-requests = '7'\nmax-connections = 0\n\
                request-timeout = 60\nread-timeout = 'soon'\nreflection = 'yes'\nscope = 'most'\n\
                listen = ['127.0.0.1:0']\nyes = true\ncolour = 1\ndatabase-url = 5\n\
                jwt-issuer = ['a,b']\npooler = 2026-01-01\n[limits]\nmax-citations = 1\n";
    fs::write(&file, text).expect("written");
    let expected = [
        (1, "max-request: there is no such key; did you mean max-requests?"),
        (2, "max_streams: there is no such key; did you mean max-streams?"),
        (3, "max-requests: must be a number, and is a text"),
        (4, "max-connections: \"0\": 0 is not in 1.."),
        (5, "request-timeout: must be a text in quotes, and is a number"),
        (6, "read-timeout: \"soon\": must be a positive duration"),
        (7, "reflection: must be true or false, and is a text"),
        (8, "scope: \"most\": must be one of all, chat, auth"),
        (9, "listen: must be a text in quotes, and is a list"),
        (
            10,
            "yes: is no setting: it is said on the command line (chatledger erase --yes)",
        ),
        (11, "colour: there is no such key"),
        (12, "database-url: must be a text in quotes, and is a number"),
        (13, "jwt-issuer: \"a,b\": a list is written"),
        (14, "pooler: must be a text in quotes, and is a time"),
        (15, "limits: is a table"),
    ];
    for command in [config("check", &file), {
        let mut serve = chatledger();
        serve.arg("serve").env("CHATLEDGER_CONFIG", &file);
        serve
    }] {
        let mut command = command;
        let (code, stdout, stderr) = said(&mut command);
        assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{stderr}");
        for (line, (number, reason)) in lines.iter().zip(&expected) {
            let start = format!("chatledger: {} line {number}: {reason}", file.display());
            assert!(line.starts_with(&start), "{line}\n{start}");
        }
    }
    // What isn't TOML; nothing of the line is quoted.
    fs::write(
        &file,
        "max-requests = 1\ndatabase-url = postgres://u:hunter2@h/d\n",
    )
    .expect("written");
    let (code, _, stderr) = said(&mut config("check", &file));
    assert_eq!(code, 1);
    assert!(stderr.contains("line 2: "), "{stderr}");
    let (code, _, stderr) = said(&mut config("check", &dir.path().join("none.toml")));
    assert_eq!(code, 1);
    assert!(
        stderr.contains("--config") && stderr.contains("none.toml"),
        "{stderr}"
    );
    // Whoever asks for help gets it all the same.
    let (code, stdout, _) = said(chatledger().args(["serve", "--help", "--config"]).arg(&file));
    assert!(code == 0 && stdout.contains("--config <FILE>"), "{stdout}");
}

#[test]
fn check_looks_at_all_that_is_named() {
    let dir = open_dir();
    let path = |name: &str| dir.path().join(name);
    let file = path("chatledger.toml");
    fs::write(path("limits.toml"), "[colour]\n").expect("written");
    fs::write(
        path("keys.toml"),
        "[[api_keys]]\nname = 'a'\nsecret = 'hunter2'\nscopes = []\n",
    )
    .expect("written");
    let named = |name: &str| path(name).display().to_string();
    let text = format!(
        "listen = '0.0.0.0:1'\nmemory-budget = 1\nlimits-file = '{}'\napi-keys-file = '{}'\ntls-cert = '{}'\n\
         tls-client-auth = 'optional'\nmigrations-dir = '{}'\ndatabase-url = 'mysql://u:hunter2@h/d'\n",
        named("limits.toml"),
        named("keys.toml"),
        named("cert.pem"),
        named("none")
    );
    fs::write(&file, text).expect("written");
    let mut check = config("check", &file);
    check.env("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector");
    let (code, _, stderr) = said(&mut check);
    assert_eq!(code, 1);
    for part in [
        "OTEL_EXPORTER_OTLP_ENDPOINT=ftp://collector",
        "--tls-cert needs --tls-key",
        "--memory-budget 1: must be at least",
        "--limits-file",
        "--api-keys-file",
        "--migrations-dir",
        "--database-url (DATABASE_URL)",
    ] {
        assert!(
            stderr.lines().any(|line| line.contains(part)),
            "{part} in {stderr}"
        );
    }
    fs::write(&file, "max-requests = 7\nscope = 'chat'\n").expect("written");
    let (code, stdout, stderr) = said(&mut config("check", &file));
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("serve takes 2 of its values from it"), "{stdout}");
}

#[tokio::test]
async fn commands_take_secrets_from_files() {
    let database = TestDatabase::new().await;
    let dir = open_dir();
    let (file, url) = (dir.path().join("chatledger.toml"), dir.path().join("url"));
    fs::write(&url, format!("{}\n", database.url())).expect("written");
    let text = format!(
        "listen = '127.0.0.1:0'\ndatabase-url-file = '{}'\n",
        url.display()
    );
    fs::write(&file, &text).expect("written");
    let mut command = chatledger();
    command.arg("serve").env("CHATLEDGER_CONFIG", &file);
    let server = ServerProcess::start(&mut command);
    assert!(server.ready_line().contains("127.0.0.1:"), "{}", server.stderr());

    let mut command = chatledger();
    command.args(["key", "create", "--name", "n", "--scopes", "read"]);
    let (code, stdout, stderr) = said(command.env("DATABASE_URL_FILE", &url));
    assert!(code == 0 && stdout.starts_with("cl_"), "{stderr}");
    let value = shown(config("show", &file).env("DATABASE_URL_FILE", &url));
    assert_eq!(value("database-url").1, "variable DATABASE_URL_FILE");

    // Both are a mistake, and so is a file that can't be read; but not for a command that wants none of them.
    let both = "postgres://u:hunter2@h/d";
    let (code, _, stderr) = said(
        config("show", &file)
            .env("DATABASE_URL_FILE", &url)
            .env("DATABASE_URL", both),
    );
    assert!(
        code == 1 && stderr.contains("DATABASE_URL and DATABASE_URL_FILE are both set"),
        "{stderr}"
    );
    let none = dir.path().join("none");
    let (code, _, stderr) = said(config("show", &file).env("DATABASE_DIRECT_URL_FILE", &none));
    assert!(
        code == 1 && stderr.contains("DATABASE_DIRECT_URL_FILE"),
        "{stderr}"
    );
    let (code, _, stderr) = said(config("show", &file).env("CHATLEDGER_API_KEY_FILE", &none));
    assert_eq!(code, 0, "{stderr}");
    fs::write(&file, format!("database-url = '{both}'\n{text}")).expect("written");
    let (code, _, stderr) = said(&mut config("show", &file));
    assert!(
        code == 1 && stderr.contains("line 3: database-url and database-url-file are both given"),
        "{stderr}"
    );
}

/// The file in docs/configuration.md.
#[test]
fn the_file_of_the_documentation_is_one() {
    let document = include_str!("../../../docs/configuration.md");
    let text = document.split("```toml\n").nth(1).expect("a file");
    let text = text.split("```").next().expect("its end");
    let dir = open_dir();
    let (file, url) = (dir.path().join("chatledger.toml"), dir.path().join("url"));
    fs::write(&url, "postgres://u:hunter2@h/d").expect("written");
    let secret = "/run/secrets/database-url";
    assert!(text.contains(secret), "{text}");
    fs::write(&file, text.replace(secret, &url.display().to_string())).expect("written");
    let value = shown(&mut config("show", &file));
    assert_eq!(
        value("database-url"),
        ("postgres://[hidden]@h/d".into(), "file 2".to_owned())
    );
    assert_eq!(value("reflection"), (true.into(), "file 6".to_owned()));
}

#[test]
fn the_example_has_every_key_and_sets_what_is_the_default() {
    let (code, example, stderr) = said(
        chatledger()
            .args(["config", "example"])
            .env("CHATLEDGER_POOL_SIZE", "3"),
    );
    assert_eq!(code, 0, "{stderr}");
    let dir = open_dir();
    let file = dir.path().join("chatledger.toml");
    let set: Vec<&str> = example
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with([' ', '#']))
        .collect();
    fs::write(&file, set.join("\n")).expect("written");
    let value = shown(&mut config("show", &file));
    let default = shown(chatledger().args(["config", "show"]));
    assert!(set.len() > 30, "{example}");
    for line in set {
        let key = line.split(' ').next().expect("a key");
        assert_eq!(value(key).0, default(key).0, "{key}");
        assert!(value(key).1.starts_with("file "), "{key}");
    }
    for key in [
        "tls-cert",
        "append-lanes",
        "database-url",
        "database-url-file",
        "api-key",
    ] {
        assert!(example.contains(&format!("\n# {key} = ")), "{key} in {example}");
    }
}
