"""One JSON line for each thing that happens in a playbook run, written to the pipe that BOMA_IT_RECORD names.

Every line has an `event`: ansible, declared, play, no_hosts_matched, start, refused, result, stats or trouble. The reader is
boma-it's `site` room. A callback that raises would only be warned about by Ansible and its result lost in silence, so
trouble of our own is recorded as such and read as "could not find out".

And one guard: a task is connected by OpenSSH, which is confined to the VM, or is delegated to this machine; every other
connection is refused before it is made.
"""

from __future__ import annotations

import functools
import json
import os
import time

from ansible.constants import LOCALHOST
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins import connection
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import connection_loader
from ansible.release import __version__ as ansible_version

DOCUMENTATION = r"""
name: boma_it
type: notification
short_description: records tasks and their results as JSON lines
description:
  - Writes one JSON object a line to the file or pipe named by the environment variable E(BOMA_IT_RECORD).
requirements:
  - enabled by boma-it in the ansible.cfg of a run
"""

# Longest text taken over from a result. The reader takes secrets out and keeps much less: cutting here, before that,
# could leave half a secret.
LONGEST = 200_000

# The connection plugins that are let be, by file: a name may be an alias, or that of the site's own plugin.
SSH, LOCAL = [os.path.join(os.path.dirname(connection.__file__), name) for name in ("ssh.py", "local.py")]

# Modules whose tasks are known once they run.
INCLUDES = ("include_role", "include_tasks")

# Modules that assert nothing, whatever their tags: a play's tags are those of its facts and includes as well.
NO_ASSERTION = ("add_host", "debug", "gather_facts", "group_by", "meta", "set_fact", "setup")

# How Ansible begins to say that a task was not carried out as its condition or arguments could not be evaluated.
UNEVALUATED = (
    "Task failed: Error while evaluating conditional",
    "Task failed: Finalization of task args",
    "The conditional check ",
    "The task includes an option with an undefined variable",
)


def recorded(method):
    """Turns an exception of ours into a record of it: a callback never breaks the run."""

    @functools.wraps(method)
    def wrapper(self, *args, **kwargs):
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # pylint: disable=broad-except
            self._record("trouble", what="%s: %s: %s" % (method.__name__, type(error).__name__, error))

    return wrapper


def guard_connections(refuse):
    """Lets no task be connected but by OpenSSH, or to this machine where it is delegated to it. Tasks run in forks of this
    process, so that it holds for all.

    `refuse` hears what was wanted before it fails: a playbook may survive that, or Ansible lose the words (in a loop).
    """
    get = connection_loader.get_with_context

    def guarded(name, *args, **kwargs):
        known_as = connection_loader.aliases.get(name, name)
        found = connection_loader.find_plugin_with_context(known_as, collection_list=kwargs.get("collection_list"))
        host = getattr(args[0], "remote_addr", None) if args else None
        plugin = found.plugin_resolved_path
        wanted = None
        if kwargs.get("class_only"):
            pass
        elif plugin not in (SSH, LOCAL):
            wanted = "%s by connection plugin %s" % (host or "a host", name)
        # What is applied to the host under test would be applied to this machine. The task's own connection has its uuid; an
        # action that takes another to do its part here (synchronize) has none.
        elif plugin == LOCAL and "task_uuid" in kwargs and host not in LOCALHOST:
            wanted = "this machine as if it were %s, by connection plugin local (delegate_to: localhost says so)" % host
        if wanted:
            refuse(wanted)
            raise AnsibleConnectionFailure(
                "boma-it: refused to reach %s: only ssh to the VM, and what is delegated to localhost, are in scope" % wanted
            )
        return get(name, *args, **kwargs)

    connection_loader.get_with_context = guarded


def is_assertion(task):
    """Module `assert` or `fail` under any of its names, or a task tagged `assertion` that may assert something."""
    module = task.action.rpartition(".")[2]
    if module in NO_ASSERTION or module.startswith(("include", "import_")):
        return False
    return module in ("assert", "fail") or "assertion" in task.tags


