//! The names of layers and of their volumes, and what a VM has to do with one: plain data, which the metadata of a domain holds.

use std::fmt;
use std::str::FromStr;

use jiff::{Timestamp, Zoned};

/// What the names of all volumes of layers start with.
const PREFIX: &str = "layer-";
/// How many digits follow.
const DIGITS: usize = 8;

/// What state a layer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerKind {
    /// A settled first boot.
    Ready,
    /// The same with the site playbook applied. It lies on a ready layer.
    Applied,
}

impl LayerKind {
    const ALL: [Self; 2] = [Self::Ready, Self::Applied];

    fn prefix(self) -> &'static str {
        match self {
            Self::Ready => "ready-",
            Self::Applied => "applied-",
        }
    }
}

/// The name of a layer: its kind, and the first digits of the SHA-256 of its key, as in `ready-3f2a91c0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerName(String);

/// A text that is no name of a layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid layer `{0}`, expected a name as `boma-it layer list` prints it: ready-3f2a91c0")]
pub struct InvalidLayerName(String);

impl FromStr for LayerName {
    type Err = InvalidLayerName;

    fn from_str(text: &str) -> Result<Self, InvalidLayerName> {
        let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        match LayerKind::ALL.iter().find_map(|kind| text.strip_prefix(kind.prefix())) {
            Some(digits) if digits.len() == DIGITS && digits.chars().all(is_digit) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidLayerName(text.to_owned())),
        }
    }
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl LayerName {
    /// The layer of this kind whose key has this digest.
    pub(super) fn new(kind: LayerKind, digest: &[u8]) -> Self {
        let digits: String = digest.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
        Self(kind.prefix().to_owned() + &digits)
    }

    /// What state it keeps.
    pub fn kind(&self) -> LayerKind {
        let is = |kind: &LayerKind| self.0.starts_with(kind.prefix());
        LayerKind::ALL.into_iter().find(is).unwrap_or(LayerKind::Ready)
    }

    /// The volume of the disk, which the overlays of running VMs lie on.
    pub fn disk(&self) -> String {
        format!("{PREFIX}{}.qcow2", self.0)
    }

    /// The volume of the memory, processor and firmware variables, in libvirt's own format.
    pub fn memory(&self) -> String {
        format!("{PREFIX}{}.mem", self.0)
    }

    /// The volume of the record.
    pub fn record(&self) -> String {
        format!("{PREFIX}{}.json", self.0)
    }

    pub(super) fn volumes(&self) -> [String; 3] {
        // The record first: a layer without one counts for nothing.
        [self.record(), self.memory(), self.disk()]
    }

    /// The layer that a volume belongs to, judged by its name.
    pub(in crate::machine) fn of_volume(volume: &str) -> Option<Self> {
        let name: Self = volume.strip_prefix(PREFIX)?.rsplit_once('.')?.0.parse().ok()?;
        name.volumes().iter().any(|it| it == volume).then_some(name)
    }
}

/// The layer that a VM was restored from: which, and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerOrigin {
    /// Its name.
    pub name: LayerName,
    /// When the state was kept.
    pub made: Timestamp,
}

impl LayerOrigin {
    /// In words, for a person who reads it at `now`: `layer ready-3f2a91c0, first boot 14:03 today`.
    pub(crate) fn describe(&self, now: &Zoned) -> String {
        let Self { name, made } = self;
        let made = made.to_zoned(now.time_zone().clone());
        let day = match now.date().since(made.date()).map(|span| span.get_days()) {
            Ok(0) => "today".to_owned(),
            Ok(1) => "yesterday".to_owned(),
            _ => format!("on {}", made.date()),
        };
        let state = match name.kind() {
            LayerKind::Ready => "first boot",
            LayerKind::Applied => "applied",
        };
        format!("layer {name}, {state} {} {day}", made.strftime("%H:%M"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_belongs_to_the_layer_in_its_name() {
        let name = LayerName::new(LayerKind::Ready, &[0x3f, 0x2a, 0x91, 0xc0, 0xff]);
        assert_eq!(name.to_string(), "ready-3f2a91c0");
        assert_eq!(name.to_string().parse(), Ok(name.clone()));
        for volume in name.volumes() {
            assert_eq!(LayerName::of_volume(&volume), Some(name.clone()), "{volume}");
        }
    }

    #[rstest::rstest]
    #[case("golden-debian-13-febe0db16b30.qcow2")]
    #[case("boma-it-askari.qcow2")]
    #[case("layer-ready-3f2a91c0")]
    #[case("layer-ready-3f2a91c0.txt")]
    #[case("layer-ready-3f2a91.mem")]
    #[case("layer-ready-3F2A91C0.mem")]
    #[case("layer-other-3f2a91c0.mem")]
    #[case("layer-applied-ready-3f2a91c0.mem")]
    fn another_volume_belongs_to_no_layer(#[case] volume: &str) {
        assert_eq!(LayerName::of_volume(volume), None);
    }

    #[rstest::rstest]
    #[case("ready-3f2a91c0", "2026-06-17T12:03:00Z", "layer ready-3f2a91c0, first boot 14:03 today")]
    #[case("ready-3f2a91c0", "2026-06-16T21:59:00Z", "layer ready-3f2a91c0, first boot 23:59 yesterday")]
    #[case("ready-3f2a91c0", "2026-06-15T22:00:00Z", "layer ready-3f2a91c0, first boot 00:00 yesterday")]
    #[case("ready-3f2a91c0", "2026-06-01T12:03:00Z", "layer ready-3f2a91c0, first boot 14:03 on 2026-06-01")]
    #[case("applied-3f2a91c0", "2026-06-17T12:03:00Z", "layer applied-3f2a91c0, applied 14:03 today")]
    fn the_origin_says_which_state_was_kept_and_when(
        #[case] name: &str,
        #[case] made: &str,
        #[case] words: &str,
    ) {
        let now: Zoned = "2026-06-17T15:00:00+02:00[Europe/Berlin]".parse().unwrap();
        let origin = LayerOrigin { name: name.parse().unwrap(), made: made.parse().unwrap() };
        assert_eq!(origin.describe(&now), words);
    }
}
