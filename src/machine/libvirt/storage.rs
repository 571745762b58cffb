//! The storage pool and its volumes on libvirt. Bytes go through streams; we never open a file of the hypervisor.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use super::connection::CallChannel;
use super::errors::{Failure, found};
use crate::catalog::quantity::Bytes;
use crate::machine::hypervisor::{HypervisorError, Volume};
use crate::machine::layer::LayerName;
use crate::machine::names::NamePrefix;
use crate::machine::xml::{Element, el, text};
use crate::support::deadline::Deadline;

/// What fits one of libvirt's messages.
const CHUNK: usize = 256 * 1024;
/// How long to retry a refresh while libvirt has jobs running in the pool.
const BUSY: Duration = Duration::from_secs(10);

pub(super) fn ensure_pool(connection: &Connect, prefix: &NamePrefix) -> Result<(), Failure> {
    let pool = match find_pool(connection, prefix)? {
        Some(pool) => pool,
        None => match connection.define_storage_pool_xml(&pool_xml(prefix), 0) {
            Ok(pool) => pool,
            // Another process may have been faster.
            Err(error) => find_pool(connection, prefix)?.ok_or(error)?,
        },
    };
    if pool.is_active()? {
        return Ok(());
    }
    match pool.build(0).and_then(|()| pool.create(0)) {
        // Another process may have been faster.
        Err(error) if !pool.is_active()? => Err(error.into()),
        _ => Ok(()),
    }
}

pub(super) fn volumes(connection: &Connect, prefix: &NamePrefix) -> Result<Vec<Volume>, Failure> {
    let pool = require_pool(connection, prefix)?;
    refresh(&pool)?;
    let mut volumes = Vec::new();
    for volume in pool.list_all_volumes(0)? {
        // A volume may be deleted while we list.
        volumes.extend(found(volume.xml_desc(0))?.and_then(|xml| read_volume(&xml)));
    }
    volumes.sort_by(|a: &Volume, b| a.name.cmp(&b.name));
    Ok(volumes)
}

pub(super) fn upload(
    connection: &Connect,
    prefix: &NamePrefix,
    name: &str,
    path: &Path,
    channel: &CallChannel<u64>,
) -> Result<(), Failure> {
    let unreadable = |source: io::Error| HypervisorError::File {
        verb: "read",
        object: path.display().to_string(),
        source,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let pool = require_pool(connection, prefix)?;
    // The volume grows with what is uploaded.
    let xml = volume_xml(prefix, name, Bytes(0), "raw").render();
    let volume = StorageVol::create_xml(&pool, &xml, 0)?;
    let (mut buffer, mut total) = (vec![0; CHUNK], 0);
    let send = |stream: &Stream| {
        let read = file.read(&mut buffer).map_err(unreadable)?;
        let mut rest = buffer.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            let sent = usize::try_from(stream.send(rest)?).unwrap_or_default();
            rest = rest.get(sent..).unwrap_or_default();
        }
        total += read as u64;
        channel.send(total)?;
        Ok(read > 0)
    };
    let sent = transfer(connection, |stream| volume.upload(stream, 0, 0, 0), send);
    if sent.is_err() {
        let _ = volume.delete(0);
    }
    refresh(&pool)?;
    sent
}

pub(super) fn download(
    connection: &Connect,
    prefix: &NamePrefix,
    name: &str,
    offset: u64,
    channel: &CallChannel<Vec<u8>>,
) -> Result<(), Failure> {
    let volume = lookup_volume(&require_pool(connection, prefix)?, name)?;
    let receive = |stream: &Stream| {
        let mut buffer = vec![0; CHUNK];
        let received = stream.recv(&mut buffer)?;
        buffer.truncate(usize::try_from(received).unwrap_or_default());
        let more = !buffer.is_empty();
        channel.send(buffer)?;
        Ok(more)
    };
    transfer(connection, |stream| volume.download(stream, offset, 0, 0), receive)
}

/// Opens a stream and repeats `step` until it returns false.
fn transfer(
    connection: &Connect,
    begin: impl FnOnce(&Stream) -> Result<(), Error>,
    mut step: impl FnMut(&Stream) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let stream = Stream::new(connection, 0)?;
    begin(&stream)?;
    loop {
        match step(&stream) {
            Ok(true) => {}
            Ok(false) => return Ok(stream.finish()?),
            Err(failure) => {
                let _ = stream.abort();
                return Err(failure);
            }
        }
    }
}

pub(super) fn create_overlay(
    connection: &Connect,
    prefix: &NamePrefix,
    name: &str,
    backing: &str,
    capacity: Bytes,
) -> Result<(), Failure> {
    let pool = require_pool(connection, prefix)?;
    let backing = lookup_volume(&pool, backing)?;
    let capacity = capacity.max(Bytes(backing.info()?.capacity));
    let store =
        el("backingStore").with(text("path", backing.path()?)).with(el("format").attr("type", "qcow2"));
    StorageVol::create_xml(&pool, &volume_xml(prefix, name, capacity, "qcow2").with(store).render(), 0)?;
    Ok(())
}