def is_include(task):
    return task.action.rpartition(".")[2] in INCLUDES


def is_unevaluated(task, values):
    """Whether a failed task says nothing of what it asserts, as that could not be evaluated; or what it would include."""
    if is_include(task):
        return True
    if not is_assertion(task):
        return False
    items = [item for item in values.get("results") or [] if isinstance(item, dict) and item.get("failed")]
    if items:
        return any(is_unevaluated(task, item) for item in items)
    if "censored" in values:
        return False
    if task.action.rpartition(".")[2] == "assert":
        return "evaluated_to" not in values
    # `failed_when` gives a boolean, or the words of why it could not.
    return not isinstance(values.get("failed_when_result", False), bool) or str(values.get("msg")).startswith(UNEVALUATED)


def text(value):
    """A value as text, the end of it if it is long; nothing if it is nothing."""
    if value is None or value == "" or value == []:
        return None
    if isinstance(value, (list, tuple)):
        value = " and ".join(str(part) for part in value)
    value = str(value)
    return value if len(value) <= LONGEST else "… " + value[-LONGEST:]


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "boma_it"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._fd = None
        self._playbook = None
        self._play = ""
        self._declared = False
        self._names = {}
        self._begun = {}
        self._variables = None
        self._rescued = {}
        guard_connections(lambda wanted: self._record("refused", wanted=wanted))
        path = os.environ.get("BOMA_IT_RECORD")
        if path:
            try:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._fd = os.open(path, flags, 0o600)
            except OSError as error:
                self._display.warning("boma_it: cannot open %s: %s" % (path, error))
        self._record("ansible", version=ansible_version)

    def _record(self, event, **fields):
        """One write a line: whole lines for the reader, and nothing buffered for a forked worker to flush again."""
        if self._fd is None:
            return
        try:
            line = json.dumps(dict(fields, event=event), default=str) + "\n"
            os.write(self._fd, line.encode("utf-8", "surrogateescape"))
        except Exception as error:  # pylint: disable=broad-except
            self._display.warning("boma_it: lost a record: %s" % error)

    # -- plays ----------------------------------------------------------------------------------------------------

    @recorded
    def v2_playbook_on_start(self, playbook):
        self._playbook = playbook

    @recorded
    def v2_playbook_on_play_start(self, play):
        self._play = play.get_name().strip()
        self._variables = play.get_variable_manager()
        self._record("play", play=self._play)
        if not self._declared and os.environ.get("BOMA_IT_DECLARE") and self._playbook is not None:
            self._declared = True
            self._declare(self._variables._inventory)

    def _declare(self, inventory):
        """Names what lies ahead for the host under test, so that what is never reached is known."""
        host = os.environ.get("BOMA_IT_DECLARE")
        for play in self._playbook.get_plays():
            if "{{" in str(play.hosts) or host not in [found.name for found in inventory.get_hosts(play.hosts)]:
                continue
            for block in play.compile():
                self._declare_block(block, play.get_name().strip())

    def _declare_block(self, block, play, is_rescue=False):
        for task in list(block.block) + list(block.always):
            self._declare_task(task, play, is_rescue)
        # A rescue that was not needed is not an assertion that was missed.
        for task in block.rescue:
            self._declare_task(task, play, True)

    def _declare_task(self, task, play, is_rescue):
        if hasattr(task, "block"):
            self._declare_block(task, play, is_rescue)
        elif is_assertion(task) or is_include(task):
            kind = "rescue" if is_rescue else "include" if is_include(task) else "assertion"
            self._record("declared", kind=kind, play=play, task=task.get_name().strip(), path=task.get_path() or "")

    @recorded
    def v2_playbook_on_no_hosts_matched(self):
        self._record("no_hosts_matched", play=self._play)

    # -- tasks ----------------------------------------------------------------------------------------------------

    @recorded
    def v2_playbook_on_task_start(self, task, is_conditional):
        # The name is templated now and raw again by the time of the result.
        self._names[task._uuid] = task.get_name().strip()
        self._begun[task._uuid] = time.monotonic()
        self._record(
            "start",
            play=self._play,
            task=self._names[task._uuid],
            path=task.get_path() or "",
            action=task.action,
        )

    def v2_playbook_on_handler_task_start(self, task):
        self.v2_playbook_on_task_start(task, False)

    @recorded
    def v2_runner_on_start(self, host, task):
        self._begun[(host.name, task._uuid)] = time.monotonic()

    @recorded
    def v2_runner_on_ok(self, result):
        self._result(result, "ok")

    @recorded
    def v2_runner_on_failed(self, result, ignore_errors=False):
        # Of a loop, one item may have failed and another not been reached.
        items = result._result.get("results") or []
        if any(isinstance(item, dict) and item.get("unreachable") for item in items):
            self._result(result, "unreachable")
        else:
            rescued = self._is_rescued(result._host.name)
            self._result(result, "failed", ignored=bool(ignore_errors), rescued=rescued)

    def _is_rescued(self, host):
        """Whether a `rescue` takes over from the failure just seen: then Ansible has just kept it for that to read."""
        kept = self._variables._nonpersistent_fact_cache.get(host, {}).get("ansible_failed_task")
        is_new = kept is not None and kept is not self._rescued.get(host)
        self._rescued[host] = kept
        return is_new

    @recorded
    def v2_runner_on_skipped(self, result):
        self._result(result, "skipped")

    @recorded
    def v2_runner_on_unreachable(self, result):
        self._result(result, "unreachable", ignored=bool(result._task.ignore_unreachable))

    def _result(self, result, status, ignored=False, rescued=False):
        task, host, values = result._task, result._host.name, result._result
        now = time.monotonic()
        begun = self._begun.get((host, task._uuid), self._begun.get(task._uuid, now))
        record = {
            "play": self._play,
            "task": self._names.get(task._uuid) or task.get_name().strip(),
            "path": task.get_path() or "",
            "action": task.action,
            "tags": [str(tag) for tag in task.tags],
            "host": host,
            "status": status,
            "changed": bool(values.get("changed", False)),
            "ignored": ignored,
            "rescued": rescued,
            "assertion": is_assertion(task),
            "unevaluated": status == "failed" and is_unevaluated(task, values),
            "seconds": round(now - begun, 3),
        }
        if task.delegate_to:
            record["delegate"] = str(task.delegate_to)
        # What `no_log` hides, Ansible has taken out before we are called; this says so in our words.
        if task.no_log is True or "censored" in values:
            record["no_log"] = True
        else:
            record["said"] = self._said(values, status == "failed")
            record["items"] = [self._item(item) for item in values.get("results") or [] if isinstance(item, dict)]
        self._record("result", **record)

    @staticmethod
    def _said(values, failed):
        # Words instead of a boolean say why `failed_when` could not be evaluated.
        judged = values.get("failed_when_result")
        said = {
            # A file that could not be included has a `reason`.
            "msg": text(values.get("msg") or values.get("reason")) or (None if isinstance(judged, bool) else text(judged)),
            "reason": text(values.get("skip_reason")),
            # An assert's condition only says something when it is the one that did not hold.
            "condition": text(values.get("assertion")),
            "stderr": text(values.get("stderr") or values.get("module_stderr")),
            "stdout": text(values.get("stdout") or values.get("module_stdout")) if failed else None,
            "rc": values.get("rc") if isinstance(values.get("rc"), int) else None,
        }
        return {key: value for key, value in said.items() if value is not None}

    def _item(self, values):
        if values.get("_ansible_no_log") or "censored" in values:
            return {"item": "(hidden)", "failed": bool(values.get("failed")), "said": {}}
        failed = bool(values.get("failed") or values.get("unreachable"))
        return {
            "item": text(self._get_item_label(values)) or "",
            "failed": failed,
            "said": self._said(values, failed),
        }

    # -- the end --------------------------------------------------------------------------------------------------

    @recorded
    def v2_playbook_on_stats(self, stats):
        hosts = {host: {k: int(v) for k, v in stats.summarize(host).items()} for host in stats.processed}
        self._record("stats", hosts=hosts)
