"""Members of Ansible that are private or undocumented, for the callback plugin.

It reads them nowhere else, except for `_display` and `_get_item_label` of CallbackBase, which plugins are meant to use.
The guard gets `connection_loader` from the plugin; of that it uses `get_with_context` (replaced),
`find_plugin_with_context` and `aliases` (`_aliases`). What the guard and the evidence wrap is in their own files.
"""

from __future__ import annotations

import functools

from ansible.executor.play_iterator import PlayIterator
from ansible.plugins.strategy import StrategyBase

# The ansible-core versions for which they were checked, oldest first. `make setup` installs them, and tests/ansible/
# runs with each.
CHECKED_AGAINST = ("2.18.0", "2.19.14", "2.21.5")


def uuid_of(task):
    return task._uuid


def parts_of(result):
    """The task, the name of the host, and the values that the task returned."""
    return result._task, result._host.name, result._result


def inventory_of(variable_manager):
    return variable_manager._inventory


def task_kept_for_rescue(variable_manager, host):
    """The failed task that Ansible keeps as `ansible_failed_task` for the `rescue` that takes over from it."""
    return variable_manager._nonpersistent_fact_cache.get(host, {}).get("ansible_failed_task")


def on_tasks_added(declare):
    """Calls `declare` with the play, the host and the blocks of an include that Ansible has just loaded."""
    add = PlayIterator.add_tasks

    @functools.wraps(add)
    def watched(self, host, blocks):
        declare(self._play, host.name, blocks)
        return add(self, host, blocks)

    PlayIterator.add_tasks = watched


def on_play_end(call):
    """Calls `call` with the strategy and the iterator of each play that ends."""
    run = StrategyBase.run

    @functools.wraps(run)
    def watched(self, iterator, *args, **kwargs):
        call(self, iterator)
        return run(self, iterator, *args, **kwargs)

    StrategyBase.run = watched


def owed_handlers(strategy, iterator, host):
    """The handlers that a play still owes a host. Ansible keeps names, and looks for them when it runs handlers."""
    state = iterator._host_states.get(host)
    for name in state.handler_notifications if state else []:
        yield from strategy.search_handlers_by_notification(name, iterator)


def ends_role(task):
    """Whether this is the task with which Ansible marks the end of a role."""
    return task.implicit and task._role is not None and task.args.get("_raw_params") == "role_complete"


def role_of(task):
    """What tells a task's role, with its parameters, from others; none without a role."""
    return None if task._role is None else id(task._role)


def role_has_run(play, task, host):
    """Whether Ansible leaves out a task because its role has run before, and may not run twice."""
    if task._role is None or task._role._metadata.allow_duplicates:
        return False
    known = play.role_cache.get(task._role.get_role_path(), [])
    return any(role == task._role and role.has_run(host) for role in known)
