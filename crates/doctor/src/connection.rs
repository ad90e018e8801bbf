//! The way to the database: TLS, poolers, notifications, latency.

use std::time::{Duration, Instant};

use tokio::time;
use tokio_postgres::{Client, config::Host};

use crate::{
    Finding, Patient,
    finding::{DIRECT, LATENCY, LISTEN, POOLER, PREPARED, REACHABLE, TLS},
    line::{Asked, Line, Unknown, cell},
    units::span,
};
use chatledger_postgres::url::DatabaseUrl;

/// How many questions the latency is the median of.
const SAMPLES: usize = 11;
/// A round trip longer than this is felt in every request: the database is in another place.
const FAR: Duration = Duration::from_millis(5);
/// Longer than this, a request of a few statements is felt by people.
const VERY_FAR: Duration = Duration::from_millis(25);
/// How long a question may wait for a pooler's connection, before that shows that there is a pooler.
const WAITS: Duration = Duration::from_secs(1);

const PID: &str = "SELECT pg_backend_pid()";
const SSL: &str = include_str!("sql/ssl.sql");
const SAME: &str = include_str!("sql/same.sql");

/// What can be told of a database that can't be reached.
pub(crate) fn away(patient: &Patient, reason: &str) -> Vec<Finding> {
    let advice = "see that the server runs, that its address, user, password and database are right, and that it is let through \
                  from here; `psql` with the same URL says more";
    let pooler = if patient.is_pooled {
        POOLER.ok("the URL is taken for a transaction pooler's")
    } else {
        POOLER.ok("the URL is taken for PostgreSQL's own")
    };
    vec![
        REACHABLE.error(format!("can't connect: {reason}"), advice),
        judge_tls(ssl_mode(&patient.url), Distance::of(&patient.url), None),
        pooler,
    ]
}

/// Looks at the way there.
pub(crate) async fn look(patient: &Patient, line: &mut Line) -> Vec<Finding> {
    let connected = line.connected_in;
    let found_pooler = probe(line).await;
    vec![
        REACHABLE.ok(format!("connected in {}", span(connected))),
        TLS.settle(tls(patient, line).await),
        judge_pooler(patient.is_pooled, &found_pooler),
        direct(patient, line, &found_pooler).await,
        prepared(patient, line).await,
        listen(patient, line).await,
        LATENCY.settle(latency(line).await),
    ]
}

/// How far the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distance {
    /// A socket of this machine, which encrypts nothing, and needs it not.
    Socket,
    /// This machine, by TCP.
    Loopback,
    /// Another machine.
    Network,
}

impl Distance {
    fn of(url: &DatabaseUrl) -> Distance {
        let mut farthest = Distance::Socket;
        for host in url.config().get_hosts() {
            let Host::Tcp(name) = host else { continue };
            let ip = name.parse::<std::net::IpAddr>();
            if name == "localhost" || ip.is_ok_and(|ip| ip.is_loopback()) {
                if farthest == Distance::Socket {
                    farthest = Distance::Loopback;
                }
            } else {
                farthest = Distance::Network;
            }
        }
        farthest
    }
}

/// The `sslmode`. `require` with an authority given verifies it, as in libpq.
fn ssl_mode(url: &DatabaseUrl) -> String {
    let env = url.libpq_env();
    let mode = env.get("PGSSLMODE").cloned().unwrap_or_default();
    if mode == "require" && env.contains_key("PGSSLROOTCERT") {
        "verify-ca".to_owned()
    } else {
        mode
    }
}

/// How a connection is encrypted: version and cipher; nothing where it isn't.
type LiveTls = Option<(String, String)>;

async fn tls(patient: &Patient, line: &mut Line) -> Asked<Finding> {
    let row = line.ask_one(SSL, &[]).await?;
    let seen: LiveTls = if cell::<bool>(&row, 0)? {
        Some((cell(&row, 1)?, cell(&row, 2)?))
    } else {
        None
    };
    // What PostgreSQL says is about the connection that it has: behind a pooler, the pooler's.
    let seen = (!patient.is_pooled).then_some(seen);
    Ok(judge_tls(
        ssl_mode(&patient.url),
        Distance::of(&patient.url),
        seen,
    ))
}

fn judge_tls(mode: String, distance: Distance, live: Option<LiveTls>) -> Finding {
    const VERIFY: &str = "sslmode=verify-full in the URL, with sslrootcert=FILE where the certificate is no public authority's";
    let how = match &live {
        Some(Some((version, cipher))) => format!("{version}, {cipher}, sslmode={mode}"),
        Some(None) => format!("not encrypted, sslmode={mode}"),
        None => format!("sslmode={mode}"),
    };
    let may_be_clear = match live {
        Some(live) => live.is_none(),
        None => matches!(mode.as_str(), "disable" | "allow" | "prefer"),
    };
    match distance {
        Distance::Socket => TLS.ok("a socket of this machine, which nobody else hears"),
        Distance::Loopback => TLS.ok(format!("this machine; {how}")),
        Distance::Network if may_be_clear => TLS.warning(
            format!("{how}: whoever is in between can read everything, contents and hashes of passwords included"),
            VERIFY,
        ),
        Distance::Network if mode == "verify-full" => TLS.ok(format!("{how}: certificate and name are verified")),
        Distance::Network if mode == "verify-ca" => TLS.notice(
            format!("{how}: the certificate is verified, and not whose it is: any of the same authority will do"),
            "sslmode=verify-full",
        ),
        Distance::Network => TLS.warning(
            format!("{how}: the certificate isn't verified, so whoever is in between can pretend to be the database"),
            VERIFY,
        ),
    }
}

