//! The `integration` test target: every profile and scenario on disk as a libtest trial.

fn main() -> std::process::ExitCode {
    boma_it::harness::main()
}
