//! The table that is printed: what is, also where it falls short.

use std::io::Write;

use crate::load::Measured;
use crate::target::Kind;

/// What a scenario is to reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// At most so much.
    Most(f64),
    None,
    /// At most so much of HAProxy's, in the same run.
    Ratio(f64),
}

/// One scenario: what each target did, round by round.
pub(crate) struct Row {
    name: &'static str,
    unit: &'static str,
    goal: Goal,
    cells: Vec<(Kind, Result<Measured, String>)>,
}

#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Row {
    pub(crate) fn new(name: &'static str, unit: &'static str, goal: Goal) -> Self {
        Self { name, unit, goal, cells: Vec::new() }
    }

    pub(crate) fn add(&mut self, kind: Kind, measured: Result<Measured, String>) {
        self.cells.push((kind, measured));
    }

    /// The median of the rounds.
    fn median(&self, kind: Kind) -> Option<&Measured> {
        let mut measured: Vec<&Measured> = self.cells.iter().filter(|(of, _)| *of == kind).filter_map(|(_, cell)| cell.as_ref().ok()).collect();
        measured.sort_by(|a, b| a.value.total_cmp(&b.value));
        measured.get(measured.len() / 2).copied()
    }

    fn cell(&self, kind: Kind) -> String {
        match self.median(kind) {
            Some(Measured { value, beside }) if *value < 10.0 => format!("{value:.3} ({beside})"),
            Some(Measured { value, beside }) => format!("{value:.1} ({beside})"),
            None => {
                self.cells.iter().filter(|(of, _)| *of == kind).find_map(|(_, cell)| cell.as_ref().err().cloned()).unwrap_or_else(|| "-".to_owned())
            }
        }
    }

    fn ratio(&self) -> Option<f64> {
        Some(self.median(Kind::Seawall)?.value / self.median(Kind::Haproxy)?.value)
    }

    fn verdict(&self) -> (String, &'static str) {
        let met = |met: Option<bool>| match met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "-",
        };
        match self.goal {
            Goal::None => ("-".to_owned(), "-"),
            Goal::Most(most) => (format!("<= {most}"), met(self.median(Kind::Seawall).map(|measured| measured.value <= most))),
            Goal::Ratio(most) => (format!("ratio <= {most}"), met(self.ratio().map(|ratio| ratio <= most))),
        }
    }
}

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    pub(crate) fn print(&self, out: &mut impl Write) -> anyhow::Result<()> {
        writeln!(out, "| scenario | unit | direct | haproxy | seawall | seawall/haproxy | goal | |")?;
        writeln!(out, "|---|---|--:|--:|--:|--:|---|---|")?;
        for row in &self.0 {
            let ratio = row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let (goal, met) = row.verdict();
            let [direct, haproxy, seawall] = [Kind::Direct, Kind::Haproxy, Kind::Seawall].map(|kind| row.cell(kind));
            writeln!(out, "| {} | {} | {direct} | {haproxy} | {seawall} | {ratio} | {goal} | {met} |", row.name, row.unit)?;
        }
        writeln!(
            out,
            "\nCPU is that of the target's process (utime + stime). HAProxy: tests/benches/haproxy.cfg. Seawall: policy `ci`, audit to a file in memory."
        )?;
        Ok(())
    }
}
