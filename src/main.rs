//! The driver `boma-it`. It stands alone because cargo wants a file for the binary; everything is in [`boma_it::cli`].

fn main() -> std::process::ExitCode {
    boma_it::cli::main()
}