/// Whether the two ends of the line change with each transaction: then a pooler is between. Two clients that are connected at the
/// same time have two processes of PostgreSQL, or one, by turns.
async fn probe(line: &mut Line) -> Asked<bool> {
    let other = line.another().await?;
    let first: i32 = cell(&line.ask_one(PID, &[]).await?, 0)?;
    let held = time::timeout(WAITS, hold(&other)).await;
    let answer = match held {
        // No process is left for a second client: they aren't one each.
        Err(_) => Ok(true),
        Ok(Err(error)) => Err(error),
        Ok(Ok(second)) if second == first => Ok(true),
        Ok(Ok(_)) => {
            let again = line.attempt(async |client| {
                let asked = time::timeout(WAITS, client.query_typed(PID, &[])).await;
                asked.map_or(Ok(None), |rows| rows.map(Some))
            });
            match again.await? {
                None => Ok(true),
                Some(rows) => Ok(rows.first().map(|row| cell::<i32>(row, 0)).transpose()? != Some(first)),
            }
        }
    };
    // It ends when the connection does, too.
    let _ = time::timeout(WAITS, other.batch_execute("ROLLBACK")).await;
    answer
}

/// Holds a transaction open, and answers whose it is.
async fn hold(client: &Client) -> Asked<i32> {
    client.batch_execute("BEGIN READ ONLY").await?;
    let rows = client.query_typed(PID, &[]).await?;
    rows.first().map_or(
        Err(Unknown::Other("the database answered nothing".to_owned())),
        |row| cell(row, 0),
    )
}

fn judge_pooler(is_taken_for_one: bool, probed: &Asked<bool>) -> Finding {
    match (is_taken_for_one, probed) {
        (_, Err(reason)) => POOLER.unknown(reason),
        (true, Ok(true)) => POOLER.ok("a transaction pooler, and the server knows: nothing is kept in a session"),
        (false, Ok(false)) => POOLER.ok("none: PostgreSQL itself, or a pooler that keeps sessions"),
        (false, Ok(true)) => POOLER.error(
            "there is a transaction pooler between, and the server takes it for PostgreSQL: prepared statements and settings would \
             get lost between transactions",
            "--pooler on (CHATLEDGER_POOLER=on), or pgbouncer=true in the URL",
        ),
        (true, Ok(false)) => POOLER.notice(
            "the URL is taken for a transaction pooler's, and no pooler shows: statements are sent whole each time, which is slower",
            "where there is none, --pooler off (CHATLEDGER_POOLER=off)",
        ),
    }
}

async fn direct(patient: &Patient, line: &mut Line, probed: &Asked<bool>) -> Finding {
    let is_pooled = patient.is_pooled || *probed == Ok(true);
    if !patient.has_direct {
        return if is_pooled {
            DIRECT.warning(
                "there is no way past the pooler: migrations go through it, and servers hear of each other's messages by looking \
                 four times a second",
                "--database-direct-url (DATABASE_DIRECT_URL): the same database without the pooler",
            )
        } else {
            DIRECT.ok("the URL itself is direct")
        };
    }
    let mut direct = match Line::open(&patient.direct_url, patient.patience).await {
        Ok(direct) => direct,
        Err(reason) => {
            return DIRECT.error(
                format!("can't connect to the direct URL: {reason}"),
                "--database-direct-url (DATABASE_DIRECT_URL): the same database without the pooler",
            );
        }
    };
    DIRECT.settle(judge_direct(line, &mut direct).await)
}

async fn judge_direct(line: &mut Line, direct: &mut Line) -> Asked<Finding> {
    let (one, other) = (line.ask_one(SAME, &[]).await?, direct.ask_one(SAME, &[]).await?);
    let (one, other): (String, String) = (cell(&one, 0)?, cell(&other, 0)?);
    if one != other {
        return Ok(DIRECT.error(
            "the direct URL is of another database than the URL",
            "--database-direct-url (DATABASE_DIRECT_URL) must be the same database, of the same server",
        ));
    }
    Ok(if probe(direct).await? {
        DIRECT.warning(
            "the direct URL goes through a transaction pooler as well",
            "--database-direct-url (DATABASE_DIRECT_URL): the port of PostgreSQL, and not the pooler's",
        )
    } else {
        DIRECT.ok("the same database, without a pooler")
    })
}

