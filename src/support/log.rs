//! The debug log: nothing unless `BOMA_IT_LOG` asks for it, warnings and errors aside; on standard error, so that
//! standard output stays for results.

use tracing_subscriber::EnvFilter;

use super::env;

/// Starts the log; a second call does nothing. An unreadable filter is told and replaced by the default.
pub fn init() {
    let wanted = env::LOG.get().unwrap_or_else(|| "warn".to_owned());
    let (filter, trouble) = match wanted.parse::<EnvFilter>() {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("warn"), Some(error)),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time();
    let _ = log.try_init();
    if let Some(error) = trouble {
        tracing::warn!("cannot read {}: {error}", env::LOG.name);
    }
}
