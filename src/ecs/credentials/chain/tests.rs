//! The order of the providers, and that nobody silently becomes another.
