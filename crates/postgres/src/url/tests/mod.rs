use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, LoadBalanceHosts, TargetSessionAttrs};

use super::*;
use crate::tls::TlsMode;

mod encryption;

fn parse(text: &str) -> DatabaseUrl {
    DatabaseUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    DatabaseUrl::parse(text).expect_err(text).to_string()
}

fn mode(text: &str) -> TlsMode {
    parse(text).tls().mode
}

#[test]
fn what_providers_show_works_as_pasted() {
    let neon = "postgresql://neondb_owner:npg_x%40Y@ep-cool-darkness-123456-pooler.us-east-2.aws.neon.tech/neondb\
                ?sslmode=require&channel_binding=require";
    for pasted in [neon.to_owned(), format!("psql '{neon}'"), format!("\"{neon}\"\n")] {
        let url = parse(&pasted);
        assert_eq!(url.config().get_user(), Some("neondb_owner"));
        assert_eq!(url.config().get_password(), Some(&b"npg_x@Y"[..]));
        assert_eq!(url.config().get_channel_binding(), ChannelBinding::Require);
        assert_eq!(url.tls().mode, TlsMode::Require);
        assert!(url.is_pooled());
        assert_eq!(
            url.display(),
            "ep-cool-darkness-123456-pooler.us-east-2.aws.neon.tech/neondb"
        );
    }
    let others = [
        // Supabase, for Prisma and by Vercel; its direct connection; its pooler's session mode.
        (
            "postgresql://postgres.ref:pw@aws-0-eu.pooler.supabase.com:6543/postgres?pgbouncer=true&connection_limit=1",
            true,
        ),
        (
            "postgres://postgres.ref:pw@aws-0-eu.pooler.supabase.com:6543/postgres?sslmode=require&supa=base-pooler.x",
            true,
        ),
        ("postgresql://postgres:pw@db.ref.supabase.co:5432/postgres", false),
        (
            "postgres://postgres.ref:pw@aws-0-eu.pooler.supabase.com:5432/postgres",
            true,
        ),
        // Heroku, RDS, Azure, Railway, CockroachDB's form, Aiven, Prisma.
        (
            "postgres://u:p@ec2-1-2-3-4.compute-1.amazonaws.com:5432/d1",
            false,
        ),
        (
            "postgresql://u:p@x.rds.amazonaws.com/postgres?sslmode=verify-full&sslrootcert=/certs/global-bundle.pem",
            false,
        ),
        (
            "host=x.postgres.database.azure.com port=5432 dbname=postgres user=u@x password='p w' sslmode=require",
            false,
        ),
        (
            "postgresql://postgres:pw@monorail.proxy.rlwy.net:12345/railway",
            false,
        ),
        (
            "postgresql://u:p@x.cockroachlabs.cloud:26257/defaultdb?sslmode=verify-full",
            false,
        ),
        (
            "postgres://avnadmin:pw@x.aivencloud.com:12691/defaultdb?sslmode=require",
            false,
        ),
        (
            "postgresql://u:p@localhost:5432/db?schema=public&pool_timeout=20&statement_cache_size=0",
            false,
        ),
        (
            "postgresql://u:p@ep-x.neon.tech/db?options=endpoint%3Dep-x&sslmode=require&uselibpqcompat=true",
            false,
        ),
    ];
    for (text, pooled) in others {
        assert_eq!(parse(text).is_pooled(), pooled, "{text}");
    }
}

