//! The cycle's failure paths, on a hypervisor in memory: every error names its cause and what to do, and nothing is left but
//! the run folder.

#[cfg(test)]
mod admission;
#[cfg(test)]
mod bytecode;
#[cfg(test)]
mod certs;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod guest;
#[cfg(test)]
mod hypervisor_failures;
#[cfg(test)]
mod layers;
mod layers_at_once;
#[cfg(test)]
mod lockout;
mod lockout_at_apply;
#[cfg(test)]
mod names;
#[cfg(test)]
mod playbooks;
#[cfg(test)]
mod prune;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod secrets_fixture;
#[cfg(test)]
mod side_by_side;
#[cfg(test)]
mod waiting;
