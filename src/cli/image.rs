//! `boma-it image list | build | remove`: the golden images in the cache and in the hypervisor's pool.

use std::io::Write;

use super::args::ImageCommand;
use super::driver::Driver;
use super::print;
use crate::catalog::RunOptions;
use crate::catalog::quantity::Bytes;
use crate::cycle::RunContext;
use crate::exit::Exit;
use crate::machine::image::Image;
use crate::support::deadline::{Deadline, Waited};

pub(super) fn run(driver: &Driver, command: &ImageCommand) -> anyhow::Result<Exit> {
    let context = driver.context()?;
    match command {
        ImageCommand::List => list(driver, &context),
        ImageCommand::Build => build(driver, &context),
        ImageCommand::Remove { name } => remove(driver, &context, name),
    }
}

fn list(driver: &Driver, context: &RunContext) -> anyhow::Result<Exit> {
    let images = context.images.list()?;
    let selected = context.images.find(driver.project.image()).map(|image| image.name);
    if images.is_empty() {
        print("no images yet; the next run makes the one it needs, or `boma-it image build` now\n")?;
    }
    for image in images {
        let mark = if Some(&image.name) == selected.as_ref() { "  (the one of harness.yml)" } else { "" };
        print(&format!("{}{mark}\n    {}\n", image.name, describe(&image)))?;
    }
    Ok(Exit::Passed)
}

fn build(driver: &Driver, context: &RunContext) -> anyhow::Result<Exit> {
    let source = driver.project.readable_image()?;
    let progress = |what: &str| {
        let _ = writeln!(std::io::stderr(), "golden image: {what}");
    };
    context.images.forget_latest()?;
    let image = context.images.ensure(source, &deadline(driver, context)?, &progress)?;
    print(&format!("{}\n    {}\n", image.name, describe(&image)))
}

fn remove(driver: &Driver, context: &RunContext, name: &str) -> anyhow::Result<Exit> {
    let removed = context.images.remove(name, &deadline(driver, context)?, &|_| {});
    // The pool may still hold an image that the cache has lost.
    context.hypervisor.delete_volume(&context.prefix.image_volume(name))?;
    removed?;
    print(&format!("removed {name}\n"))
}

fn deadline(driver: &Driver, context: &RunContext) -> anyhow::Result<Deadline> {
    let budget = driver.project.harness(&RunOptions::default())?.timeouts.image;
    Ok(Deadline::after(budget, "the golden image", context.interrupt.clone(), Waited::default()))
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
