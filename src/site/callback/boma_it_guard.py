"""Guard of connections: a task connects to the VM by OpenSSH, or runs on this machine if it is delegated to localhost.

`ssh_config` of the run confines OpenSSH to the VM. Every other connection plugin is refused before it connects.
"""

from __future__ import annotations

from pathlib import Path

from ansible.constants import LOCALHOST
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins import connection

# The allowed connection plugins, by file: a name may be an alias, or that of a plugin of the site.
SSH, LOCAL = [str(Path(connection.__file__).parent / name) for name in ("ssh.py", "local.py")]


def guard_connections(loader, refuse):
    """Replaces `get_with_context` of Ansible's connection `loader`. It covers all tasks: they run in forks.

    `refuse` is called with the wanted connection before the task fails: the playbook may ignore the failure, and in a
    loop Ansible loses its message.
    """
    get = loader.get_with_context
    # Since 2.21 the name without the underscore warns.
    aliases = loader._aliases if hasattr(loader, "_aliases") else loader.aliases

    def guarded(name, *args, **kwargs):
        known_as = aliases.get(name, name)
        found = loader.find_plugin_with_context(known_as, collection_list=kwargs.get("collection_list"))
        host = getattr(args[0], "remote_addr", None) if args else None
        plugin = found.plugin_resolved_path
        wanted = None
        if kwargs.get("class_only"):
            pass
        elif plugin not in (SSH, LOCAL):
            wanted = f"{host or 'a host'} by connection plugin {name}"
        # A local connection would apply to this machine what is meant for the host under test. Only the connection of
        # the task itself has a `task_uuid`; one that an action makes for another action (synchronize) has none.
        elif plugin == LOCAL and "task_uuid" in kwargs and host not in LOCALHOST:
            wanted = f"this machine as if it were {host}, by connection plugin local (use `delegate_to: localhost`)"
        if wanted:
            refuse(wanted)
            raise AnsibleConnectionFailure(
                f"boma-it: refused to reach {wanted}: only ssh to the VM and tasks delegated to localhost are in scope"
            )
        return get(name, *args, **kwargs)

    loader.get_with_context = guarded
