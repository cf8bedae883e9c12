//! Progress on a terminal: a bar in the last line, which other lines push down. In a pipe there is none.

use super::Console;

/// A bar of so many cells. In ASCII: it stands in logs and tickets as well.
#[must_use]
pub fn bar(done: u64, total: u64, cells: usize) -> String {
    let share = done.min(total).saturating_mul(cells as u64).checked_div(total).unwrap_or(0);
    let full = usize::try_from(share).unwrap_or(cells);
    format!("[{}{}]", "#".repeat(full), "-".repeat(cells - full))
}

/// The last line of the terminal that remarks go to.
#[derive(Debug, Default)]
pub struct LastLine {
    shown: String,
}

const CLEAR: &str = "\r\x1b[K";

impl LastLine {
    /// Shows this in it; the same again writes nothing.
    pub fn show(&mut self, text: &str, console: &mut Console) {
        let Some(width) = console.err_width else { return };
        // One column less: a full line would wrap on some terminals.
        let text: String = text.chars().take(width.saturating_sub(1)).collect();
        if text == self.shown {
            return;
        }
        write!(console.err, "{CLEAR}{text}").and_then(|()| console.err.flush()).ok();
        self.shown = text;
    }

    /// Takes it away, so that a line can be written.
    pub fn clear(&mut self, console: &mut Console) {
        if !self.shown.is_empty() {
            write!(console.err, "{CLEAR}").and_then(|()| console.err.flush()).ok();
            self.shown.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_at_the_end_and_not_before() {
        assert_eq!(bar(0, 10, 4), "[----]");
        assert_eq!(bar(9, 10, 4), "[###-]");
        assert_eq!(bar(10, 10, 4), "[####]");
        assert_eq!(bar(11, 10, 4), "[####]");
        assert_eq!(bar(0, 0, 4), "[----]");
    }
}
