//! STS against a server of raw bytes.
