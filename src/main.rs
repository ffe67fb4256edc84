//! The `nereus` program: all of it is in the library, `nereus::cli`.

fn main() -> std::process::ExitCode {
    nereus::cli::main()
}