#[test]
fn hosts_ports_and_sockets() {
    let url = parse("postgres://u@a:1,b,[::1]:3/d?target_session_attrs=read-write&load_balance_hosts=random");
    assert_eq!(url.display(), "a:1,b,[::1]:3/d");
    assert_eq!(url.config().get_ports(), [1, 5432, 3]);
    assert_eq!(url.config().get_hosts().len(), 3);
    assert_eq!(
        url.config().get_target_session_attrs(),
        TargetSessionAttrs::ReadWrite
    );
    assert_eq!(url.config().get_load_balance_hosts(), LoadBalanceHosts::Random);
    assert_eq!(parse("postgres://a,b/d").display(), "a,b/d");
    assert_eq!(parse("host=a,b port=7 user=u").display(), "a:7,b:7/u");

    for text in [
        "postgres://%2Ftmp%2Fpg:7/d",
        "postgres:///d?host=%2Ftmp%2Fpg&port=7",
        "postgres:///d?host=/tmp/pg&port=7",
    ] {
        let url = parse(text);
        assert_eq!(url.config().get_hosts(), [Host::Unix("/tmp/pg".into())]);
        assert_eq!(url.display(), "/tmp/pg:7/d");
    }
    assert!(matches!(
        parse("postgres:///d").config().get_hosts(),
        [Host::Unix(_)]
    ));
    let url = parse("postgres://db.example/d?hostaddr=127.0.0.1");
    assert_eq!(
        (url.config().get_hostaddrs().len(), url.display().as_str()),
        (1, "db.example/d")
    );
    assert_eq!(parse("hostaddr=::1 dbname=d").display(), "[::1]/d");

    assert!(error("postgres://a,b,c/d?port=1,2").contains("`port` must have one entry"));
    assert!(error("postgres://a:70000/d").contains("`port` must be a number from 1"));
    assert!(error("postgres://a:0/d").contains("`port` must be a number from 1"));
    assert!(error("postgres://[::1/d").contains("without a `]`"));
    assert!(error("postgres://a/d?hostaddr=b").contains("must be a list of IP addresses"));
    assert!(error("postgres://a,b/d?hostaddr=1.2.3.4").contains("as many entries as `host`"));
}

#[test]
fn every_target_session_attrs() {
    let attrs = [
        ("any", SessionAttrs::Any, TargetSessionAttrs::Any),
        (
            "read-write",
            SessionAttrs::ReadWrite,
            TargetSessionAttrs::ReadWrite,
        ),
        ("read-only", SessionAttrs::ReadOnly, TargetSessionAttrs::ReadOnly),
        ("primary", SessionAttrs::Primary, TargetSessionAttrs::ReadWrite),
        ("standby", SessionAttrs::Standby, TargetSessionAttrs::ReadOnly),
        (
            "prefer-standby",
            SessionAttrs::PreferStandby,
            TargetSessionAttrs::Any,
        ),
    ];
    for (word, expected, config) in attrs {
        let url = parse(&format!("postgres://h/d?target_session_attrs={word}"));
        assert_eq!(
            (url.session_attrs, url.config().get_target_session_attrs()),
            (expected, config)
        );
    }
    assert!(error("postgres://h/d?target_session_attrs=master").contains("must be any, read-write"));
}

