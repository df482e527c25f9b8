//! The figures of all runs, and their medians.

use crate::figure::{Figure, number};
use crate::system::SystemKind;
use crate::workload::Workload;

/// Values in the order of the runs.
pub(crate) struct Row {
    pub(crate) workload: &'static Workload,
    pub(crate) figure: Figure,
    pub(crate) klamm: Vec<f64>,
    pub(crate) kafka: Vec<f64>,
}

#[derive(Default)]
pub(crate) struct Samples {
    pub(crate) rows: Vec<Row>,
}

impl Row {
    pub(crate) fn target(&self) -> Option<f64> {
        let figures = self.workload.figures.iter();
        let mut of_figure = figures.filter(|(figure, _)| *figure == self.figure);
        of_figure.next()?.1
    }

    /// The median of the ratios of each pair of runs.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let pairs = self.klamm.iter().zip(&self.kafka);
        median(
            &pairs
                .map(|(ours, theirs)| ours / theirs)
                .collect::<Vec<_>>(),
        )
    }
}

impl Samples {
    pub(crate) fn add(
        &mut self,
        workload: &'static Workload,
        figure: Figure,
        kind: SystemKind,
        value: f64,
    ) {
        let known = |row: &Row| row.workload.name == workload.name && row.figure == figure;
        let at = self.rows.iter().position(known).unwrap_or_else(|| {
            self.rows.push(Row {
                workload,
                figure,
                klamm: Vec::new(),
                kafka: Vec::new(),
            });
            self.rows.len() - 1
        });
        match kind {
            SystemKind::Klamm => self.rows[at].klamm.push(value),
            SystemKind::Kafka => self.rows[at].kafka.push(value),
        }
    }

    /// The report, as Markdown.
    pub(crate) fn table(&self) -> String {
        let mut lines = vec![
            "| workload | figure | Klamm | Kafka | ratio | target |".to_owned(),
            "| --- | --- | ---: | ---: | ---: | --- |".to_owned(),
        ];
        for row in &self.rows {
            let shown = |values: &[f64]| median(values).map_or_else(String::new, number);
            let ratio = row.ratio();
            let target = row.target().map(|target| {
                let sign = if row.figure.more_is_better() {
                    '≥'
                } else {
                    '≤'
                };
                let met = ratio.map_or("", |ratio| {
                    let meets = row.figure.meets(ratio, target);
                    if meets { ", met" } else { ", missed" }
                });
                format!("{sign} {target}{met}")
            });
            lines.push(format!(
                "| {} | {} | {} | {} | {} | {} |",
                row.workload.name,
                row.figure.name(),
                shown(&row.klamm),
                shown(&row.kafka),
                ratio.map_or_else(String::new, number),
                target.unwrap_or_default(),
            ));
        }
        lines.join("\n")
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    Some(if sorted.len().is_multiple_of(2) {
        (sorted[middle - 1] + upper) / 2.0
    } else {
        *upper
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WORKLOADS;

    #[test]
    fn medians_and_ratios_are_of_pairs() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let row = Row {
            workload: &WORKLOADS[0],
            figure: Figure::StartSeconds,
            klamm: vec![1.0, 10.0, 3.0],
            kafka: vec![10.0, 20.0, 10.0],
        };
        assert_eq!(row.ratio(), Some(0.3));
    }
}
