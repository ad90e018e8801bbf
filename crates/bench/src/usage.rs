//! What the parties use of the machine, and which machine it is; from `/proc`, so on Linux only. Elsewhere there
//! are no such numbers.

use std::{fs, path::Path};

use serde::Serialize;

/// The unit of processor times in `/proc` (USER_HZ): a part of Linux's interface, 100 everywhere.
const TICKS_A_SECOND: f64 = 100.0;

/// The processes of a measurement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parties {
    /// `chatledger serve`, where it is ours.
    pub server: Option<u32>,
    /// The first process of PostgreSQL, where it is ours.
    pub postgres: Option<u32>,
}

/// Processor time, in seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct CpuSeconds {
    /// The time of this process, the load generator.
    pub client: Option<f64>,
    /// The time of the server.
    pub server: Option<f64>,
    /// The time of PostgreSQL, all of its processes.
    pub postgres: Option<f64>,
}

impl Parties {
    /// What they have used so far.
    #[must_use]
    pub fn cpu(&self) -> CpuSeconds {
        CpuSeconds {
            client: cpu_of(std::process::id()).map(|cpu| cpu.own),
            server: self.server.and_then(cpu_of).map(|cpu| cpu.own),
            postgres: self.postgres.and_then(cpu_of_tree),
        }
    }

    /// The server's memory.
    #[must_use]
    pub fn server_memory(&self) -> Option<ProcessMemory> {
        memory_of(self.server?)
    }
}

impl CpuSeconds {
    /// What was used since.
    #[must_use]
    pub fn since(&self, before: &CpuSeconds) -> CpuSeconds {
        let less = |now: Option<f64>, before: Option<f64>| Some((now? - before?).max(0.0));
        CpuSeconds {
            client: less(self.client, before.client),
            server: less(self.server, before.server),
            postgres: less(self.postgres, before.postgres),
        }
    }
}

struct ProcessCpu {
    parent: u32,
    own: f64,
    /// The time of children that have ended.
    ended: f64,
}

fn cpu_of(pid: u32) -> Option<ProcessCpu> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; what follows is fields 3 and on.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let seconds = |field: usize| {
        fields
            .get(field - 3)?
            .parse::<f64>()
            .ok()
            .map(|ticks| ticks / TICKS_A_SECOND)
    };
    Some(ProcessCpu {
        parent: fields.get(1)?.parse().ok()?,
        own: seconds(14)? + seconds(15)?,
        ended: seconds(16)? + seconds(17)?,
    })
}

/// The time of a process and its children, also those that have ended.
fn cpu_of_tree(root: u32) -> Option<f64> {
    let top = cpu_of(root)?;
    let children: f64 = fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(cpu_of)
        .filter(|process| process.parent == root)
        .map(|process| process.own)
        .sum();
    Some(top.own + top.ended + children)
}

/// A process's memory, in MiB.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProcessMemory {
    /// Now.
    pub(crate) resident_mib: f64,
    /// The most so far.
    pub peak_mib: f64,
}

fn memory_of(pid: u32) -> Option<ProcessMemory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(ProcessMemory {
        resident_mib: kib(&status, "VmRSS:")? / 1024.0,
        peak_mib: kib(&status, "VmHWM:")? / 1024.0,
    })
}

/// The number of a line such as `VmRSS:   1234 kB`.
fn kib(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The process that a data directory's `postmaster.pid` names.
pub(crate) fn postmaster(data_dir: &Path) -> Option<u32> {
    let file = fs::read_to_string(data_dir.join("pg/postmaster.pid")).ok()?;
    file.lines().next()?.trim().parse().ok()
}

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// How many processors this process may use.
    pub(crate) cores: Option<usize>,
    /// What they are.
    pub(crate) cpu_model: Option<String>,
    /// Main memory.
    memory_mib: Option<f64>,
    /// The operating system's version.
    pub(crate) kernel: Option<String>,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        let read = |file: &str| fs::read_to_string(file).ok();
        Machine {
            cores: std::thread::available_parallelism().ok().map(usize::from),
            cpu_model: read("/proc/cpuinfo").and_then(|text| {
                let line = text.lines().find(|line| line.starts_with("model name"))?;
                Some(line.split_once(':')?.1.trim().to_owned())
            }),
            memory_mib: read("/proc/meminfo")
                .and_then(|text| kib(&text, "MemTotal:"))
                .map(|kib| (kib / 1024.0).round()),
            kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_the_machine() {
        let parties = Parties {
            server: Some(std::process::id()),
            postgres: None,
        };
        let before = parties.cpu();
        let mut sum = 0u64;
        while parties.cpu().since(&before).client < Some(0.02) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert_eq!(parties.cpu().postgres, None);
        let memory = parties.server_memory().expect("of this process");
        assert!(memory.resident_mib > 1.0 && memory.peak_mib >= memory.resident_mib);
        assert!(cpu_of_tree(std::process::id()).is_some());
        assert!(Machine::here().memory_mib > Some(100.0));
    }
}
