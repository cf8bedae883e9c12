//! Reads small text files. Errors do not contain the content.

use std::{
    fs,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::FailureKind;

/// The maximum length of a file, in bytes.
pub(super) const MAX_FILE_LENGTH: usize = 256 << 10;

/// Why a file cannot be read. The subject of the sentence is the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FileError {
    #[error("does not exist")]
    Missing,
    #[error("may not be read: permission denied")]
    Denied,
    #[error("is no file")]
    NoFile,
    #[error("is longer than 256 KiB")]
    TooLong,
    #[error("is not valid UTF-8")]
    NotUtf8,
    #[error("cannot be read")]
    Unreadable,
}

impl FileError {
    pub(super) fn failure_kind(self) -> FailureKind {
        match self {
            Self::Missing | Self::Denied | Self::NoFile | Self::TooLong | Self::NotUtf8 => {
                FailureKind::Refused
            }
            // A fault of the disk or the system.
            Self::Unreadable => FailureKind::Unanswered,
        }
    }
}

/// Reads a whole text file on a blocking thread.
pub(super) async fn read(path: PathBuf) -> Result<Zeroizing<String>, FileError> {
    let reading = tokio::task::spawn_blocking(move || read_blocking(&path));
    reading.await.unwrap_or(Err(FileError::Unreadable))
}

fn read_blocking(path: &Path) -> Result<Zeroizing<String>, FileError> {
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(|error| file_error(error.kind()))?.is_file() {
        return Err(FileError::NoFile);
    }
    let file = fs::File::open(path).map_err(|error| file_error(error.kind()))?;
    let mut text = Zeroizing::new(Vec::with_capacity(4 << 10));
    let limit = MAX_FILE_LENGTH as u64 + 1;
    file.take(limit).read_to_end(&mut text).map_err(|error| file_error(error.kind()))?;
    if text.len() > MAX_FILE_LENGTH {
        return Err(FileError::TooLong);
    }
    match std::str::from_utf8(&text) {
        Ok(text) => Ok(Zeroizing::new(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())),
        Err(_) => Err(FileError::NotUtf8),
    }
}

fn file_error(kind: ErrorKind) -> FileError {
    match kind {
        ErrorKind::NotFound | ErrorKind::NotADirectory => FileError::Missing,
        ErrorKind::PermissionDenied => FileError::Denied,
        _ => FileError::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unreadable_file_is_an_error_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let table: [(&str, &[u8], Result<&str, FileError>); 5] = [
            ("text", b"a\n", Ok("a\n")),
            ("mark", b"\xef\xbb\xbfa", Ok("a")),
            ("empty", b"", Ok("")),
            ("binary", b"\xff", Err(FileError::NotUtf8)),
            ("long", &vec![b'x'; MAX_FILE_LENGTH + 1], Err(FileError::TooLong)),
        ];
        for (name, content, expected) in table {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            assert_eq!(
                read(path).await.as_ref().map(|text| text.as_str()),
                expected.as_ref().copied(),
                "{name}"
            );
        }
        assert_eq!(read(directory.path().join("text/below")).await, Err(FileError::Missing));
        assert_eq!(read(directory.path().join("none")).await, Err(FileError::Missing));
        assert_eq!(read(directory.path().to_owned()).await, Err(FileError::NoFile));
    }
}
