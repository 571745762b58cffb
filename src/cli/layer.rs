//! `boma-it layer list | remove`: the layers in the hypervisor's pool.

use jiff::tz::TimeZone;
use serde::Serialize;

use super::args::LayerCommand;
use super::driver::Driver;
use super::print;
use crate::exit::Exit;
use crate::machine::layer::{Layer, LayerKind, LayerName};

/// A layer was not removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerNotRemoved {
    /// There is none.
    #[error("unknown layer `{name}` (known: {known})")]
    Unknown { name: LayerName, known: String },
    /// A VM uses it.
    #[error("layer {name} is used by the VM {machine}; end that VM first (`boma-it prune --all` ends all)")]
    InUse { name: LayerName, machine: String },
}

pub(super) fn run(driver: &Driver, command: &LayerCommand) -> anyhow::Result<Exit> {
    let context = driver.context()?;
    let layers = context.layers();
    match command {
        LayerCommand::List { json } => list(&layers.list()?, *json),
        LayerCommand::Remove { names, all } => {
            let known = layers.list()?;
            let names = if *all {
                known.iter().filter(|it| it.user.is_none()).map(|it| it.name.clone()).collect()
            } else {
                removable(names, &known)?
            };
            let (removed, result) = layers.remove_all(names);
            let text: String = removed.iter().map(|name| format!("removed {name}\n")).collect();
            print(if text.is_empty() && result.is_ok() { "no layers to remove\n" } else { &text })?;
            Ok(result.map(|()| Exit::Passed)?)
        }
    }
}

/// All of `names`, if every one exists and is unused: otherwise nothing is removed.
fn removable(names: &[LayerName], known: &[Layer]) -> Result<Vec<LayerName>, LayerNotRemoved> {
    for name in names {
        let Some(layer) = known.iter().find(|it| it.name == *name) else {
            let names: Vec<String> = known.iter().map(|it| it.name.to_string()).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(LayerNotRemoved::Unknown { name: name.clone(), known });
        };
        if let Some(machine) = &layer.user {
            return Err(LayerNotRemoved::InUse { name: name.clone(), machine: machine.clone() });
        }
    }
    Ok(names.to_vec())
}

/// A layer as `--json` prints it.
#[derive(Serialize)]
struct Shown<'a> {
    name: String,
    host: Option<&'a str>,
    made: Option<String>,
    used: Option<String>,
    base: Option<String>,
    bytes: u64,
    machine: Option<&'a str>,
}

fn list(layers: &[Layer], json: bool) -> anyhow::Result<Exit> {
    if json {
        let shown: Vec<_> = layers.iter().map(shown).collect();
        return print(&format!("{}\n", serde_json::to_string_pretty(&shown)?));
    }
    if layers.is_empty() {
        return print("no layers yet; the next trial makes the one it needs\n");
    }
    print(&layers.iter().map(describe).collect::<String>())
}

fn shown(layer: &Layer) -> Shown<'_> {
    Shown {
        name: layer.name.to_string(),
        host: layer.made.as_ref().map(|(host, _)| host.as_str()),
        made: layer.made.as_ref().map(|(_, made)| made.to_string()),
        used: layer.used.map(|used| used.to_string()),
        base: layer.base.as_ref().map(ToString::to_string),
        bytes: layer.bytes.0,
        machine: layer.user.as_deref(),
    }
}

fn describe(layer: &Layer) -> String {
    let made = match &layer.made {
        Some((host, made)) => {
            let made = made.to_zoned(TimeZone::system());
            let state = if layer.name.kind() == LayerKind::Ready { "first boot" } else { "applied" };
            format!("{host}, {state} {}", made.strftime("%Y-%m-%d %H:%M"))
        }
        None => "unfinished".to_owned(),
    };
    let user = layer.user.as_ref().map(|user| format!(", used by {user}")).unwrap_or_default();
    format!("{}  {made}, {} MiB{user}\n", layer.name, layer.bytes.0 >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::quantity::Bytes;

    fn layer(name: &str, user: Option<&str>) -> Layer {
        Layer {
            name: name.parse().unwrap(),
            made: Some(("askari".into(), "2026-06-17T12:03:00Z".parse().unwrap())),
            base: None,
            used: None,
            bytes: Bytes::mib(800),
            user: user.map(str::to_owned),
        }
    }

    #[test]
    fn a_layer_that_is_unknown_or_in_use_is_refused_and_nothing_is_removed() {
        let known = [layer("ready-11111111", None), layer("ready-22222222", Some("boma-it-askari"))];
        let refusal = |names: &[&str]| {
            let names: Vec<LayerName> = names.iter().map(|name| name.parse().unwrap()).collect();
            removable(&names, &known).map_err(|error| error.to_string())
        };
        assert_eq!(refusal(&["ready-11111111"]), Ok(vec!["ready-11111111".parse().unwrap()]));
        insta::assert_snapshot!(
            refusal(&["ready-11111111", "ready-33333333"]).unwrap_err(),
            @"unknown layer `ready-33333333` (known: ready-11111111, ready-22222222)"
        );
        insta::assert_snapshot!(
            refusal(&["ready-11111111", "ready-22222222"]).unwrap_err(),
            @"layer ready-22222222 is used by the VM boma-it-askari; end that VM first (`boma-it prune --all` ends all)"
        );
    }
}
