//! The table at the end: each figure, what it is compared with, its target, and whether it was met.

use std::fmt::Write as _;

use crate::measure::Rounds;

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Shown for comparison only.
    None,
}

/// One line of the table.
struct Row {
    name: String,
    value: Option<f64>,
    spread: Option<(f64, f64)>,
    unit: &'static str,
    target: Target,
}

impl Row {
    fn met(&self) -> Option<bool> {
        match (self.target, self.value) {
            (Target::AtLeast(least), Some(value)) => Some(value >= least),
            (Target::AtMost(most), Some(value)) => Some(value <= most),
            _ => None,
        }
    }
}

/// The lines so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// A figure of several rounds: median and spread.
    pub(crate) fn rounds(&mut self, name: &str, rounds: &Rounds, unit: &'static str, target: Target) {
        let (value, spread) = (rounds.median(), rounds.spread());
        self.rows.push(Row { name: name.to_owned(), value, spread, unit, target });
    }

    /// A figure that was taken once; `None` when it could not be.
    pub(crate) fn once(&mut self, name: &str, value: Option<f64>, unit: &'static str, target: Target) {
        self.rows.push(Row { name: name.to_owned(), value, spread: None, unit, target });
    }

    /// How many targets were missed.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.met() == Some(false)).count()
    }

    /// The table as text.
    pub(crate) fn text(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let mut text = format!("{:width$}  {:>16}  {:>21}  {:>14}\n", "", "median", "lowest to highest", "target");
        for row in &self.rows {
            let value = row.value.map_or("not measured".to_owned(), |value| format!("{} {}", number(value), row.unit));
            let spread = row.spread.map_or(String::new(), |(low, high)| format!("{} to {}", number(low), number(high)));
            let target = match row.target {
                Target::AtLeast(least) => format!(">= {}", number(least)),
                Target::AtMost(most) => format!("<= {}", number(most)),
                Target::None => String::new(),
            };
            let met = match row.met() {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "",
            };
            let line = format!("{:width$}  {value:>16}  {spread:>21}  {target:>14}  {met}", row.name);
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

/// Three digits that matter, and thousands apart.
fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_digits_that_matter() {
        assert_eq!(number(1_234_567.8), "1,234,568");
        assert_eq!(number(47.25), "47.2");
        assert_eq!(number(0.354), "0.35");
    }

    #[test]
    fn a_figure_beyond_its_target_is_missed() {
        let mut report = Report::default();
        report.once("slow", Some(2.0), "x", Target::AtLeast(3.0));
        report.once("small", Some(2.0), "MB", Target::AtMost(3.0));
        report.once("absent", None, "MB", Target::AtMost(3.0));
        assert_eq!(report.missed(), 1);
        assert!(report.text().contains("MISSED"));
        assert!(report.text().contains("not measured"));
    }
}
