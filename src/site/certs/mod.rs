//! Certificate tiers: what each needs before a VM is made, what it gives to the site, and, for `pebble`, the ACME
//! server itself.
//!
//! A tier changes variables and nothing else: the site's role gets its certificate as it would in production.
//!
//! | module | holds |
//! |---|---|
//! | [`needs`] | what a tier cannot do without, checked before anything exists |
//! | [`tier`] | tier → the variables it gives to the site; pure |
//! | [`pebble`] | the ACME server and the DNS that it asks, as children of ours |
//! | `endpoint` | the keys and certificates of that server's own HTTPS |
//! | `ports` | where it listens |

mod endpoint;
pub mod needs;
pub mod pebble;
mod ports;
pub mod tier;

pub use needs::{TierRequirements, UnmetRequirement};
pub use pebble::{Pebble, PebbleError};
pub use tier::{Acme, Dns};
