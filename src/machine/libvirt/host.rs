//! What the hypervisor is and offers.

use virt::connect::Connect;
use virt::sys;

use super::errors::{Failure, is_local};
use super::session::{Session, about};
use crate::catalog::quantity::Bytes;
use crate::machine::hypervisor::{HostInfo, Result};

pub(super) fn facts(session: &Session) -> Result<HostInfo> {
    let uri = session.uri().to_owned();
    session.call(about("ask", "the hypervisor at", &uri).probing().looking(), move |connection| {
        let local = is_local(&uri);
        let available = match local.then(local_memory).flatten() {
            Some(memory) => memory,
            None => remote_memory(connection)?,
        };
        Ok(HostInfo {
            version: format!("{} {}", connection.driver_type()?, dotted(connection.hyp_version()?)),
            hostname: connection.hostname()?,
            available_memory: available,
            offers_kvm: offers_kvm(&connection.capabilities()?),
            uri: uri.clone(),
            local,
        })
    })
}

/// Libvirt's versions are `major * 1000000 + minor * 1000 + micro`.
fn dotted(version: u32) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000)
}

fn offers_kvm(capabilities: &str) -> bool {
    let Ok(document) = roxmltree::Document::parse(capabilities) else { return false };
    document
        .descendants()
        .filter(|node| node.has_tag_name("arch") && node.attribute("name") == Some("x86_64"))
        .flat_map(|arch| arch.children())
        .any(|node| node.has_tag_name("domain") && node.attribute("type") == Some("kvm"))
}

/// `MemAvailable`, see proc_meminfo(5): what can be had without swapping.
fn local_memory() -> Option<Bytes> {
    available(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn available(meminfo: &str) -> Option<Bytes> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(Bytes(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.saturating_mul(1024)))
}

/// Free memory, buffers and caches of the hypervisor's host: the nearest to `MemAvailable` that libvirt tells.
#[expect(unsafe_code, reason = "virNodeGetMemoryStats is not wrapped by the virt crate")]
fn remote_memory(connection: &Connect) -> Result<Bytes, Failure> {
    const ROOM: usize = 16;
    let none = sys::virNodeMemoryStats { field: [0; 80], value: 0 };
    let mut stats = [none; ROOM];
    let mut count = i32::try_from(ROOM).unwrap_or_default();
    let all = sys::VIR_NODE_MEMORY_STATS_ALL_CELLS;
    // SAFETY: the connection is alive, and `stats` has room for `count` entries.
    let got = unsafe {
        sys::virNodeGetMemoryStats(connection.as_ptr(), all, stats.as_mut_ptr(), &raw mut count, 0)
    };
    if got < 0 {
        // Older or other drivers tell only what is wholly free.
        return Ok(Bytes(connection.free_memory()?));
    }
    let known = stats.iter().take(usize::try_from(count).unwrap_or_default());
    let wanted = |stat: &&sys::virNodeMemoryStats| {
        let name: Vec<u8> = stat.field.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
        matches!(name.as_slice(), b"free" | b"buffers" | b"cached")
    };
    Ok(Bytes(known.filter(wanted).map(|stat| stat.value).sum::<u64>().saturating_mul(1024)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_from_meminfo() {
        let text = "MemTotal:       24684208 kB\nMemFree:  1 kB\nMemAvailable:    8 kB\n";
        assert_eq!(available(text), Some(Bytes(8192)));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert!(local_memory().unwrap() > Bytes::mib(16));
    }

    #[test]
    fn kvm_counts_only_where_it_is_offered_for_x86_64() {
        let with = |arch, kind| {
            let domain = format!("<arch name='{arch}'><domain type='qemu'/><domain type='{kind}'/></arch>");
            offers_kvm(&format!("<capabilities><guest>{domain}</guest></capabilities>"))
        };
        assert!(with("x86_64", "kvm"));
        assert!(!with("i686", "kvm"));
        assert!(!with("x86_64", "qemu"));
    }

    #[test]
    fn a_version_is_shown_with_dots() {
        assert_eq!(dotted(10_000_002), "10.0.2");
    }
}
