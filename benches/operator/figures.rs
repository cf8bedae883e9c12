//! The figures of a run, and their table.

/// The figures of one run. Times in seconds, but latencies in milliseconds; memory in MiB.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub rate: f64,
    pub created_rate: f64,
    pub cpu: f64,
    pub cpu_of_servers: f64,
    pub peak: f64,
    pub settled: f64,
    pub cold_requests: f64,
    pub cold_events: f64,
    pub cold_calls: f64,
    pub restart: f64,
    pub restart_cpu: f64,
    pub restart_peak: f64,
    pub restart_settled: f64,
    pub restart_requests: f64,
    pub restart_writes: f64,
    pub restart_calls: f64,
    pub restart_afterwards: f64,
    pub at_rest: f64,
    pub scrape: f64,
    pub scrape_size: f64,
    pub p50: f64,
    pub p99: f64,
    pub p50_from_start: f64,
    pub p99_from_start: f64,
    pub requests: f64,
    pub calls: f64,
    pub others: f64,
}

/// The row that shows whether other processes disturbed the run.
const OTHERS: &str = "taken by other processes in the cold start, %";

/// Label, value, decimals.
type Row = (&'static str, fn(&Figures) -> f64, usize);

const ROWS: [Row; 27] = [
    ("cold start, objects/s", |f| f.rate, 0),
    ("cold start, CPU s", |f| f.cpu, 2),
    ("cold start, CPU s of API server and etcd", |f| f.cpu_of_servers, 2),
    ("cold start, peak memory, MiB", |f| f.peak, 1),
    ("5 s later, MiB", |f| f.settled, 1),
    ("cold start, API requests an object", |f| f.cold_requests, 2),
    ("of these Events", |f| f.cold_events, 2),
    ("cold start, cloud calls an object", |f| f.cold_calls, 2),
    ("restart, s", |f| f.restart, 2),
    ("restart, CPU s", |f| f.restart_cpu, 2),
    ("restart, peak memory, MiB", |f| f.restart_peak, 1),
    ("2 s later, MiB", |f| f.restart_settled, 1),
    ("restart, API requests", |f| f.restart_requests, 0),
    ("restart, status writes", |f| f.restart_writes, 0),
    ("restart, cloud calls", |f| f.restart_calls, 0),
    ("API requests in the 2 s after", |f| f.restart_afterwards, 0),
    ("at rest, thousandths of a core", |f| f.at_rest, 1),
    ("scrape, p50 ms", |f| f.scrape, 1),
    ("scrape, KiB", |f| f.scrape_size, 0),
    ("Secret written to call, p50 ms", |f| f.p50, 2),
    ("Secret written to call, p99 ms", |f| f.p99, 2),
    ("write begun to call, p50 ms", |f| f.p50_from_start, 2),
    ("write begun to call, p99 ms", |f| f.p99_from_start, 2),
    ("API requests a rotation", |f| f.requests, 2),
    ("cloud calls a rotation", |f| f.calls, 2),
    ("created at once, objects/s", |f| f.created_rate, 0),
    (OTHERS, |f| f.others, 0),
];

/// The table in Markdown: one column for each operator, and the ratio of two.
pub fn table(objects: usize, names: &[&str], found: &[Vec<Figures>], ceiling: Option<f64>) -> String {
    let versus = names.len() == 2;
    let mut rows = vec![[format!("{} objects", thousands(objects))].to_vec()];
    rows[0].extend(names.iter().map(ToString::to_string));
    if versus {
        rows[0].push("ratio".to_owned());
    }
    for (label, value, decimals) in ROWS {
        let values: Vec<f64> = found.iter().map(|runs| median(runs.iter().map(value))).collect();
        let mut row = vec![label.to_owned()];
        row.extend(values.iter().map(|value| format!("{value:.decimals$}")));
        if let [ours, theirs] = values[..] {
            let ratio = theirs > 0.0 && label != OTHERS;
            row.push(if ratio { format!("{:.2}", ours / theirs) } else { String::new() });
        }
        rows.push(row);
    }
    if let Some(rate) = ceiling {
        let mut row = vec!["bare client, objects/s".to_owned(), format!("{rate:.0}")];
        row.resize(rows[0].len(), String::new());
        rows.push(row);
    }
    render(&rows)
}

fn render(rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("| {cell:<width$} ") } else { format!("| {cell:>width$} ") }
        });
        text.extend(cells.chain(["|\n".to_owned()]));
        if index == 0 {
            let rules = widths.iter().enumerate().map(|(column, width)| {
                let dashes = "-".repeat(width + 1);
                if column == 0 { format!("|{dashes}-") } else { format!("|{dashes}:") }
            });
            text.extend(rules.chain(["|\n".to_owned()]));
        }
    }
    text
}

/// The median; for an even number of values, the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Bytes as MiB.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// `12345` as `12,345`.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
