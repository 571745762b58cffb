//! The pool and its volumes on libvirt. Bytes go through streams; no file of the hypervisor's is opened by us.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use virt::connect::Connect;
use virt::error::{Error, ErrorNumber};
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use super::errors::{Failure, found, is_missing};
use super::session::{CallChannel, Session, about};
use crate::catalog::quantity::Bytes;
use crate::machine::hypervisor::{HypervisorError, Result, Volume};
use crate::machine::names::NamePrefix;
use crate::machine::xml::{Element, el, text};
use crate::support::deadline::Deadline;

/// How much goes through a stream at once: what fits one of libvirt's messages.
const CHUNK: usize = 256 * 1024;
/// For how long a refresh is tried while libvirt has jobs running in the pool.
const BUSY: Duration = Duration::from_secs(10);

pub(super) fn ensure_pool(session: &Session, realm: &NamePrefix) -> Result<()> {
    let realm = realm.clone();
    session.call(about("set up", "storage pool", realm.pool()), move |connection| {
        let name = realm.pool();
        let pool = match found(connection.lookup_storage_pool_by_name(name))? {
            Some(pool) => pool,
            None => match connection.define_storage_pool_xml(&pool_xml(&realm).render(), 0) {
                Ok(pool) => pool,
                // Another process was faster.
                Err(error) => found(connection.lookup_storage_pool_by_name(name))?.ok_or(error)?,
            },
        };
        if pool.is_active()? {
            return Ok(());
        }
        let started = pool.build(0).and_then(|()| pool.create(0));
        match started {
            Ok(()) => Ok(()),
            // Another process was faster.
            Err(_) if pool.is_active()? => Ok(()),
            Err(error) => Err(error.into()),
        }
    })
}

