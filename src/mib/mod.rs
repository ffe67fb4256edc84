//! mib.