pub(super) fn delete(connection: &Connect, prefix: &NamePrefix, name: &str) -> Result<(), Failure> {
    if let Some(pool) = find_pool(connection, prefix)?
        && pool.is_active()?
    {
        found(lookup_volume(&pool, name).and_then(|volume| volume.delete(0)))?;
    }
    Ok(())
}

/// Removes the pool with every volume in it, if it exists.
pub(super) fn remove_pool(connection: &Connect, prefix: &NamePrefix) -> Result<(), Failure> {
    let Some(pool) = find_pool(connection, prefix)? else { return Ok(()) };
    if pool.is_active()? {
        refresh(&pool)?;
        for volume in pool.list_all_volumes(0)? {
            volume.delete(0)?;
        }
        pool.destroy()?;
    }
    // Deletes the pool's folder, unless somebody put a folder of their own into it.
    let _ = pool.delete(0);
    Ok(pool.undefine()?)
}

/// Where the pool's files are on the hypervisor.
pub(super) fn pool_dir(connection: &Connect, prefix: &NamePrefix) -> Result<String, Failure> {
    let xml = require_pool(connection, prefix)?.xml_desc(0)?;
    let document = roxmltree::Document::parse(&xml).ok();
    let path = document.as_ref().and_then(|document| {
        let target = document.descendants().find(|node| node.has_tag_name("target"))?;
        target.children().find(|node| node.has_tag_name("path"))?.text()
    });
    path.map(str::to_owned).ok_or_else(|| no_pool(prefix).into())
}

fn find_pool(connection: &Connect, prefix: &NamePrefix) -> Result<Option<StoragePool>, Error> {
    found(connection.lookup_storage_pool_by_name(prefix.pool()))
}

fn require_pool(connection: &Connect, prefix: &NamePrefix) -> Result<StoragePool, Failure> {
    find_pool(connection, prefix)?.ok_or_else(|| no_pool(prefix).into())
}

fn no_pool(prefix: &NamePrefix) -> HypervisorError {
    HypervisorError::NotFound { object: format!("storage pool {}", prefix.pool()) }
}

/// A file that QEMU or virtlogd made in the pool (a console log) is a volume only after a refresh.
fn lookup_volume(pool: &StoragePool, name: &str) -> Result<StorageVol, Error> {
    match found(pool.lookup_storage_vol_by_name(name))? {
        Some(volume) => Ok(volume),
        None => refresh(pool).and_then(|()| pool.lookup_storage_vol_by_name(name)),
    }
}

/// Libvirt refuses to refresh a pool while it creates or copies a volume there.
fn refresh(pool: &StoragePool) -> Result<(), Error> {
    let deadline = Deadline::uninterrupted(BUSY, "refresh");
    let is_busy = |error: &Error| {
        error.code().is(ErrorNumber::InternalError) && error.message().contains("asynchronous jobs running")
    };
    loop {
        match pool.refresh(0) {
            Err(error) if is_busy(&error) && !deadline.remaining().is_zero() => {
                deadline.pause(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

fn pool_xml(prefix: &NamePrefix) -> String {
    // QEMU's user must be able to enter the folder; nobody needs to list it.
    let target = el("target")
        .with(text("path", prefix.pool_target()))
        .with(el("permissions").with(text("mode", "0711")));
    el("pool").attr("type", "dir").with(text("name", prefix.pool())).with(target).render()
}

fn volume_xml(prefix: &NamePrefix, name: &str, capacity: Bytes, format: &'static str) -> Element {
    // Libvirt gives a machine's own volumes to QEMU's user, and a seed and a layer hold private keys. A golden image is only
    // read, by the QEMUs of several machines.
    let is_private = prefix.domain_of(name).is_some() || LayerName::of_volume(name).is_some();
    let mode = if is_private { "0600" } else { "0644" };
    let target =
        el("target").with(el("format").attr("type", format)).with(el("permissions").with(text("mode", mode)));
    el("volume")
        .with(text("name", name))
        .with(text("capacity", capacity.0).attr("unit", "bytes"))
        .with(target)
}

fn read_volume(xml: &str) -> Option<Volume> {
    let document = roxmltree::Document::parse(xml).ok()?;
    let child = |tag: &str| document.root_element().children().find(|node| node.has_tag_name(tag));
    let bytes = |tag: &str| child(tag)?.text()?.parse().ok().map(Bytes);
    let backing = child("backingStore").and_then(|node| node.children().find(|n| n.has_tag_name("path")));
    let allocation = bytes("allocation").unwrap_or(Bytes(0));
    Some(Volume {
        name: child("name")?.text()?.to_owned(),
        capacity: bytes("capacity")?,
        allocation,
        length: bytes("physical").unwrap_or(allocation),
        backing: backing.and_then(|path| path.text()).map(str::to_owned),
    })
}