pub(super) fn volumes(session: &Session, realm: &NamePrefix) -> Result<Vec<Volume>> {
    let realm = realm.clone();
    session.call(about("list", "volumes of storage pool", realm.pool()).looking(), move |connection| {
        let pool = lookup_pool(connection, &realm)?;
        refresh(&pool)?;
        let mut volumes = Vec::new();
        for volume in pool.list_all_volumes(0)? {
            match volume.xml_desc(0) {
                Ok(xml) => volumes.extend(read_volume(&xml)),
                // It went away meanwhile.
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    })
}

pub(super) fn upload(
    session: &Session,
    realm: &NamePrefix,
    volume: &str,
    file: &Path,
    deadline: &Deadline,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let about = about("upload", "volume", volume);
    let (realm, name, path) = (realm.clone(), volume.to_owned(), file.to_owned());
    let what = format!("upload volume {volume}");
    session.converse(
        about,
        move |connection, line: &CallChannel<u64>| {
            let file = File::open(&path).map_err(|source| unreadable(&path, source))?;
            let pool = lookup_pool(connection, &realm)?;
            let volume = StorageVol::create_xml(&pool, &empty_volume(&realm, &name).render(), 0)?;
            let sent = send(connection, &volume, file, &path, line);
            if sent.is_err() {
                let _ = volume.delete(0);
            }
            refresh(&pool)?;
            sent
        },
        |bytes| {
            progress(bytes);
            deadline.check(&what).map_err(|source| HypervisorError::Ended { what: what.clone(), source })
        },
    )
}

pub(super) fn create_overlay(
    session: &Session,
    realm: &NamePrefix,
    volume: &str,
    backing: &str,
    capacity: Bytes,
) -> Result<()> {
    let (realm, name, backing) = (realm.clone(), volume.to_owned(), backing.to_owned());
    session.call(about("create", "volume", volume), move |connection| {
        let pool = lookup_pool(connection, &realm)?;
        let backing = lookup_volume(&pool, &backing)?;
        let capacity = capacity.max(Bytes(backing.info()?.capacity));
        let store =
            el("backingStore").with(text("path", backing.path()?)).with(el("format").attr("type", "qcow2"));
        let xml = el("volume")
            .with(text("name", &name))
            .with(text("capacity", capacity.0).attr("unit", "bytes"))
            .with(el("target").with(el("format").attr("type", "qcow2")).with(permissions(&realm, &name)))
            .with(store);
        StorageVol::create_xml(&pool, &xml.render(), 0)?;
        Ok(())
    })
}

pub(super) fn download(
    session: &Session,
    realm: &NamePrefix,
    volume: &str,
    offset: u64,
    to: &mut dyn Write,
) -> Result<u64> {
    let about = about("download", "volume", volume).looking();
    let (realm, name, object) = (realm.clone(), volume.to_owned(), about.object.clone());
    let mut written = 0;
    session.converse(
        about,
        move |connection, line: &CallChannel<Vec<u8>>| {
            let pool = lookup_pool(connection, &realm)?;
            let volume = lookup_volume(&pool, &name)?;
            receive(connection, &volume, offset, line)
        },
        |bytes| {
            written += bytes.len() as u64;
            to.write_all(&bytes).map_err(|source| HypervisorError::File {
                verb: "write what was downloaded of",
                object: object.clone(),
                source,
            })
        },
    )?;
    Ok(written)
}

pub(super) fn delete(session: &Session, realm: &NamePrefix, volume: &str) -> Result<()> {
    let (realm, name) = (realm.clone(), volume.to_owned());
    session.call(about("delete", "volume", volume), move |connection| {
        let Some(pool) = found(connection.lookup_storage_pool_by_name(realm.pool()))? else { return Ok(()) };
        if !pool.is_active()? {
            return Ok(());
        }
        let volume = match lookup_volume(&pool, &name) {
            Ok(volume) => volume,
            Err(Failure::Libvirt(error)) if is_missing(&error) => return Ok(()),
            Err(failure) => return Err(failure),
        };
        match volume.delete(0) {
            Err(error) if !is_missing(&error) => Err(error.into()),
            _ => Ok(()),
        }
    })
}

/// Where the pool's files lie on the hypervisor.
pub(super) fn pool_dir(connection: &Connect, realm: &NamePrefix) -> Result<String, Failure> {
    let xml = lookup_pool(connection, realm)?.xml_desc(0)?;
    let document = roxmltree::Document::parse(&xml).ok();
    let path = document.as_ref().and_then(|document| {
        let target = document.descendants().find(|node| node.has_tag_name("target"))?;
        target.children().find(|node| node.has_tag_name("path"))?.text()
    });
    path.map(str::to_owned).ok_or_else(|| no_pool(realm).into())
}

fn lookup_pool(connection: &Connect, realm: &NamePrefix) -> Result<StoragePool, Failure> {
    found(connection.lookup_storage_pool_by_name(realm.pool()))?.ok_or_else(|| no_pool(realm).into())
}

fn no_pool(realm: &NamePrefix) -> HypervisorError {
    HypervisorError::NotFound { object: format!("storage pool {}", realm.pool()) }
}

/// A file that somebody else made in the pool (a console's log) is a volume only after a refresh.
fn lookup_volume(pool: &StoragePool, name: &str) -> Result<StorageVol, Failure> {
    if let Some(volume) = found(pool.lookup_storage_vol_by_name(name))? {
        return Ok(volume);
    }
    refresh(pool)?;
    Ok(pool.lookup_storage_vol_by_name(name)?)
}

/// Libvirt refuses to refresh a pool in which it creates or copies a volume.
fn refresh(pool: &StoragePool) -> Result<(), Error> {
    let deadline = Deadline::uninterrupted(BUSY, "refresh");
    loop {
        match pool.refresh(0) {
            Err(error) if is_busy(&error) && !deadline.remaining().is_zero() => {
                deadline.pause(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

fn is_busy(error: &Error) -> bool {
    error.code().is(ErrorNumber::InternalError) && error.message().contains("asynchronous jobs running")
}

fn send(
    connection: &Connect,
    volume: &StorageVol,
    mut file: File,
    path: &Path,
    line: &CallChannel<u64>,
) -> Result<(), Failure> {
    let stream = Stream::new(connection, 0)?;
    volume.upload(&stream, 0, 0, 0)?;
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    let mut pump = || -> Result<bool, Failure> {
        let read = file.read(&mut buffer).map_err(|source| unreadable(path, source))?;
        let mut rest = buffer.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            let sent = usize::try_from(stream.send(rest)?).unwrap_or_default();
            rest = rest.get(sent..).unwrap_or_default();
        }
        total += read as u64;
        line.say(total)?;
        Ok(read > 0)
    };
    loop {
        match pump() {
            Ok(true) => {}
            Ok(false) => return Ok(stream.finish()?),
            Err(failure) => {
                let _ = stream.abort();
                return Err(failure);
            }
        }
    }
}

fn receive(
    connection: &Connect,
    volume: &StorageVol,
    offset: u64,
    line: &CallChannel<Vec<u8>>,
) -> Result<(), Failure> {
    let stream = Stream::new(connection, 0)?;
    volume.download(&stream, offset, 0, 0)?;
    loop {
        let mut buffer = vec![0; CHUNK];
        let news = stream.recv(&mut buffer).map_err(Failure::from).and_then(|got| {
            buffer.truncate(usize::try_from(got).unwrap_or_default());
            let more = !buffer.is_empty();
            line.say(buffer)?;
            Ok(more)
        });
        match news {
            Ok(true) => {}
            Ok(false) => return Ok(stream.finish()?),
            Err(failure) => {
                let _ = stream.abort();
                return Err(failure);
            }
        }
    }
}

fn pool_xml(realm: &NamePrefix) -> Element {
    // QEMU's own user must be able to pass through, nobody to list.
    let target = el("target")
        .with(text("path", realm.pool_target()))
        .with(el("permissions").with(text("mode", "0711")));
    el("pool").attr("type", "dir").with(text("name", realm.pool())).with(target)
}

/// A volume that grows with what is uploaded.
fn empty_volume(realm: &NamePrefix, name: &str) -> Element {
    el("volume")
        .with(text("name", name))
        .with(text("capacity", 0))
        .with(el("target").with(el("format").attr("type", "raw")).with(permissions(realm, name)))
}

/// QEMU's user is given a machine's own volumes by libvirt, and a seed holds a private key; a golden image is only read,
/// by QEMUs of several machines.
fn permissions(realm: &NamePrefix, name: &str) -> Element {
    let mode = if realm.domain_of(name).is_some() { "0600" } else { "0644" };
    el("permissions").with(text("mode", mode))
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

fn unreadable(path: &Path, source: std::io::Error) -> HypervisorError {
    HypervisorError::File { verb: "read", object: path.display().to_string(), source }
}

/// Removes the pool with every volume in it; it need not be there.
pub(super) fn remove_pool(session: &Session, realm: &NamePrefix) -> Result<()> {
    let realm = realm.clone();
    session.call(about("remove", "storage pool", realm.pool()), move |connection| {
        let Some(pool) = found(connection.lookup_storage_pool_by_name(realm.pool()))? else { return Ok(()) };
        if pool.is_active()? {
            refresh(&pool)?;
            for volume in pool.list_all_volumes(0)? {
                volume.delete(0)?;
            }
            pool.destroy()?;
        }
        // Its folder: not empty if somebody else put a folder of his own into it.
        let _ = pool.delete(0);
        pool.undefine()?;
        Ok(())
    })
}
