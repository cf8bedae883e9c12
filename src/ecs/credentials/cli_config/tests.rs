//! Profiles of the command line.
