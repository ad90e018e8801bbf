//! Reports that are kept: how a fold counts what is new, and how what is kept is found and read. `docs/reports.md` tells why the
//! sums are right at any moment.

use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::Store;
use crate::{
    auth::Caller,
    domain::{Error, Result},
    statements::{
        CallerFree, Viewer, read_all,
        reports::{
            Add, Advance, Begin, CountKept, FindKept, FoldDocuments, FoldLengths, FoldVolume, Forget,
            ForgetChanges, ForgetUncited, KeptReportRow, ReadPosition, WatermarkRow, Watermarks,
        },
    },
};
use chatledger_postgres::{Db, Tx};

/// The reports by name, as the table of watermarks has them.
pub(super) const VOLUME: &str = "volume";
pub(super) const DOCUMENTS: &str = "documents";
pub(super) const LENGTHS: &str = "lengths";
/// The time zone whose days are always kept.
pub(super) const UTC: &str = "UTC";

/// The most other time zones whose days are kept. Each costs a fold as much as UTC does; a report in one more counts the messages.
const MAX_ZONES: usize = 8;

/// How often a report is read again because a fold came between finding and reading it. Folds are seconds apart.
pub(super) const ATTEMPTS: usize = 3;

/// A report that finds a watermark so many transactions behind wakes whoever folds. As many are read beside what is kept within
/// some milliseconds.
const FAR_BEHIND: i64 = 1000;

/// The work that reports and appends leave to whoever folds.
#[derive(Debug, Default)]
pub(super) struct FoldingWork {
    wake: Notify,
    /// Time zones that were asked for and aren't kept.
    zones: Mutex<BTreeSet<String>>,
}

/// How far a fold is to go.
#[derive(Clone, Copy, Debug)]
pub struct FoldRequest {
    /// The most transactions that it takes at once, so that it doesn't hold one transaction for minutes where many are new.
    pub transactions: i64,
    /// Whether what is kept is forgotten first.
    pub forget: bool,
}

/// What a fold came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folded {
    /// Somebody else folds just now.
    Busy,
    /// There is more to be folded in.
    Partly,
    /// All is folded in that had ended when it began, and there were transactions that hadn't.
    Held,
    /// All is folded in.
    All,
}

/// What is kept of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRows {
    /// Of which report, with its time zone.
    pub report: String,
    /// How many messages, citations or sessions are counted in it.
    pub counted: i64,
    /// In how many rows.
    pub rows: i64,
}

impl Store {
    /// Notes that there may be something to fold in.
    pub fn wake_folding(&self) {
        self.folding.wake.notify_one();
    }

    /// Ends when there may be something to fold in.
    pub(crate) async fn folding_needed(&self) {
        self.folding.wake.notified().await;
    }

    /// Has a time zone's days kept, from the next fold on.
    pub(super) fn want_zone(&self, name: String) {
        let mut zones = self.zones();
        if zones.len() < MAX_ZONES {
            zones.insert(name);
        }
        drop(zones);
        self.wake_folding();
    }

    fn zones(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.folding.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what is new for every report, in one transaction and of one snapshot.
    ///
    /// # Errors
    /// The database's.
    pub async fn fold(&self, db: &Db, request: FoldRequest) -> Result<Folded> {
        let wanted: Vec<String> = self.zones().iter().cloned().collect();
        let folded = db
            .snapshot(None, async |tx| Fold { tx }.run(request, wanted).await)
            .await;
        match folded {
            // Between this snapshot and the lock, somebody else's fold has ended.
            Err(Error::Overloaded(_)) => Ok(Folded::Busy),
            folded => folded,
        }
    }

    /// What is kept, report by report.
    ///
    /// # Errors
    /// The database's.
    pub async fn kept_rows(&self) -> Result<Vec<KeptRows>> {
        let rows = self.run_for_nobody(&CountKept).await?.into_iter();
        let rows = rows.map(|row| KeptRows {
            report: row.report,
            counted: row.counted,
            rows: row.rows,
        });
        Ok(rows.collect())
    }

    /// Finds a report that is kept; `None` where it isn't. The statement that reads it then answers a row at least, unless a fold has
    /// come between: then it is looked for again.
    pub(super) async fn find_kept(
        &self,
        caller: &Caller,
        report: &str,
        time_zone: &str,
        since: Option<Timestamp>,
    ) -> Result<Option<KeptReportRow>> {
        let find = FindKept {
            report,
            time_zone,
            since,
        };
        let found = self.first(caller, &find).await?;
        if found.as_ref().is_none_or(|kept| kept.behind > FAR_BEHIND) {
            self.wake_folding();
        }
        Ok(found)
    }
}

/// A fold, in its transaction.
struct Fold<'a> {
    tx: &'a Tx,
}

