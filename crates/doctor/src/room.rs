//! Room: disk, now and at ten times the data, and numbers that could run out.

use nix::sys::statvfs::statvfs;
use tokio_postgres::types::Type;

use crate::{
    Finding, Patient,
    finding::{DISK, NUMBERS, SIZE, TEN_TIMES},
    line::{Asked, Line, Unknown, cell},
    units::{bytes, percent},
};

/// How many of the largest tables are told.
const TOLD: usize = 3;
/// A disk of which less is free, in percent and in bytes, is nearly full; PostgreSQL stops where it is.
const LITTLE: (i64, i64) = (5, 10 << 30);
/// Of which less than this is free, it is time to look for more.
const SOME: (i64, i64) = (20, 50 << 30);

const SIZES: &str = include_str!("sql/sizes.sql");
const NUMBERS_SQL: &str = include_str!("sql/numbers.sql");

/// The file system of the data.
#[derive(Clone, Copy, Debug)]
struct DiskSpace {
    free: i64,
    size: i64,
}

/// Looks at the room that there is.
pub(crate) async fn look(patient: &Patient, line: &mut Line, tables: &[String]) -> Vec<Finding> {
    let disk = disk(patient);
    let sizes = sizes(line, tables).await;
    vec![
        SIZE.settle(sizes.as_ref().map(judge_sizes).map_err(Clone::clone)),
        judge_disk(&disk),
        TEN_TIMES.settle(sizes.map(|sizes| judge_ten_times(sizes.database, &disk))),
        NUMBERS.settle(numbers(line, tables).await),
    ]
}

/// What can be seen of the disk: that of an embedded database alone is this machine's.
fn disk(patient: &Patient) -> Asked<DiskSpace> {
    let Some(dir) = &patient.data_dir else {
        return Err(Unknown::Other(
            "the disk of a database elsewhere can't be seen from here".to_owned(),
        ));
    };
    let found = statvfs(dir).map_err(|error| Unknown::Other(format!("{}: {error}", dir.display())))?;
    // The widths of these differ between systems.
    #[allow(clippy::useless_conversion)]
    let of = |blocks: u64| {
        i64::try_from(blocks.saturating_mul(u64::from(found.fragment_size()))).unwrap_or(i64::MAX)
    };
    #[allow(clippy::useless_conversion)]
    Ok(DiskSpace {
        free: of(found.blocks_available().into()),
        size: of(found.blocks().into()),
    })
}

fn judge_disk(disk: &Asked<DiskSpace>) -> Finding {
    const ADVICE: &str = "a larger disk, or less on it; a full one stops PostgreSQL";
    let disk = match disk {
        Ok(disk) => disk,
        Err(reason) => return DISK.unknown(reason),
    };
    let found = format!(
        "{} of {} are free ({})",
        bytes(disk.free),
        bytes(disk.size),
        percent(disk.free, disk.size)
    );
    let share = disk.free.saturating_mul(100) / disk.size.max(1);
    let is_below = |(percent, bytes): (i64, i64)| share < percent && disk.free < bytes;
    if is_below(LITTLE) {
        DISK.error(found, ADVICE)
    } else if is_below(SOME) {
        DISK.warning(found, ADVICE)
    } else {
        DISK.ok(found)
    }
}

/// How large everything is.
struct Sizes {
    database: i64,
    /// The tables with indexes and long values, the largest first: name, size, rows.
    tables: Vec<(String, i64, i64)>,
}

async fn sizes(line: &mut Line, tables: &[String]) -> Asked<Sizes> {
    let row = line
        .ask_one("SELECT pg_database_size(current_database())", &[])
        .await?;
    let rows = line.ask(SIZES, &[(&tables, Type::TEXT_ARRAY)]).await?;
    let read = |row| Ok((cell(row, 0)?, cell(row, 1)?, cell(row, 2)?));
    Ok(Sizes {
        database: cell(&row, 0)?,
        tables: rows.iter().map(read).collect::<Asked<_>>()?,
    })
}

fn judge_sizes(sizes: &Sizes) -> Finding {
    let ours: i64 = sizes.tables.iter().map(|(_, size, _)| size).sum();
    let largest: Vec<String> = sizes
        .tables
        .iter()
        .take(TOLD)
        .map(|(name, size, rows)| format!("{name} {} (about {rows} rows)", bytes(*size)))
        .collect();
    SIZE.ok(format!(
        "{}, of which {} are ours: {}",
        bytes(sizes.database),
        bytes(ours),
        largest.join(", ")
    ))
}

fn judge_ten_times(size: i64, disk: &Asked<DiskSpace>) -> Finding {
    let growth = size.saturating_mul(9);
    let wanted = format!("ten times the data is {}", bytes(size.saturating_mul(10)));
    match disk {
        Err(reason) => TEN_TIMES.ok(format!("{wanted}; {reason}")),
        Ok(disk) if disk.free > growth => {
            TEN_TIMES.ok(format!("{wanted}, and {} are free", bytes(disk.free)))
        }
        Ok(disk) => TEN_TIMES.notice(
            format!("{wanted}, and only {} are free", bytes(disk.free)),
            "plan for a larger disk before there is so much",
        ),
    }
}

async fn numbers(line: &mut Line, tables: &[String]) -> Asked<Finding> {
    let rows = line.ask(NUMBERS_SQL, &[(&tables, Type::TEXT_ARRAY)]).await?;
    let mut told = Vec::new();
    for row in &rows {
        let (name, used, most): (String, i64, i64) = (cell(row, 0)?, cell(row, 1)?, cell(row, 2)?);
        if used.saturating_mul(10) > most {
            told.push(format!("{name} is at {used} of {most}"));
        }
    }
    Ok(if told.is_empty() {
        NUMBERS.ok("ids are UUIDs, seqs have 63 bits, and no sequence is near its end")
    } else {
        NUMBERS.warning(
            told.join("; "),
            "make the column and its sequence bigint, long before it runs out",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity::{Error, Notice, Ok as Well, Warning};

    #[test]
    fn little_room_is_told_and_a_disk_elsewhere_is_unknown() {
        let disk = |free| {
            Ok(DiskSpace {
                free,
                size: 100 << 30,
            })
        };
        let judged = |free: i64| judge_disk(&disk(free << 30)).severity;
        assert_eq!([judged(50), judged(10), judged(2)], [Well, Warning, Error]);
        let elsewhere = Err(Unknown::Other("elsewhere".to_owned()));
        assert!(!judge_disk(&elsewhere).looked);
        assert_eq!(judge_ten_times(5 << 30, &disk(50 << 30)).severity, Well);
        assert_eq!(judge_ten_times(5 << 30, &disk(40 << 30)).severity, Notice);
        assert_eq!(judge_ten_times(i64::MAX, &elsewhere).severity, Well);
    }
}
