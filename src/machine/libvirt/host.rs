//! The hypervisor's host: version, memory, and whether it offers KVM. It stands alone as it holds the only `unsafe` call.

use virt::connect::Connect;
use virt::sys;

use super::errors::{Failure, is_local};
use crate::catalog::quantity::Bytes;
use crate::machine::hypervisor::HostInfo;

pub(super) fn info(connection: &Connect, uri: &str) -> Result<HostInfo, Failure> {
    let local = is_local(uri);
    let available_memory = match local.then(local_memory).flatten() {
        Some(memory) => memory,
        None => remote_memory(connection)?,
    };
    let capabilities = connection.capabilities()?;
    Ok(HostInfo {
        libvirt: dotted(connection.lib_version()?),
        cpu: processor(&capabilities).unwrap_or_default(),
        version: format!("{} {}", connection.driver_type()?, dotted(connection.hyp_version()?)),
        hostname: connection.hostname()?,
        available_memory,
        offers_kvm: offers_kvm(&capabilities),
        uri: uri.to_owned(),
        local,
    })
}
/// Libvirt's versions are `major * 1000000 + minor * 1000 + micro`.
fn dotted(version: u32) -> String {
    format!("{}.{}.{}", version / 1_000_000, version / 1000 % 1000, version % 1000)
}

/// The text of the host's processor: model, vendor, microcode and features.
fn processor(capabilities: &str) -> Option<String> {
    let document = roxmltree::Document::parse(capabilities).ok()?;
    let host = document.root_element().children().find(|node| node.has_tag_name("host"))?;
    let cpu = host.children().find(|node| node.has_tag_name("cpu"))?;
    let words: Vec<&str> = capabilities.get(cpu.range())?.split_whitespace().collect();
    Some(words.join(" "))
}

fn offers_kvm(capabilities: &str) -> bool {
    let Ok(document) = roxmltree::Document::parse(capabilities) else { return false };
    document
        .descendants()
        .filter(|node| node.has_tag_name("arch") && node.attribute("name") == Some("x86_64"))
        .flat_map(|arch| arch.children())
        .any(|node| node.has_tag_name("domain") && node.attribute("type") == Some("kvm"))
}

/// `MemAvailable`, see proc_meminfo(5): memory for a new process without swapping.
fn local_memory() -> Option<Bytes> {
    available(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn available(meminfo: &str) -> Option<Bytes> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(Bytes(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.saturating_mul(1024)))
}

/// Free memory, buffers and caches of a remote host: the closest to `MemAvailable` that libvirt reports.
#[expect(unsafe_code, reason = "virNodeGetMemoryStats is not wrapped by the virt crate")]
fn remote_memory(connection: &Connect) -> Result<Bytes, Failure> {
    let mut stats = [sys::virNodeMemoryStats { field: [0; 80], value: 0 }; 16];
    let mut count = i32::try_from(stats.len()).unwrap_or_default();
    let all = sys::VIR_NODE_MEMORY_STATS_ALL_CELLS;
    // SAFETY: the connection is alive, and `stats` holds `count` entries.
    let status = unsafe {
        sys::virNodeGetMemoryStats(connection.as_ptr(), all, stats.as_mut_ptr(), &raw mut count, 0)
    };
    if status < 0 {
        // Old and minor drivers report free memory only.
        return Ok(Bytes(connection.free_memory()?));
    }
    let is_reclaimable = |stat: &&sys::virNodeMemoryStats| {
        let name: Vec<u8> = stat.field.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
        matches!(name.as_slice(), b"free" | b"buffers" | b"cached")
    };
    let known = stats.iter().take(usize::try_from(count).unwrap_or_default());
    let kib: u64 = known.filter(is_reclaimable).map(|stat| stat.value).sum();
    Ok(Bytes(kib.saturating_mul(1024)))
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
    fn kvm_is_offered_only_by_an_x86_64_guest_entry() {
        let with = |arch, kind| {
            let domain = format!("<arch name='{arch}'><domain type='qemu'/><domain type='{kind}'/></arch>");
            offers_kvm(&format!("<capabilities><guest>{domain}</guest></capabilities>"))
        };
        assert!(with("x86_64", "kvm"));
        assert!(!with("i686", "kvm"));
        assert!(!with("x86_64", "qemu"));
    }

    #[test]
    fn the_processor_is_the_hosts_and_not_one_that_guests_may_have() {
        let text = "<capabilities><host><cpu>\n  <model>EPYC</model>\n</cpu></host><guest><cpu/></guest></capabilities>";
        assert_eq!(processor(text).unwrap(), "<cpu> <model>EPYC</model> </cpu>");
        assert_eq!(processor("<capabilities><guest><cpu/></guest></capabilities>"), None);
    }

    #[test]
    fn a_version_is_shown_with_dots() {
        assert_eq!(dotted(10_000_002), "10.0.2");
    }
}
