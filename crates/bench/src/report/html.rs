//! A report as one page that needs nothing else: plots are SVG, there is no script and no network.

use std::fmt::Write as _;

use super::BenchReport;

/// The size of a plot, and of its margins, in its own units; the page scales it.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2430; --faint: #8a94a3; --grid: #dfe4ea; --page: #fff; --card: #f5f7f9;
  --a: #0b6bcb; --b: #c2410c; --c: #15803d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --faint: #8d97a5; --grid: #303843; --page: #14181d;
  --card: #1c2128; --a: #5aa9f2; --b: #f59058; --c: #58c47c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; } p { color: var(--faint); }
.numbers { display: flex; flex-wrap: wrap; gap: .6rem; } .numbers div { background: var(--card); border-radius: .5rem;
  padding: .5rem .9rem; } .numbers b { display: block; font-size: 1.2rem; font-variant-numeric: tabular-nums; }
.bad { color: var(--b); } table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1rem .15rem 0;
  vertical-align: top; } svg { width: 100%; height: auto; } svg text { fill: var(--faint); font-size: 12px; }
.grid { stroke: var(--grid); } .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.a { stroke: var(--a); } .b { stroke: var(--b); } .c { stroke: var(--c); }
svg .a-text { fill: var(--a); } svg .b-text { fill: var(--b); } svg .c-text { fill: var(--c); }
";

/// The page.
#[must_use]
pub fn page(report: &BenchReport) -> String {
    let title = format!("chatledger bench {}", report.kind);
    let mut body = String::new();
    // Writing to a String can't fail; so below.
    let _ = write!(
        body,
        "<h1>{}</h1><p>{} · chatledger {} · {:.1} s measured{}</p>",
        escape(&title),
        escape(&report.time.strftime("%Y-%m-%d %H:%M UTC").to_string()),
        escape(report.version),
        report.seconds,
        if report.interrupted { " · interrupted" } else { "" },
    );
    numbers(&mut body, report);
    if let Some(verified) = &report.verify {
        let class = if verified.ok { "" } else { " class=bad" };
        let _ = write!(
            body,
            "<p{class}>{}: {} messages of {} sessions were read back and compared with the receipts.</p>",
            if verified.ok { "Verified" } else { "NOT VERIFIED" },
            verified.messages,
            verified.sessions
        );
        list(&mut body, &verified.problems);
    }
    let _ = write!(body, "<h2>Latency over time</h2>{}", over_time(report));
    let _ = write!(body, "<h2>Messages a second</h2>{}", rates(report));
    let _ = write!(body, "<h2>Latency by percentile</h2>{}", by_percentile(report));
    tables(&mut body, report);
    format!(
        "<!doctype html><html lang=en><head><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body>{body}</body></html>\n",
        escape(&title)
    )
}

fn numbers(body: &mut String, report: &BenchReport) {
    let latency = &report.latency_ms;
    let errors: u64 = report.errors.values().sum();
    let ms = |ms: f64| format!("{ms:.2} ms");
    body.push_str("<div class=numbers>");
    for (name, value) in [
        ("messages/s", format!("{:.0}", report.throughput)),
        ("messages in time", report.messages_in_time.to_string()),
        ("p50", ms(latency.p50)),
        ("p90", ms(latency.p90)),
        ("p99", ms(latency.p99)),
        ("p99.9", ms(latency.p99_9)),
        ("max", ms(latency.max)),
        ("errors", errors.to_string()),
    ] {
        let _ = write!(body, "<div><b>{value}</b>{name}</div>");
    }
    body.push_str("</div>");
}

fn list(body: &mut String, items: &[String]) {
    if items.is_empty() {
        return;
    }
    body.push_str("<ul class=bad>");
    for item in items {
        let _ = write!(body, "<li>{}</li>", escape(item));
    }
    body.push_str("</ul>");
}

fn tables(body: &mut String, report: &BenchReport) {
    let mut rows: Vec<(String, String)> = vec![("target".to_owned(), report.target.clone())];
    for (name, value) in report.settings.iter().filter(|(_, value)| !value.is_null()) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        rows.push(((*name).to_owned(), text));
    }
    let machine = &report.machine;
    rows.extend(machine.cores.map(|cores| ("cores".to_owned(), cores.to_string())));
    rows.extend(
        machine
            .cpu_model
            .clone()
            .map(|model| ("processor".to_owned(), model)),
    );
    rows.extend(machine.kernel.clone().map(|kernel| ("kernel".to_owned(), kernel)));
    for (party, seconds) in [
        ("client", report.cpu_seconds.client),
        ("server", report.cpu_seconds.server),
        ("PostgreSQL", report.cpu_seconds.postgres),
    ] {
        rows.extend(seconds.map(|seconds| (format!("processor time, {party}"), format!("{seconds:.1} s"))));
    }
    for (code, count) in &report.errors {
        rows.push((format!("errors, {code}"), count.to_string()));
    }
    body.push_str("<h2>Settings and circumstances</h2><table>");
    for (name, value) in rows {
        let _ = write!(body, "<tr><th>{}<td>{}", escape(&name), escape(&value));
    }
    body.push_str("</table>");
}

