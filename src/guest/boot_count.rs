//! How often a guest booted after a restart, by everything that keeps count. One boot is proven only if nothing counted more:
//! each witness can miss a boot (a volatile journal, a silent console, no wtmp), and none invents one.

use std::fmt;

/// Who counts the boots of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The list of boots in the guest's own journal.
    Journal,
    /// The journal that the guest streams to this machine.
    StreamedJournal,
    /// The serial console.
    Console,
    /// The guest's record of logins, which systemd gives every boot.
    Wtmp,
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Journal => "the guest's journal",
            Self::StreamedJournal => "the streamed journal",
            Self::Console => "the console",
            Self::Wtmp => "wtmp",
        })
    }
}

/// How many boots a witness counted since the restart; or why it cannot tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootCount {
    /// Who.
    pub witness: Witness,
    /// How many, at least one.
    pub boots: Result<usize, String>,
}

impl BootCount {
    /// A count. None at all shows nothing, as a boot did happen.
    pub fn new(witness: Witness, boots: Result<usize, String>) -> Self {
        let boots = match boots {
            Ok(0) => Err("it shows no boot since the restart".to_owned()),
            other => other,
        };
        Self { witness, boots }
    }
}

impl fmt::Display for BootCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.boots {
            Ok(boots) => write!(f, "{} shows {boots}", self.witness),
            Err(why) => write!(f, "{} cannot tell ({why})", self.witness),
        }
    }
}

/// All of them, one after the other.
pub(super) fn list(counts: &[BootCount]) -> String {
    counts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether a witness counted more than one boot.
pub(super) fn shows_more(counts: &[BootCount]) -> bool {
    counts.iter().any(|count| matches!(count.boots, Ok(boots) if boots > 1))
}