impl Fold<'_> {
    async fn run(&self, request: FoldRequest, wanted: Vec<String>) -> Result<Folded> {
        if self.query(&Begin).await? != [true] {
            return Ok(Folded::Busy);
        }
        let before = self.query(&Watermarks).await?;
        let Some(position) = self.query(&ReadPosition).await?.into_iter().next() else {
            return Ok(Folded::Busy); // the statement answers a row always
        };
        if request.forget || position.emptied || position.foreign_numbers {
            self.query(&Forget).await?;
        }
        let mut zones: Vec<String> = before.into_iter().map(|kept| kept.time_zone).collect();
        zones.extend(wanted);
        self.add(&zones).await?;
        let mut reached = self.query(&Watermarks).await?;
        let mut is_done = true;
        for kept in &mut reached {
            let to = self.advance(kept, position.horizon, request.transactions).await?;
            is_done &= to >= position.horizon;
            kept.folded_through = to;
        }
        self.query(&ForgetUncited).await?;
        self.query(&ForgetChanges).await?;
        let through: Vec<i64> = reached.iter().map(|kept| kept.folded_through).collect();
        let (reports, time_zones) = names(&reached);
        let advance = Advance {
            reports: &reports,
            time_zones: &time_zones,
            through: &through,
        };
        self.query(&advance).await?;
        Ok(match (is_done, position.held) {
            (false, _) => Folded::Partly,
            (true, true) => Folded::Held,
            (true, false) => Folded::All,
        })
    }

    /// Adds the reports that aren't kept yet: of the time zones besides UTC the first ones.
    async fn add(&self, zones: &[String]) -> Result<()> {
        let mut time_zones: Vec<&str> = Vec::new();
        for zone in zones.iter().map(String::as_str) {
            if zone != UTC && !time_zones.contains(&zone) && time_zones.len() < MAX_ZONES {
                time_zones.push(zone);
            }
        }
        let mut reports = vec![VOLUME; time_zones.len()];
        reports.extend([VOLUME, DOCUMENTS, LENGTHS]);
        time_zones.extend([UTC; 3]);
        let add = Add {
            reports: &reports,
            time_zones: &time_zones,
        };
        self.query(&add).await.map(drop)
    }

    /// Counts a report's part, and answers the transaction before which all is counted now.
    async fn advance(&self, kept: &WatermarkRow, horizon: i64, transactions: i64) -> Result<i64> {
        let from = kept.folded_through;
        let to = horizon.min(from.saturating_add(transactions)).max(from);
        match kept.report.as_str() {
            VOLUME => {
                let fold = FoldVolume {
                    time_zone: &kept.time_zone,
                    from,
                    to,
                };
                self.query(&fold).await?;
            }
            DOCUMENTS => {
                self.query(&FoldDocuments { from, to }).await?;
            }
            _ => {
                // From the beginning it reads the sessions, and no message.
                let to = if from == 0 { horizon } else { to };
                self.query(&FoldLengths { from, to }).await?;
                return Ok(to);
            }
        }
        Ok(to)
    }

    async fn query<S: CallerFree>(&self, statement: &S) -> Result<Vec<S::Row>> {
        let params = statement.params(&Viewer::NOBODY);
        let run = pin!(self.tx.query(&S::DESCRIPTION.sql, &params));
        let rows = S::DESCRIPTION.follow(run).await?;
        Ok(read_all(statement, rows)?)
    }
}

fn names(reports: &[WatermarkRow]) -> (Vec<&str>, Vec<&str>) {
    let names = reports.iter();
    names
        .map(|kept| (kept.report.as_str(), kept.time_zone.as_str()))
        .unzip()
}
