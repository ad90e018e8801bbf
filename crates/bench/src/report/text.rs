//! A report for people.

use std::fmt::Write as _;

use super::{BenchReport, Latency};
use crate::usage::CpuSeconds;

/// The summary that is printed at the end.
#[must_use]
pub fn summary(report: &BenchReport) -> String {
    let mut text = String::new();
    // Writing to a String can't fail; so below.
    let _ = writeln!(
        text,
        "{} messages {} in {:.1} s{}: {:.0} messages/s{}",
        report.messages_in_time,
        report.measures,
        report.seconds,
        if report.interrupted { " (interrupted)" } else { "" },
        report.throughput,
        match report.messages.saturating_sub(report.messages_in_time) {
            0 => String::new(),
            late => format!(
                "; {late} more, sent in that time, were {} after it",
                report.measures
            ),
        },
    );
    latency(&mut text, "latency", &report.latency_ms);
    if let Some(receipt) = &report.receipt_to_delivery_ms {
        latency(&mut text, "from receipt", receipt);
    }
    if report.unsent > 0 {
        let _ = writeln!(
            text,
            "unsent        {} messages were due and never sent: more than --in-flight allows were unanswered",
            report.unsent
        );
    }
    for (code, count) in &report.errors {
        let _ = writeln!(text, "errors        {code}: {count}");
    }
    let _ = writeln!(text, "{}", cpu(&report.cpu_seconds));
    if let Some(memory) = &report.server_memory {
        let _ = writeln!(
            text,
            "memory        server {:.0} MiB, at most {:.0} MiB",
            memory.resident_mib, memory.peak_mib
        );
    }
    if let Some(verified) = &report.verify {
        let _ = writeln!(
            text,
            "verify        {}: {} messages of {} sessions read back{}",
            if verified.ok { "ok" } else { "FAILED" },
            verified.messages,
            verified.sessions,
            match verified.unacknowledged {
                0 => String::new(),
                some => format!(", {some} of them stored although their answers were lost"),
            }
        );
        for problem in &verified.problems {
            let _ = writeln!(text, "  {problem}");
        }
        let untold = verified
            .problem_count
            .saturating_sub(verified.problems.len() as u64);
        if untold > 0 {
            let _ = writeln!(text, "  and {untold} more");
        }
    }
    text
}

fn latency(text: &mut String, name: &str, latency: &Latency) {
    let Latency {
        p50,
        p90,
        p99,
        p99_9,
        max,
        ..
    } = latency;
    let _ = writeln!(
        text,
        "{name:<13} p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  p99.9 {p99_9:.2}  max {max:.2} ms"
    );
}

/// Who used the processor.
pub(crate) fn cpu(cpu: &CpuSeconds) -> String {
    let seconds = |seconds: Option<f64>| seconds.map_or("?".to_owned(), |seconds| format!("{seconds:.1} s"));
    format!(
        "processor     client {}, server {}, PostgreSQL {}",
        seconds(cpu.client),
        seconds(cpu.server),
        seconds(cpu.postgres)
    )
}
