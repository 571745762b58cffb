//! The driver `boma-it`. Everything it does lives in [`boma_it::cli`].

fn main() -> std::process::ExitCode {
    boma_it::cli::main()
}
