//! `boma-it image list | build | remove`: the golden images on this machine and on the hypervisor.

use std::io::Write;

use super::args::ImageCommand;
use super::exit::Exit;
use super::print;
use super::project::Driver;
use crate::catalog::RunOptions;
use crate::catalog::quantity::Bytes;
use crate::cycle::RunContext;
use crate::machine::image::{Image, SelectedImage};
use crate::support::deadline::{Deadline, Waited};

pub(super) fn run(project: &Driver, command: &ImageCommand) -> anyhow::Result<Exit> {
    let world = project.world()?;
    match command {
        ImageCommand::List => list(project, &world),
        ImageCommand::Build => build(project, &world),
        ImageCommand::Remove { name } => remove(project, &world, name),
    }
}

fn list(project: &Driver, world: &RunContext) -> anyhow::Result<Exit> {
    let images = world.images.list()?;
    let wanted = world.images.find(project.catalog().image()).map(|chosen| chosen.image.name);
    if images.is_empty() {
        print("no images yet; the next run makes the one it needs, or `boma-it image build` now\n")?;
    }
    for image in images {
        let mark = if Some(&image.name) == wanted.as_ref() { "  (the one of harness.yml)" } else { "" };
        print(&format!("{}{mark}\n    {}\n", image.name, describe(&image)))?;
    }
    Ok(Exit::Passed)
}

fn build(project: &Driver, world: &RunContext) -> anyhow::Result<Exit> {
    let source = project.catalog().readable_image()?;
    let tell = |what: &str| {
        let _ = writeln!(std::io::stderr(), "golden image: {what}");
    };
    // Whoever asks by hand has mended what was wrong, or wants to see it.
    world.images.ask_afresh()?;
    let SelectedImage { image, why } = world.images.ensure(source, &deadline(project, world)?, &tell)?;
    why.into_iter().for_each(|why| tell(&why));
    print(&format!("{}\n    {}\n", image.name, describe(&image)))?;
    Ok(Exit::Passed)
}

fn remove(project: &Driver, world: &RunContext, name: &str) -> anyhow::Result<Exit> {
    let removed = world.images.remove(name, &deadline(project, world)?, &|_| {});
    // Also where the cache has lost it: the pool may still hold it.
    world.hypervisor.delete_volume(&world.realm.image_volume(name))?;
    removed?;
    print(&format!("removed {name}\n"))?;
    Ok(Exit::Passed)
}

fn deadline(project: &Driver, world: &RunContext) -> anyhow::Result<Deadline> {
    let budget = project.catalog().harness(&RunOptions::default())?.timeouts.image;
    Ok(Deadline::after(budget, "the golden image", world.interrupt.clone(), Waited::default()))
}

fn describe(image: &Image) -> String {
    let (file, disk) = (image.file_size >> 20, Bytes(image.virtual_size));
    format!(
        "{}; {file} MiB, disk of {disk}, sha256 {}…\n    {}",
        image.origin,
        image.sha256.get(..12).unwrap_or_default(),
        image.path.display()
    )
}
