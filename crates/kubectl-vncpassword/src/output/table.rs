//! A table: aligned; on a terminal cut to its width, in a pipe whole, so that a program gets everything.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::Console;

const GAP: &str = "   ";
/// A column that is cut to less than this says nothing any more, so columns are dropped before.
const LEAST: usize = 16;

/// Where the text of a column stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Align {
    /// To the left.
    #[default]
    Left,
    /// To the right, for numbers.
    Right,
}

/// A column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    title: &'static str,
    align: Align,
    /// The higher, the sooner it is left out where there is no room; 0: never.
    expendable: u8,
}

impl Column {
    /// One that is always there.
    #[must_use]
    pub fn new(title: &'static str) -> Self {
        Self { title, ..Self::default() }
    }

    /// One that is left out where there is no room; the highest number first.
    #[must_use]
    pub fn expendable(title: &'static str, order: u8) -> Self {
        Self { title, expendable: order, ..Self::default() }
    }

    /// The same, with its text to the right.
    #[must_use]
    pub fn right(self) -> Self {
        Self { align: Align::Right, ..self }
    }
}

/// What a row's colour says; the row's words say it as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    /// All is well.
    #[default]
    Well,
    /// Something is to be waited for, or not known.
    Odd,
    /// A person is needed.
    Bad,
}

impl Mark {
    /// What a terminal takes for its colour.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Well => None,
            Self::Odd => Some("\x1b[33m"),
            Self::Bad => Some("\x1b[31m"),
        }
    }
}

const PLAIN: &str = "\x1b[0m";

/// Rows under a head. The last column is the one that is cut first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    marks: Vec<Mark>,
}

impl Table {
    /// One without rows.
    #[must_use]
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, ..Self::default() }
    }

    /// Adds a row, a cell for each column. Line breaks become spaces: a row is a line.
    pub fn row(&mut self, cells: Vec<String>) {
        self.marked(cells, Mark::Well);
    }

    /// The same, in the colour of that mark where colours are shown.
    pub fn marked(&mut self, cells: Vec<String>, mark: Mark) {
        self.marks.push(mark);
        let flat = |cell: String| {
            if !cell.contains(char::is_control) {
                return cell;
            }
            cell.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
        };
        self.rows.push(cells.into_iter().map(flat).collect());
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, for a terminal of so many columns; `None`: no terminal, nothing is left out.
    #[must_use]
    pub fn text(&self, width: Option<usize>) -> String {
        self.painted(width, false)
    }

    /// The text for where the answers of a console go.
    #[must_use]
    pub fn text_for(&self, console: &Console) -> String {
        self.painted(console.width, console.colored())
    }

    /// The text of a table that goes on, with what is needed to go on.
    #[must_use]
    pub fn begun(&self, width: Option<usize>) -> (String, Layout) {
        let layout = Layout::lasting(self, width);
        (self.laid_out(&layout, false), layout)
    }

    /// More rows of it: the columns stay, and become wider where a cell needs it.
    #[must_use]
    pub fn continued(&self, layout: &mut Layout, width: Option<usize>) -> String {
        layout.widen(self, width);
        self.rows.iter().map(|row| layout.line(self, row.iter().map(String::as_str))).collect()
    }

    fn painted(&self, width: Option<usize>, colored: bool) -> String {
        self.laid_out(&Layout::of(self, width), colored)
    }

    fn laid_out(&self, layout: &Layout, colored: bool) -> String {
        let head = self.columns.iter().map(|column| column.title);
        let mut text = layout.line(self, head);
        for (row, mark) in self.rows.iter().zip(&self.marks) {
            let line = layout.line(self, row.iter().map(String::as_str));
            match mark.code().filter(|_| colored) {
                Some(code) => text.extend([code, line.trim_end(), PLAIN, "\n"]),
                None => text += &line,
            }
        }
        text
    }
}

/// Which columns are shown, and how wide they are.
#[derive(Clone, Debug)]
pub struct Layout {
    /// By column; `None`: left out.
    widths: Vec<Option<usize>>,
}

impl Layout {
    fn of(table: &Table, limit: Option<usize>) -> Self {
        let widest = |at: usize| {
            let cells = table.rows.iter().map(|row| row.get(at).map_or(0, |cell| cell.width()));
            cells.max().unwrap_or(0).max(table.columns[at].title.width())
        };
        let mut layout = Self { widths: (0..table.columns.len()).map(|at| Some(widest(at))).collect() };
        if let Some(limit) = limit {
            layout.fit(table, limit);
        }
        layout
    }

    /// With room in the last column for what comes later.
    fn lasting(table: &Table, limit: Option<usize>) -> Self {
        let mut layout = Self::of(table, None);
        if let Some(limit) = limit {
            if let Some(last) = layout.widths.last_mut() {
                *last = (*last).max(Some(LEAST));
            }
            layout.fit(table, limit);
        }
        layout
    }

    fn widen(&mut self, table: &Table, limit: Option<usize>) {
        for (width, needed) in self.widths.iter_mut().zip(Self::of(table, None).widths) {
            *width = width.map(|width| width.max(needed.unwrap_or(0)));
        }
        let over = limit.map_or(0, |limit| self.total().saturating_sub(limit));
        if let Some(last) = self.last() {
            self.widths[last] =
                self.widths[last].map(|width| width.saturating_sub(over).max(LEAST.min(width)));
        }
    }

    fn total(&self) -> usize {
        let shown = || self.widths.iter().flatten();
        shown().sum::<usize>() + GAP.len() * shown().count().saturating_sub(1)
    }

    /// The last column that is shown; it is the one that is cut.
    fn last(&self) -> Option<usize> {
        self.widths.iter().rposition(Option::is_some)
    }

    fn fit(&mut self, table: &Table, limit: usize) {
        while self.total() > limit {
            let over = self.total() - limit;
            let Some(last) = self.last() else { return };
            let width = self.widths[last].unwrap_or(0);
            if width.saturating_sub(over) >= LEAST {
                self.widths[last] = Some(width - over);
                return;
            }
            let shown = |at: &usize| self.widths[*at].is_some() && table.columns[*at].expendable > 0;
            let dropped =
                (0..table.columns.len()).filter(shown).max_by_key(|at| table.columns[*at].expendable);
            let Some(dropped) = dropped else {
                self.widths[last] = Some(width.saturating_sub(over).max(LEAST.min(width)));
                return;
            };
            self.widths[dropped] = None;
        }
    }

    fn line<'a>(&self, table: &Table, cells: impl Iterator<Item = &'a str>) -> String {
        let mut line = String::new();
        for ((column, width), cell) in table.columns.iter().zip(&self.widths).zip(cells) {
            let Some(width) = *width else { continue };
            if !line.is_empty() {
                line += GAP;
            }
            let cell = cut(cell, width);
            let room = " ".repeat(width.saturating_sub(cell.width()));
            line += &match column.align {
                Align::Left => cell + &room,
                Align::Right => room + &cell,
            };
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    }
}

/// The beginning of the text that fits, with a mark where something is missing.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let fits = |character: &char| {
        let needed = character.width().unwrap_or(0);
        let fits = needed <= room;
        room = room.saturating_sub(needed);
        fits
    };
    text.chars().take_while(fits).collect::<String>() + "…"
}

#[cfg(test)]
mod tests;
