//! Plain aligned tables for people.

/// Rows under a header. Each column is as wide as its widest cell; the last column is never padded.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

const GAP: &str = "  ";

impl Table {
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a row with one cell per column of the header; an empty cell prints as `-`.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.header.len(), "a cell per column");
        self.rows.push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// Renders the table with a line break after each line. With `colour`, the header is dimmed.
    pub fn render(&self, colour: bool) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([self.header[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let header = line(self.header.iter().copied(), &widths);
        let mut text = if colour { format!("\x1b[2m{header}\x1b[0m\n") } else { format!("{header}\n") };
        for row in &self.rows {
            text.push_str(&line(row.iter().map(String::as_str), &widths));
            text.push('\n');
        }
        text
    }
}

fn line<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let padded: Vec<String> = cells.zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    padded.join(GAP).trim_end().to_owned()
}

/// Replaces control characters, because event types and ids come from strangers and could contain escape sequences. An
/// empty text becomes `-`.
pub fn printable(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Returns the value as text, or `-` for `None`.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let mut table = Table::new(&["HANDLER", "STATE"]);
        table.row(["log_note".to_owned(), "done".to_owned()]);
        table.row(["record_opt_out".to_owned(), String::new()]);

        assert_eq!(table.render(false), "HANDLER         STATE\nlog_note        done\nrecord_opt_out  -\n");
    }

    #[test]
    fn a_strangers_escape_sequence_does_not_reach_the_terminal() {
        let mut table = Table::new(&["TYPE"]);
        table.row(["a\x1b[2Jb\nc".to_owned()]);

        assert_eq!(table.render(false), "TYPE\na\u{fffd}[2Jb\u{fffd}c\n");
    }
}
