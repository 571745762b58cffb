//! The memory use of this process. It stands alone: nothing else reads `/proc/self/status`.

/// The peak, in bytes: `VmHWM` of proc_pid_status(5).
pub(crate) fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_peak_is_at_least_what_is_allocated() {
        let held = vec![1_u8; 8 << 20];
        assert!(super::peak().unwrap() > held.len() as u64);
    }
}
