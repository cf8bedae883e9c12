//! What a command writes to and reads from. A value like any other, so that every command can be tried without a process.

use std::{
    env,
    ffi::OsString,
    io::{self, BufRead, IsTerminal, Write},
    path::PathBuf,
    sync::Arc,
};

use jiff::Timestamp;

use super::Error;

/// Looks a variable of the environment up.
pub type Lookup = Arc<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// Width of a terminal that does not tell its own.
const USUAL_WIDTH: usize = 80;

/// The surroundings of a command: streams, terminal, environment and clock.
pub struct Console {
    /// Where answers go.
    pub out: Box<dyn Write + Send>,
    /// Where remarks, progress and errors go.
    pub err: Box<dyn Write + Send>,
    /// Where a person answers questions.
    pub input: Box<dyn BufRead + Send>,
    /// Columns of the terminal that `out` is; `None`: it is none.
    pub width: Option<usize>,
    /// Columns of the terminal that `err` is; `None`: it is none.
    pub err_width: Option<usize>,
    /// Whether `input` is a terminal.
    pub asks: bool,
    /// All that is read of the environment.
    pub lookup: Lookup,
    /// The clock.
    pub now: fn() -> Timestamp,
}

impl Console {
    /// That of this process. `lookup` is all that is read of the environment.
    #[must_use]
    pub fn from_process(lookup: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        let width = |is: bool, of: Option<(terminal_size::Width, terminal_size::Height)>| {
            is.then(|| of.map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0)).max(1))
        };
        Self {
            width: width(io::stdout().is_terminal(), terminal_size::terminal_size_of(io::stdout())),
            err_width: width(io::stderr().is_terminal(), terminal_size::terminal_size_of(io::stderr())),
            asks: io::stdin().is_terminal(),
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            input: Box::new(io::BufReader::new(io::stdin())),
            lookup: Arc::new(lookup),
            now: Timestamp::now,
        }
    }

    /// Whether `out` may be coloured: on a terminal that can, unless `NO_COLOR` asks for none.
    #[must_use]
    pub fn colored(&self) -> bool {
        let set = |name: &str| (self.lookup)(name).filter(|value| !value.is_empty());
        self.width.is_some() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
    }

    /// Writes an answer, as it is.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn say(&mut self, text: &str) -> Result<(), Error> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(Error::Output)
    }

    /// Writes a line of remarks. That nobody can be told of it is no reason to stop.
    pub fn warn(&mut self, line: &str) {
        writeln!(self.err, "{line}").and_then(|()| self.err.flush()).ok();
    }

    /// Where the first of these programs is found on `PATH`.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let path = (self.lookup)("PATH")?;
        env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
    }
}