async fn prepared(patient: &Patient, line: &mut Line) -> Finding {
    if patient.is_pooled {
        return PREPARED.ok("not counted on, since there is a pooler");
    }
    let ran = line
        .attempt(async |client| {
            let statement = client.prepare("SELECT 1").await?;
            for _ in 0..3 {
                client.query(&statement, &[]).await?;
            }
            Ok(())
        })
        .await;
    match ran {
        Ok(()) => PREPARED.ok("they last"),
        Err(reason) => PREPARED.error(
            format!("a statement that was prepared can't be run: {reason}"),
            "a pooler that forgets them needs --pooler on (CHATLEDGER_POOLER=on)",
        ),
    }
}

async fn listen(patient: &Patient, line: &mut Line) -> Finding {
    const CHANNEL: &str = "LISTEN chatledger_doctor; UNLISTEN chatledger_doctor";
    if patient.migrates_pooled {
        return LISTEN.notice(
            "nothing can be heard through a pooler: a message of another server is seen within 250 ms",
            "--database-direct-url (DATABASE_DIRECT_URL), for a few milliseconds instead",
        );
    }
    let listened = if patient.has_direct {
        match Line::open(&patient.direct_url, patient.patience).await {
            Ok(mut direct) => {
                direct
                    .attempt(async |client| client.batch_execute(CHANNEL).await)
                    .await
            }
            Err(reason) => Err(Unknown::Other(reason)),
        }
    } else {
        line.attempt(async |client| client.batch_execute(CHANNEL).await)
            .await
    };
    match listened {
        Ok(()) => LISTEN.ok("LISTEN works"),
        Err(reason) => LISTEN.warning(
            format!("LISTEN doesn't: {reason}"),
            "servers look four times a second instead; a standby can't listen, nor can what isn't PostgreSQL",
        ),
    }
}

async fn latency(line: &mut Line) -> Asked<Finding> {
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let began = Instant::now();
        line.ask("SELECT 1", &[]).await?;
        times.push(began.elapsed());
    }
    times.sort();
    Ok(judge_latency(times[SAMPLES / 2], times[SAMPLES - 1]))
}

fn judge_latency(median: Duration, worst: Duration) -> Finding {
    const NEARER: &str = "run the servers in the region, and better the zone, of the database";
    let found = format!(
        "SELECT 1 takes {}, {} at worst of {SAMPLES}",
        span(median),
        span(worst)
    );
    if median < FAR {
        LATENCY.ok(found)
    } else if median < VERY_FAR {
        LATENCY.notice(found, NEARER)
    } else {
        LATENCY.warning(found, NEARER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity::{self, Error, Notice, Ok as Well, Warning};

    #[test]
    fn tls_is_judged_by_what_is_between() {
        let live = || Some(Some(("TLSv1.3".to_owned(), "TLS_AES_256_GCM_SHA384".to_owned())));
        let cases: [(&str, Distance, Option<LiveTls>, Severity); 10] = [
            ("prefer", Distance::Socket, Some(None), Well),
            ("disable", Distance::Loopback, Some(None), Well),
            ("disable", Distance::Network, Some(None), Warning),
            ("prefer", Distance::Network, Some(None), Warning),
            ("prefer", Distance::Network, live(), Warning),
            ("require", Distance::Network, live(), Warning),
            ("verify-ca", Distance::Network, live(), Notice),
            ("verify-full", Distance::Network, live(), Well),
            // Through a pooler, or where nothing could be asked.
            ("verify-full", Distance::Network, None, Well),
            ("prefer", Distance::Network, None, Warning),
        ];
        for (mode, distance, live, severity) in cases {
            let found = judge_tls(mode.to_owned(), distance, live);
            assert_eq!(found.severity, severity, "{mode}: {found:?}");
        }
    }

    #[test]
    fn urls_are_as_far_as_their_farthest_host() {
        let far = |url: &str| Distance::of(&DatabaseUrl::parse(url).expect("a URL"));
        assert_eq!(far("postgres://u@/d?host=/run/postgresql"), Distance::Socket);
        assert_eq!(far("postgres://u@127.0.0.1/d"), Distance::Loopback);
        assert_eq!(far("postgres://u@localhost,db.example/d"), Distance::Network);
    }

    #[test]
    fn a_pooler_that_nobody_knows_of_is_an_error() {
        for (taken, probed, severity) in [
            (true, true, Well),
            (false, false, Well),
            (false, true, Error),
            (true, false, Notice),
        ] {
            assert_eq!(judge_pooler(taken, &Ok(probed)).severity, severity);
        }
        assert_eq!(judge_pooler(true, &Err(Unknown::Late)).severity, Notice);
    }

    #[test]
    fn a_database_that_is_far_away_is_told() {
        for (millis, severity) in [(1, Well), (8, Notice), (80, Warning)] {
            let time = Duration::from_millis(millis);
            assert_eq!(judge_latency(time, time).severity, severity);
        }
    }
}
