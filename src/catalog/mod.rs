//! Floor 2: the YAML files → [`Plan`]. Strict, pure, and no I/O beyond reading the files.

pub mod plan;
pub mod quantity;

pub use plan::Plan;
