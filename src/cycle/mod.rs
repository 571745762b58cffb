//! Floor 4, the only orchestrator: stages in order, cleanup, judging expected against seen.
