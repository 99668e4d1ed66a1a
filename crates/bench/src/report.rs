//! What a run found, as Markdown tables.

use std::fmt::Write as _;

/// Title of what was measured by hand.
const BY_HAND: &str = "## Measured by hand";

/// One table with what it is about.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    title: String,
    about: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Section {
    /// An empty table.
    pub(crate) fn new(title: impl Into<String>, about: impl Into<String>, head: &[&str]) -> Self {
        Self {
            title: title.into(),
            about: about.into(),
            head: head.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// As Markdown, with when it was measured.
    pub(crate) fn markdown(&self, when: &str) -> String {
        let mut text = format!("## {}\n\n{}\n\n", self.title, self.about.trim());
        let mut line = |cells: &[String]| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        line(&self.head);
        line(&vec!["---".to_owned(); self.head.len()]);
        for row in &self.rows {
            line(row);
        }
        text.push_str(&format!("\nMeasured {when}\n"));
        text
    }
}

/// A report: tables measured now take the places of those of the same title, or come after all tables; what else is there stays,
/// that which was measured by hand at the end.
pub(crate) fn merge(preface: &str, before: &str, sections: &[String]) -> String {
    let title = |section: &str| section.lines().next().unwrap_or_default().to_owned();
    let mut all: Vec<String> = before
        .split("\n## ")
        .skip(1)
        .map(|section| format!("## {}\n", section.trim_end()))
        .collect();
    for section in sections {
        let old = all.iter().position(|one| title(one) == title(section));
        let by_hand = all.iter().position(|one| title(one) == BY_HAND);
        match old {
            Some(place) => all[place].clone_from(section),
            None => all.insert(by_hand.unwrap_or(all.len()), section.clone()),
        }
    }
    let mut text = preface.to_owned();
    for section in all {
        text.push_str(&format!("\n{section}"));
    }
    text
}

/// A figure with as many digits as it is worth.
pub(crate) fn figure(value: f64) -> String {
    if value >= 100.0 {
        thousands(value)
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One figure over another.
pub(crate) fn ratio(value: f64, limit: f64) -> String {
    if limit > 0.0 {
        format!("{:.2}", value / limit)
    } else {
        "-".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_its_like_and_the_rest_stays() {
        let before = "# Old\n\n## One\n\n1\n\n## Two\n\n2\n\n## Measured by hand\n\nOnce.\n";
        let sections = ["## Two\n\n22\n".to_owned(), "## Three\n\n3\n".to_owned()];
        assert_eq!(
            merge("# New\n", before, &sections),
            "# New\n\n## One\n\n1\n\n## Two\n\n22\n\n## Three\n\n3\n\n## Measured by hand\n\nOnce.\n"
        );
        assert_eq!(
            merge("# New\n", "", &sections[..1]),
            "# New\n\n## Two\n\n22\n"
        );
    }

    #[test]
    fn tables_and_figures_read_well() {
        let mut section = Section::new("Speed", "Of what.", &["what", "figure"]);
        section.row(vec!["one".into(), figure(1_234_567.8)]);
        assert_eq!(
            section.markdown("today"),
            "## Speed\n\nOf what.\n\n| what | figure |\n| --- | --- |\n| one | 1,234,568 |\n\nMeasured today\n"
        );
        assert_eq!(figure(0.125), "0.12");
        assert_eq!(figure(12.34), "12.3");
        assert_eq!(figure(123.0), "123");
        assert_eq!(ratio(1.0, 4.0), "0.25");
        assert_eq!(ratio(1.0, 0.0), "-");
    }
}
