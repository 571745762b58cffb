"""Prints the facts that verify.yml needs from inside the VM, as one JSON object. Collects, and judges nothing.

Runs as root, with the port to listen on and the setup key that the coordinator should have. One probe collects all
facts, because each Ansible task costs seconds on a slow VM.
"""

import grp
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

SYSCTL = [
    "kernel.dmesg_restrict",
    "kernel.kptr_restrict",
    "net.ipv4.conf.all.accept_redirects",
    "net.ipv4.conf.all.send_redirects",
    "net.ipv4.tcp_syncookies",
]
COORDINATOR = "http://127.0.0.1:8080/"
CADDY_ROOT = Path("/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt")


def run(*argv):
    """Returns exit status and output of a command; 127 if it does not exist."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, (done.stdout or done.stderr).strip()


def parsed(*argv):
    """Returns a command's JSON output, or None."""
    status, output = run(*argv)
    try:
        return json.loads(output) if status == 0 else None
    except ValueError:
        return None


def listen(port):
    """Listens on the port for two minutes, in a transient unit. Returns whether something listens on it."""
    server = f"import socket, time; s = socket.create_server(('', {port}), backlog=64); time.sleep(120)"
    run("systemd-run", "--quiet", "--collect", "--unit=boma-it-listener", "python3", "-c", server)

    def bound():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    return until(bound, 15)


def until(condition, seconds):
    """Returns whether the condition became true within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.25)
    return True


def firewall():
    ruleset = parsed("nft", "-j", "list", "ruleset") or {"nftables": []}
    chains = [entry["chain"] for entry in ruleset["nftables"] if "chain" in entry]
    status, output = run("nft", "-c", "-f", "/etc/nftables.conf")
    return {
        "policies": {f"{c['family']} {c['table']} {c['name']}": c["policy"] for c in chains if "policy" in c},
        "enabled": run("systemctl", "is-enabled", "nftables.service")[1],
        "invalid": "" if status == 0 else output,
    }


def failed_units():
    status, output = run("systemctl", "list-units", "--state=failed", "--plain", "--no-legend")
    return [line.split()[0] for line in output.splitlines()] if status == 0 else [output]


def sshd():
    settings = {}
    for line in run("sshd", "-T")[1].splitlines():
        key, _, value = line.partition(" ")
        settings.setdefault(key, value)
    return settings


def sysctl():
    return {key: Path("/proc/sys", *key.split(".")).read_text().strip() for key in SYSCTL}


def answers():
    try:
        with urllib.request.urlopen(COORDINATOR, timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def docker():
    if not shutil.which("docker"):
        return None
    # Give a coordinator that still downloads its database time to serve, or to exit.
    answering = until(answers, 30)
    info = parsed("docker", "info", "--format", "{{json .}}") or {}
    container = (parsed("docker", "inspect", "mesh-coordinator") or [{}])[0]
    return {
        "active": run("systemctl", "is-active", "docker.service")[1],
        "enabled": run("systemctl", "is-enabled", "docker.service")[1],
        "info": {key: info.get(key) for key in ("LoggingDriver", "SecurityOptions", "ServerVersion")},
        "coordinator": {
            "state": container.get("State", {}),
            "restarts": container.get("RestartCount", 0),
            # Never the setup key itself.
            "has_key": f"SETUP_KEY={sys.argv[2]}" in container.get("Config", {}).get("Env", []),
            "env": [e for e in container.get("Config", {}).get("Env", []) if e.startswith("ENDPOINT=")],
            "answers": answering,
            "log": run("docker", "logs", "--tail", "5", "mesh-coordinator")[1],
        },
    }


def libvirt():
    return {
        "qemu": shutil.which("qemu-system-x86_64") is not None,
        "domains": run("virsh", "--connect", "qemu:///system", "list")[0] if shutil.which("virsh") else 127,
    }


def members(group):
    try:
        return grp.getgrnam(group).gr_mem
    except KeyError:
        return []


listening = listen(int(sys.argv[1]))
print(
    json.dumps(
        {
            "listening": listening,
            "failed_units": failed_units(),
            "nft": firewall(),
            "sshd": sshd(),
            "sysctl": sysctl(),
            "docker": docker(),
            "caddy": run("systemctl", "is-active", "caddy.service")[1],
            "caddy_root": CADDY_ROOT.read_text() if CADDY_ROOT.exists() else "",
            "libvirt": libvirt(),
            "groups": {group: members(group) for group in ("libvirt", "kvm")},
        }
    )
)