fn over_time(report: &BenchReport) -> String {
    let series = |value: fn(&super::IntervalReport) -> f64| -> Vec<(f64, f64)> {
        let filled = report
            .intervals
            .iter()
            .filter(|interval| interval.throughput > 0.0);
        filled.map(|interval| (interval.at, value(interval))).collect()
    };
    Plot {
        x_end: report.seconds,
        x_marks: time_marks(report.seconds),
        unit: "ms",
        lines: vec![
            ("a", "p50", series(|interval| interval.p50_ms)),
            ("b", "p99", series(|interval| interval.p99_ms)),
        ],
    }
    .svg("Latency over time: p50 and p99 of each interval, in milliseconds")
}

fn rates(report: &BenchReport) -> String {
    let points = report
        .intervals
        .iter()
        .map(|interval| (interval.at, interval.throughput));
    Plot {
        x_end: report.seconds,
        x_marks: time_marks(report.seconds),
        unit: "/s",
        // What was answered after the end isn't a rate.
        lines: vec![(
            "c",
            "messages/s",
            points.filter(|(at, _)| *at < report.seconds).collect(),
        )],
    }
    .svg("Messages a second over time")
}

/// On a scale on which every further nine has the same room.
fn by_percentile(report: &BenchReport) -> String {
    let place = |percentile: f64| -((1.0 - percentile / 100.0).max(1e-6)).log10();
    // No further than there are messages to tell: of a thousand, the last point is 99.9 %.
    #[allow(clippy::cast_precision_loss)]
    let end = (report.messages.max(10) as f64).log10().min(5.0);
    let shown = report
        .percentiles
        .iter()
        .filter(|point| place(point.percentile) <= end + 1e-9);
    let marks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
    Plot {
        x_end: end,
        x_marks: marks
            .into_iter()
            .filter(|&mark| place(mark) <= end + 1e-9)
            .map(|mark| (place(mark), format!("{mark} %")))
            .collect(),
        unit: "ms",
        lines: vec![(
            "a",
            "latency",
            shown.map(|point| (place(point.percentile), point.ms)).collect(),
        )],
    }
    .svg("Latency by percentile, in milliseconds")
}

fn time_marks(seconds: f64) -> Vec<(f64, String)> {
    let step = nice(seconds / 6.0);
    marks(seconds, step)
        .map(|at| (at, format!("{} s", trimmed(at))))
        .collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn marks(end: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..=(end / step + 1e-9) as u32).map(move |mark| f64::from(mark) * step)
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn nice(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|&step| step >= least)
        .unwrap_or(10.0 * power)
}

fn trimmed(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A plot with lines over one axis.
struct Plot {
    x_end: f64,
    x_marks: Vec<(f64, String)>,
    unit: &'static str,
    /// A class, a name, and points.
    lines: Vec<(&'static str, &'static str, Points)>,
}

/// The points of a line.
type Points = Vec<(f64, f64)>;

impl Plot {
    fn svg(&self, label: &str) -> String {
        let highest = self
            .lines
            .iter()
            .flat_map(|(_, _, points)| points)
            .map(|(_, y)| *y);
        let step = nice(highest.fold(0.0, f64::max) / 4.0);
        let top = step * 4.0;
        let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * (value / self.x_end.max(1e-9)).min(1.0);
        let y = |value: f64| TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - value / top);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{}\">",
            escape(label)
        );
        for mark in marks(top, step) {
            let at = y(mark);
            let _ = write!(
                svg,
                "<line class=grid x1={LEFT} x2={} y1={at:.1} y2={at:.1} />\
                 <text x={} y={:.1} text-anchor=end>{} {}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0,
                trimmed(mark),
                self.unit
            );
        }
        for (value, text) in &self.x_marks {
            let (at, bottom) = (x(*value), HEIGHT - BOTTOM + 18.0);
            let _ = write!(
                svg,
                "<text x={at:.1} y={bottom} text-anchor=middle>{}</text>",
                escape(text)
            );
        }
        for (place, (class, name, points)) in self.lines.iter().enumerate() {
            let path: Vec<String> = points
                .iter()
                .map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py)))
                .collect();
            #[allow(clippy::cast_precision_loss)] // a handful
            let legend = LEFT + 90.0 * place as f64;
            let _ = write!(
                svg,
                "<polyline class=\"line {class}\" points=\"{}\" />\
                 <text class={class}-text x={legend} y={}>{}</text>",
                path.join(" "),
                HEIGHT - 4.0,
                escape(name)
            );
        }
        svg.push_str("</svg>");
        svg
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (least, step) in [(0.3, 0.5), (1.0, 1.0), (1.1, 2.0), (7.0, 10.0), (420.0, 500.0)] {
            assert!(
                (nice(least) - step).abs() < step * 1e-9,
                "{least}: {}",
                nice(least)
            );
        }
        assert_eq!(trimmed(0.5), "0.5");
        assert_eq!(trimmed(20.0), "20");
    }

    #[test]
    fn what_is_shown_is_escaped() {
        assert_eq!(escape("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}
