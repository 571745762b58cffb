"""Guard of connections: a task connects to the VM by OpenSSH, or runs on this machine if it is delegated to localhost.

`ssh_config` of the run confines OpenSSH to the VM. A loop variable can replace every option that Ansible passes on, so
the final command is checked too: it has our configuration, and beside it only options that cannot lead elsewhere. Every
other connection plugin is refused before it connects.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from ansible.constants import LOCALHOST
from ansible.errors import AnsibleConnectionFailure
from ansible.executor.task_executor import TaskExecutor
from ansible.plugins import connection

# The allowed connection plugins, by file: a name may be an alias, or that of a plugin of the site.
SSH, LOCAL = [str(Path(connection.__file__).parent / name) for name in ("ssh.py", "local.py")]
# The run's SSH programs and client configuration, which are beside this file.
FOLDER = Path(__file__).parent
PROGRAMS = {str(FOLDER / "bin" / name) for name in ("ssh", "scp", "sftp")}
CONFIG = str(FOLDER / "ssh_config")
# What Ansible passes with `-o` beside our own arguments, by ssh_config(5): none of it chooses another host or way.
OPTIONS = {
    "BatchMode",
    "ConnectTimeout",
    "ControlMaster",
    "ControlPersist",
    "IdentitiesOnly",
    "IdentityFile",
    "KbdInteractiveAuthentication",
    "NumberOfPasswordPrompts",
    "PasswordAuthentication",
    "Port",
    "PreferredAuthentications",
    "User",
}
# Options of ssh, scp and sftp without and with an argument that Ansible passes, by ssh(1) and sftp(1).
FLAGS = {"-C", "-q", "-r", "-s", "-t", "-tt", "-v", "-vv", "-vvv", "-vvvv"}
WITH_ARGUMENT = {"-b": {"-"}, "-F": {CONFIG}, "-O": {"check", "exit", "stop"}}


def guard_connections(loader, refuse):
    """Replaces `get_with_context` of Ansible's connection `loader`. It covers all tasks: they run in forks.

    `refuse` is called with the wanted connection before the task fails: the playbook may ignore the failure, and in a
    loop Ansible loses its message.
    """
    # The control sockets of a run are in the folder of its record.
    sockets = Path(os.environ.get("BOMA_IT_RECORD", "")).parent
    get = loader.get_with_context
    # Since 2.21 the name without the underscore warns.
    aliases = loader._aliases if hasattr(loader, "_aliases") else loader.aliases
    connect = TaskExecutor._get_connection
    # The host of the task in this process, and whether it is delegated there.
    meant = (None, False)

    @functools.wraps(connect)
    def connecting(executor, *args, **kwargs):
        nonlocal meant
        delegated = executor._task.delegate_to
        meant = (delegated or executor._host.name, bool(delegated))
        return connect(executor, *args, **kwargs)

    def stop(wanted):
        refuse(wanted)
        raise AnsibleConnectionFailure(
            f"boma-it: refused to reach {wanted}: only ssh to the VM and tasks delegated to localhost are in scope"
        )

    def guarded(name, *args, **kwargs):
        known_as = aliases.get(name, name)
        found = loader.find_plugin_with_context(known_as, collection_list=kwargs.get("collection_list"))
        host = getattr(args[0], "remote_addr", None) if args else None
        plugin = found.plugin_resolved_path
        if kwargs.get("class_only"):
            return get(name, *args, **kwargs)
        if plugin not in (SSH, LOCAL):
            stop(f"{host or 'a host'} by connection plugin {name}")
        # A local connection would apply to this machine what is meant for the host under test, whatever address that is
        # said to have. Only the connection of the task itself has a `task_uuid`; one that an action makes for another
        # action (synchronize) has none.
        if plugin == LOCAL and "task_uuid" in kwargs and not (meant[1] and meant[0] in LOCALHOST):
            stop(f"this machine as if it were {meant[0]}, by connection plugin local (use `delegate_to: localhost`)")
        made = get(name, *args, **kwargs)
        if plugin == SSH:
            guard_command(made.object, sockets, lambda what: stop(f"{made.object.host} by {what}"))
        return made

    TaskExecutor._get_connection = connecting
    loader.get_with_context = guarded


def guard_command(ssh, sockets, stop):
    """Checks every command of the connection `ssh` before it runs. `stop` is called with what is wrong with it."""
    build = ssh._build_command

    @functools.wraps(build)
    def checked(binary, subsystem, *others):
        command = build(binary, subsystem, *others)
        if problem := beyond([os.fsdecode(word) for word in command], ssh.host, sockets):
            stop(problem)
        return command

    ssh._build_command = checked


def beyond(command, host, sockets):
    """What of a command of Ansible's could lead elsewhere than to the VM, or None."""
    program, *words = command
    if program not in PROGRAMS:
        return f"the program {program}"
    words = iter(words)
    for word in words:
        if word == "-o":
            name, _, value = next(words, "").partition("=")
            value = value.strip('"')
            if name == "ControlPath" and Path(value).parent == sockets:
                continue
            if name not in OPTIONS:
                return f"ssh with the option {name}={value}"
        elif word in WITH_ARGUMENT:
            value = next(words, "")
            if value not in WITH_ARGUMENT[word]:
                return f"ssh with the option {word} {value}"
        elif not word.startswith("-"):
            # The host, and a command; or for scp two files, of which one is on the host.
            places = [word, *words] if program.endswith("/scp") else [word]
            hosts = [place.rpartition(":")[0] or place for place in places if not place.startswith("/")]
            return None if [name.strip("[]") for name in hosts] == [host] else f"ssh to {' and '.join(hosts)}"
        elif word not in FLAGS:
            return f"ssh with the option {word}"
    return "ssh without a host"
