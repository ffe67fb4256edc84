//! correlator.
