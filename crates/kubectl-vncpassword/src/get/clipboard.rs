//! The clipboard's tool: chosen by what is there, and fed by its standard input, where no list of processes shows it.

use std::{ffi::OsString, path::PathBuf, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// A tool that does not end by then hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// A program that puts its standard input on the clipboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// What people call it.
    pub name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
}

/// Those that are known: name, arguments, and the variable that says that its screen is there.
const TOOLS: [(&str, &[&str], Option<&str>); 5] = [
    ("wl-copy", &[], Some("WAYLAND_DISPLAY")),
    ("xclip", &["-selection", "clipboard"], Some("DISPLAY")),
    ("xsel", &["--clipboard", "--input"], Some("DISPLAY")),
    ("clip.exe", &[], Some("WSL_DISTRO_NAME")),
    // Of macOS, where there always is a screen.
    ("pbcopy", &[], None),
];

/// The first that is there.
pub fn tool(
    lookup: impl Fn(&str) -> Option<OsString>,
    find: impl Fn(&str) -> Option<PathBuf>,
) -> Option<Tool> {
    let there = |variable: &str| lookup(variable).is_some_and(|value| !value.is_empty());
    TOOLS
        .into_iter()
        .filter(|(_, _, variable)| variable.is_none_or(there))
        .find_map(|(name, arguments, _)| Some(Tool { name, program: find(name)?, arguments }))
}

impl Tool {
    /// Copies it.
    ///
    /// # Errors
    /// Why not, without the text.
    pub async fn copy(&self, text: &str) -> Result<(), String> {
        let mut child = Command::new(&self.program)
            .args(self.arguments)
            .stdin(Stdio::piped())
            // Some stay to serve the clipboard: they must not keep our pipes open.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let fed = async {
            if let Some(mut input) = child.stdin.take() {
                input.write_all(text.as_bytes()).await?;
                input.shutdown().await?;
            }
            child.wait().await
        };
        match timeout(PATIENCE, fed).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(status.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it does not end".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[&str], programs: &[&str]) -> Option<&'static str> {
        let lookup = |name: &str| variables.contains(&name).then(|| OsString::from("x"));
        let find = |name: &str| programs.contains(&name).then(|| PathBuf::from(name));
        tool(lookup, find).map(|tool| tool.name)
    }

    #[test]
    fn a_tool_is_taken_where_its_screen_is_there() {
        let all = ["wl-copy", "xclip", "xsel", "clip.exe"];
        assert_eq!(chosen(&["WAYLAND_DISPLAY", "DISPLAY"], &all), Some("wl-copy"));
        assert_eq!(chosen(&["DISPLAY"], &all), Some("xclip"));
        assert_eq!(chosen(&["DISPLAY"], &["xsel"]), Some("xsel"));
        assert_eq!(chosen(&["WSL_DISTRO_NAME"], &all), Some("clip.exe"));
        assert_eq!(chosen(&[], &["pbcopy"]), Some("pbcopy"));
        assert_eq!(chosen(&[], &all), None, "nobody would see it");
        assert_eq!(chosen(&["DISPLAY"], &[]), None);
    }
}
