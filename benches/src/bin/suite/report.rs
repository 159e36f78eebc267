//! Turns figures into tables.

use std::{fmt::Write, fs, process::Command};

use crate::plot::Panel;

/// The results of a run of the suite.
pub(crate) struct Results {
    pub(crate) table: String,
    pub(crate) panels: Vec<Panel>,
}

/// The middle of several measurements.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A Markdown table.
pub(crate) struct Table(String);

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Self {
        let rule = vec!["---"; columns.len()].join(" | ");
        Self(format!("| {} |\n| {rule} |\n", columns.join(" | ")))
    }

    pub(crate) fn row(&mut self, cells: &[String]) {
        let _ = writeln!(self.0, "| {} |", cells.join(" | "));
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// The machine and the versions, as a line.
pub(crate) fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let output = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().ok();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    format!(
        "{cores} cores ({}), {}, {}, SQLite {}",
        model.trim_start_matches([' ', '\t', ':']),
        output("uname", "-sr").unwrap_or_default(),
        output("rustc", "--version").unwrap_or_default(),
        rusqlite::version(),
    )
}

/// A rate such as `19 300`.
pub(crate) fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}
