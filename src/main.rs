//! The `nereus` program.

fn main() {}
