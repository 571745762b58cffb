//! Floor 4, the only orchestrator: stages in order, the cleanup stack, judging expected against seen.

pub mod cleanup;
pub mod judge;