#[test]
fn users_and_passwords() {
    let login = |text: &str| {
        let url = parse(text);
        let password = url
            .config()
            .get_password()
            .map(|password| String::from_utf8_lossy(password).into_owned());
        (url.config().get_user().map(str::to_owned), password)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        login("postgres://u:p%2F%3a%40%25@h/d"),
        (some("u"), some("p/:@%"))
    );
    assert_eq!(
        login("postgres://u:p?a#b:c+d@h/d"),
        (some("u"), some("p?a#b:c+d"))
    );
    assert_eq!(login("postgres://me%40server@h/d"), (some("me@server"), None));
    assert_eq!(login("postgres://:p@h/d"), (None, some("p")));
    assert_eq!(login("postgres://u:@h/d"), (some("u"), None));
    assert_eq!(login("postgres://@h/d"), (None, None));
    assert_eq!(
        login("postgres://h/d?user=a@b&password=x"),
        (some("a@b"), some("x"))
    );
    assert_eq!(
        login(r"user = 'a b' password='it\'s \\' host=h"),
        (some("a b"), some(r"it's \"))
    );
    assert_eq!(login(r"user=a\ b password='' host=h"), (some("a b"), None));
    assert_eq!(
        parse("postgres://u:%ff%fe@h/d").config().get_password(),
        Some(&b"\xff\xfe"[..])
    );
}

#[test]
fn timeouts_and_names() {
    let config = |query: &str| parse(&format!("postgres://h/d?{query}")).config().clone();
    let seconds = Duration::from_secs;
    assert_eq!(config("").get_connect_timeout(), Some(&seconds(5)));
    assert_eq!(
        config("connect_timeout=3").get_connect_timeout(),
        Some(&seconds(3))
    );
    assert_eq!(config("connect_timeout=0").get_connect_timeout(), None);
    assert_eq!(config("connect_timeout=-1").get_connect_timeout(), None);
    assert_eq!(
        config("tcp_user_timeout=1500").get_tcp_user_timeout(),
        Some(&Duration::from_millis(1500))
    );
    let alive = config("keepalives=1&keepalives_idle=30&keepalives_interval=5&keepalives_count=3");
    assert!(alive.get_keepalives() && !config("keepalives=0").get_keepalives());
    assert_eq!(alive.get_keepalives_idle(), seconds(30));
    assert_eq!(
        (alive.get_keepalives_interval(), alive.get_keepalives_retries()),
        (Some(seconds(5)), Some(3))
    );
    assert_eq!(config("").get_application_name(), Some("chatledger"));
    assert_eq!(
        config("fallback_application_name=f").get_application_name(),
        Some("f")
    );
    assert_eq!(
        config("fallback_application_name=f&application_name=a").get_application_name(),
        Some("a")
    );
    assert!(
        error("postgres://h/d?connect_timeout=soon").contains("`connect_timeout` must be a whole number")
    );
}

#[test]
fn options_and_schemas() {
    let options = |query: &str| {
        parse(&format!("postgres://h/d?{query}"))
            .config()
            .get_options()
            .map(str::to_owned)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(options("options=endpoint%3Dep-x"), some("endpoint=ep-x"));
    assert_eq!(
        options("options=-c%20statement_timeout%3D5s"),
        some("-c statement_timeout=5s")
    );
    // libpq refuses a bare "=" in a value; what is meant is plain.
    assert_eq!(options("options=endpoint=ep-x"), some("endpoint=ep-x"));
    assert_eq!(options("schema=public"), None);
    assert_eq!(options("schema=my%20app"), some(r#"-c search_path="my\ app""#));
    assert_eq!(options("currentSchema=a%22b"), some(r#"-c search_path="a""b""#));
    assert_eq!(
        options("search_path=a,%20b&options=-c%20x.y%3D1"),
        some(r"-c x.y=1 -c search_path=a,\ b")
    );
}

#[test]
fn what_would_be_unsafe_to_ignore_is_refused_by_name() {
    for name in [
        "sslcrl",
        "sslcrldir",
        "requirepeer",
        "require_auth",
        "sslpassword",
        "service",
    ] {
        assert!(
            error(&format!("postgres://h/d?{name}=x")).contains(&format!("`{name}` isn't supported")),
            "{name}"
        );
        parse(&format!("postgres://h/d?{name}="));
    }
    assert!(error("postgres://h/d?gssencmode=require").contains("`gssencmode` can't be `require`"));
    assert!(error("postgres://h/d?sslcertmode=require").contains("`sslcertmode` must be allow or disable"));
    assert!(error("postgres://h/d?replication=database").contains("`replication` isn't supported"));
    parse(
        "postgres://h/d?gssencmode=prefer&krbsrvname=x&sslcompression=1&client_encoding=utf8&passfile=/x&replication=false&",
    );
    assert!(error("postgres://h/d?statement_timeout=5").contains("unknown parameter `statement_timeout`"));
    assert!(error("host=h foo=1").contains("unknown parameter `foo`"));
}

#[test]
fn passwords_are_never_shown() {
    let url = parse("postgres://someone:hunter2@h/d");
    for shown in [url.display(), format!("{url:?}"), format!("{:?}", url.config())] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert_eq!(format!("{url:?}"), r#"DatabaseUrl("h/d")"#);
    // Passwords that should have been encoded or quoted, cut at every character that has a meaning.
    let wrong = [
        "postgres://u:hun@ter2@h/d",
        "postgres://u:hun/ter2@h/d",
        "postgres://u:12/ter2@h/d",
        "postgres://u:hun/t?er2@h/d",
        "postgres://u:hun%ter2@h/d",
        "postgres://u:hun%00ter2@h/d",
        "postgres://u@hun:ter2@h/d",
        "postgres://[u:hunter2@h/d",
        "host=h password=hun ter2",
        "host=h password='hun'ter2",
        "host=h password='hunter2",
        "hunter2=",
        "u:hunter2@h",
        "host=h password=x (hunter2)=1",
        "host=hun@ter2 user=u",
        "postgres://h/d?password=a&hunter2",
    ];
    for text in wrong {
        let shown = match DatabaseUrl::parse(text) {
            Ok(url) => url.display(),
            // A word before a "=" is a parameter's name, whatever else it might be.
            Err(UrlError::Unknown(name)) if name == "hunter2" => continue,
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(
            !shown.contains("hun") && !shown.contains("ter2"),
            "{text}: {shown}"
        );
        assert!(!shown.contains('\n'));
    }
}
