//! The debug log on standard error: our own warnings and errors, and more if `BOMA_IT_LOG` asks for it. The errors of
//! libraries are in our own errors already. Secrets are redacted. It stands alone because `tracing` is set up once for
//! the whole process.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use super::env;
use super::secret::Redactor;

const DEFAULT: &str = "boma_it=warn";

/// Starts the log; a second call does nothing. An invalid filter is reported and replaced by the default.
pub(crate) fn init() {
    let wanted = env::LOG.get().unwrap_or_else(|| DEFAULT.to_owned());
    let (filter, invalid) = match wanted.parse::<EnvFilter>() {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT), Some(error)),
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Lines)
        .with_ansi(io::stderr().is_terminal())
        .without_time();
    let _ = log.try_init();
    if let Some(error) = invalid {
        tracing::warn!("cannot read {}: {error}", env::LOG.name);
    }
}

/// Standard error, to which the log writes whole lines.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(&Redactor::of_process().redact_bytes(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
