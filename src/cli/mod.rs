//! Floor 6, the driver `boma-it`: one file per sub-command.

/// Runs the driver.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
