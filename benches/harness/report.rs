//! What a run says: a table of its cases.

use std::fmt::Write;

use super::{Bench, Id, Over};

impl Bench {
    /// These cases, or all where none are named: the median of one call and the middle half of the rounds, the first pass of a turn (caches cold), and
    /// what it adds to its base.
    pub fn table(&self, ids: &[Id]) -> String {
        let mut table = format!(
            "{:<58} {:>9} {:>19} {:>11} {:>10}\n{}\n",
            "one call, nanoseconds",
            "median",
            "middle half",
            "first pass",
            "over base",
            "-".repeat(111)
        );
        for (at, case) in self.cases.iter().enumerate() {
            if !ids.is_empty() && !ids.contains(&Id(at)) {
                continue;
            }
            let [low, high] = [1, 3].map(|quarter| quantile(&case.spent, quarter, 4));
            let first = quantile(&case.first, 1, 2);
            let over = case.base.map_or_else(String::new, |base| format!("{:.1}", self.added(Over { case: Id(at), base })));
            let middle = format!("{low:.1} to {high:.1}");
            let _ = writeln!(table, "{:<58} {:>9.1} {middle:>19} {first:>11.1} {over:>10}", case.name, self.ns(Id(at)));
        }
        table
    }
}

/// The value below which `part` of so many parts lie; NaN of nothing.
pub fn quantile(values: &[f64], part: usize, of: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get((values.len().max(1) - 1) * part / of).copied().unwrap_or(f64::NAN)
}

/// A number with its thousands set apart.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or("")).collect();
    groups.join(",")
}
