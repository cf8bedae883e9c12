//! A role on top of another source.
