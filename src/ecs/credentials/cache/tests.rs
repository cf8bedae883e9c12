//! The cache under paused time.
