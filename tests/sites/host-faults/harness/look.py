"""Prints what verify.yml asks of the lab, as one JSON object. Collects, and judges nothing. Runs as root."""

import json
import stat
import subprocess
from pathlib import Path


def run(*argv):
    """Returns a command's output, and fails with it: a fact that could not be had is no fact."""
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


def parsed(*argv):
    return json.loads(run(*argv) or "[]")


def units():
    """The active state of each unit of the lab, without its prefix."""
    listed = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "lab-*")
    return {name.removeprefix("lab-"): active for name, _, active, *_ in map(str.split, listed.splitlines())}


def sysctl(name):
    return int(Path("/proc/sys", *name.split(".")).read_text())


def chosen(setting):
    """The word in brackets of a setting of transparent huge pages."""
    return Path("/sys/kernel/mm/transparent_hugepage", setting).read_text().split("[")[1].split("]")[0]


def tasks_max(unit):
    return run("systemctl", "show", "--property", "TasksMax", "--value", unit).strip()


(loopback,) = parsed("ip", "-j", "address", "show", "dev", "lo")
print(
    json.dumps(
        {
            "units": units(),
            "tasks_max": {unit: tasks_max(f"lab-{unit}.service") for unit in ("limit", "control-limit")},
            "sysctl": {
                name: sysctl(f"vm.{name}")
                for name in ("dirty_ratio", "dirty_background_ratio", "vfs_cache_pressure", "swappiness")
            },
            "modules": [line.split()[0] for line in Path("/proc/modules").read_text().splitlines()],
            "huge_pages": {setting: chosen(setting) for setting in ("enabled", "shmem_enabled")},
            "addresses": [address["local"] for address in loopback["addr_info"]],
            "mtu": loopback["mtu"],
            "routes": [route["dst"] for route in parsed("ip", "-j", "route") if route.get("type") == "blackhole"],
            "rules": [rule["priority"] for rule in parsed("ip", "-j", "rule")],
            "search": run("resolvectl", "domain").split(),
            "tables": [e["table"]["name"] for e in parsed("nft", "-j", "list", "tables")["nftables"] if "table" in e],
            "mounts": {mount.split()[1]: mount.split()[3] for mount in Path("/proc/mounts").read_text().splitlines()},
            "swap": [line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]],
            "folders": [str(path) for path in Path("/run").glob("lab-*") if path.is_dir()],
            "modes": {name: oct(stat.S_IMODE(Path("/dev", name).stat().st_mode)) for name in ("kmsg", "full")},
            "containers": run("docker", "ps", "--format", "{{.Names}}").split(),
        }
    )
)
