//! Sections of the credentials file.
