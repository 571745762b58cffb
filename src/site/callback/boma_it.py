"""Records a playbook run: one JSON object a line, written to the pipe that BOMA_IT_RECORD names.

Every line has an `event`: ansible, play, no_hosts_matched, start, refused, result, stats or problem; and of verify.yml
declared, notified, waived, unknown_play and round. The reader is `src/site/record.rs`. If a callback raises, Ansible
only warns and the result is lost, so an exception in here is recorded as a `problem`, and the run counts as errored.

The guard of connections is `boma_it_guard.py`, the evidence of what was evaluated `boma_it_evidence.py`, what a task is
`boma_it_tasks.py`, and what is private to Ansible `boma_it_private.py`. Without them this file does not load, and the
run fails.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from pathlib import Path

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import connection_loader
from ansible.release import __version__ as ansible_version
from ansible.template import Templar

# Ansible loads every file of this folder as a callback, so the other modules are one folder up.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from boma_it_evidence import continue_without_debugger, watch_tasks
from boma_it_guard import guard_connections
from boma_it_private import (
    ends_role,
    inventory_of,
    on_play_end,
    on_tasks_added,
    owed_handlers,
    parts_of,
    role_has_run,
    role_of,
    task_kept_for_rescue,
    uuid_of,
)
from boma_it_tasks import column_of, hosts_of, ignores_errors_itself, kind_of, name_of, never_fails, place_of

DOCUMENTATION = r"""
name: boma_it
type: notification
short_description: records tasks and their results as JSON lines
description:
  - Writes one JSON object a line to the file or pipe named by the environment variable E(BOMA_IT_RECORD).
requirements:
  - enabled by boma-it in the ansible.cfg of a run
"""

# Longest text kept of a result. The reader removes secrets and then keeps much less; a shorter limit here could cut a
# secret in half, and half a secret is not recognised.
LONGEST = 200_000


def recorded(method):
    """Records an exception in a callback instead of raising it."""

    @functools.wraps(method)
    def wrapper(self, *args, **kwargs):
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self._record("problem", what=f"{method.__name__}: {type(error).__name__}: {error}")

    return wrapper


def items_of(values):
    """The results of a loop, one for each item."""
    items = values.get("results")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def failed_modules(values):
    """What the modules said that could not gather facts: the message of `gather_facts` has only their names."""
    modules = values.get("failed_modules")
    said = modules.values() if isinstance(modules, dict) else []
    said = [it.get("module_stderr") or it.get("msg") for it in said if isinstance(it, dict)]
    return "\n".join(str(it).strip() for it in said if it)


def text(value):
    """A value as text, shortened to its end; None if it is empty."""
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
        self._names, self._written = {}, {}
        self._own_ignore = {}
        self._begun = {}
        self._items = {}
        self._variables = None
        self._rescued = {}
        # Of verify.yml: the host under test, the plays that started, and the tasks that Ansible should run there.
        self._host = os.environ.get("BOMA_IT_DECLARE")
        self._started = set()
        self._declared = []
        self._handlers = set()
        # The tasks of each `rescue`, by block, and the block of each of them.
        self._rescues, self._rescue_of = {}, {}
        # A role may be used several times: the use of each of its tasks, how many there are, and which have begun.
        self._use_of, self._uses, self._begun_uses = {}, {}, set()
        guard_connections(connection_loader, lambda wanted: self._record("refused", wanted=wanted))
        continue_without_debugger()
        path = os.environ.get("BOMA_IT_RECORD")
        if path:
            try:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._fd = os.open(path, flags, 0o600)
            except OSError as error:
                self._display.warning(f"boma_it: cannot open {path}: {error}")
        self._record("ansible", version=ansible_version)
        if self._host:
            watch_tasks(self._record)
            on_tasks_added(self._declare_included)
            on_play_end(self._play_ended)

    def _record(self, event, **fields):
        """Writes a line in one unbuffered call: the reader gets whole lines, a forked worker has nothing to flush."""
        if self._fd is None:
            return
        try:
            line = json.dumps(dict(fields, event=event), default=str, ensure_ascii=False) + "\n"
            # Half a surrogate pair is no text; neither is a byte that Python smuggled through as one.
            os.write(self._fd, line.encode("utf-8", "replace"))
        except Exception as error:
            self._display.warning(f"boma_it: lost a record: {error}")

    # -- plays ----------------------------------------------------------------------------------------------------

    @recorded
    def v2_playbook_on_start(self, playbook):
        self._playbook = playbook

    @recorded
    def v2_playbook_on_play_start(self, play):
        self._play = name_of(play)
        self._variables = play.get_variable_manager()
        self._record("play", play=self._play, hosts=hosts_of(play))
        if self._host:
            self._started.add(uuid_of(play))
            self._declare_play(play, inventory_of(self._variables).get_hosts(play.hosts))

    def _declare_play(self, play, hosts, handlers=()):
        """Records what a play has for the host under test: the reader sees what was never reached."""
        if self._host not in [found.name for found in hosts]:
            return
        tags = (play.only_tags, play.skip_tags, self._variables.get_vars(play=play))
        for block in play.compile():
            self._declare_block(block, play, tags)
        self._declare_handlers(play, [*handlers, *play.handlers])

    def _declare_handlers(self, play, blocks):
        for handler in [handler for block in blocks for handler in block.block]:
            if uuid_of(handler) not in self._handlers:
                self._handlers.add(uuid_of(handler))
                self._declare_task(handler, play, "handler")

    @recorded
    def _declare_included(self, play, host, blocks):
        if host == self._host:
            for block in blocks:
                # Ansible has left out what the tags do not select.
                self._declare_block(block, play, None)
            # The play has got the handlers of a role with it.
            self._declare_handlers(play, play.handlers)

    def _declare_block(self, block, play, tags, rescue=None):
        for task in list(block.block) + list(block.always):
            self._declare_any(task, play, tags, rescue)
        for task in block.rescue:
            self._declare_any(task, play, tags, uuid_of(block))

    def _declare_any(self, task, play, tags, rescue):
        if hasattr(task, "block"):
            self._declare_block(task, play, tags, rescue)
        elif ends_role(task):
            self._uses[role_of(task)] = self._uses.get(role_of(task), 0) + 1
        elif tags is None or task.evaluate_tags(*tags):
            self._use_of[uuid_of(task)] = (role_of(task), self._uses.get(role_of(task), 0))
            if rescue is not None:
                self._rescues.setdefault(rescue, []).append((play, task))
                self._rescue_of[uuid_of(task)] = rescue
            # A rescue that did not run has missed no assertion.
            self._declare_task(task, play, None if rescue is None else "rescue")

    def _enter_rescue(self, task):
        """Declares the tasks of a `rescue` with the first of them that starts: now all of them should run."""
        for play, other in self._rescues.pop(self._rescue_of.get(uuid_of(task)), []):
            self._declare_task(other, play, None)

    def _declare_task(self, task, play, part):
        self._written[uuid_of(task)] = name_of(task)
        kind = kind_of(task)
        # A probe is of interest if it notifies a handler: without it the handler does not run.
        if kind != "probe" or task.notify:
            self._declared.append((play, task))
            kind = {"include": "include", "probe": "notifier"}.get(kind, "assertion")
            kind = kind if kind == "notifier" and part == "handler" else part or kind
            place = {"path": place_of(task), "column": column_of(task)}
            self._record("declared", uuid=uuid_of(task), kind=kind, task=name_of(task), **place)

    def _declare_the_rest(self):
        """Records what the plays that never started have for the host."""
        inventory = inventory_of(self._variables)
        for play in self._playbook.get_plays():
            if uuid_of(play) in self._started:
                continue
            try:
                templar = Templar(loader=self._playbook._loader, variables=self._variables.get_vars(play=play))
                hosts = inventory.get_hosts(templar.template(play.hosts), ignore_restrictions=True)
            except Exception:
                # It depends on what Ansible would have known by then.
                self._record("unknown_play", play=name_of(play), hosts=hosts_of(play))
                continue
            # A play gets the handlers of its roles as it starts.
            self._declare_play(play, hosts, play.compile_roles_handlers())
        for play, task in self._declared:
            # A use that has begun is not left out, and neither is a handler.
            has_begun = uuid_of(task) in self._handlers or self._use_of.get(uuid_of(task)) in self._begun_uses
            if not has_begun and role_has_run(play, task, inventory.get_host(self._host)):
                self._record("waived", uuid=uuid_of(task))

    @recorded
    def v2_playbook_on_notify(self, handler, host):
        if host.name == self._host:
            self._record("notified", uuid=uuid_of(handler))

    @recorded
    def _play_ended(self, strategy, iterator):
        for handler in owed_handlers(strategy, iterator, self._host):
            self._record("notified", uuid=uuid_of(handler))

    @recorded
    def v2_playbook_on_no_hosts_matched(self):
        self._record("no_hosts_matched", play=self._play)

    # -- tasks ----------------------------------------------------------------------------------------------------

    @recorded
    def v2_playbook_on_task_start(self, task, is_conditional):  # noqa: ARG002 - Ansible passes it by this name
        # Only here is the name templated; in the result it is raw again.
        uuid = uuid_of(task)
        self._enter_rescue(task)
        self._begun_uses.add(self._use_of.get(uuid))
        # Of a name that is a number, some versions make nothing.
        self._names[uuid] = name_of(task) if task.name else self._written.get(uuid) or name_of(task)
        self._own_ignore[uuid] = ignores_errors_itself(task)
        self._begun[uuid] = time.monotonic()
        self._record(
            "start",
            play=self._play,
            task=self._names[uuid],
            path=place_of(task),
            action=task.action,
        )

    def v2_playbook_on_handler_task_start(self, task):
        self.v2_playbook_on_task_start(task, False)

    @recorded
    def v2_runner_on_start(self, host, task):
        self._begun[(host.name, uuid_of(task))] = time.monotonic()

    @recorded
    def v2_runner_on_ok(self, result):
        self._result(result, "ok")

    # Since 2.21 the results of a loop do not say which of them failed, but each item has its own event.

    @recorded
    def v2_runner_item_on_ok(self, result):
        self._item_ended(result, "ok")

    @recorded
    def v2_runner_item_on_skipped(self, result):
        self._item_ended(result, "skipped")

    @recorded
    def v2_runner_item_on_failed(self, result):
        self._item_ended(result, "unreachable" if result.is_unreachable() else "failed")

    def _item_ended(self, result, status):
        task, host, _ = parts_of(result)
        self._items.setdefault((host, uuid_of(task)), []).append(status)

    @recorded
    def v2_runner_on_failed(self, result, ignore_errors=False):
        # In a loop, one item may have failed and another may have been unreachable.
        task, host, _ = parts_of(result)
        if "unreachable" in self._items.get((host, uuid_of(task)), []):
            self._result(result, "unreachable")
        else:
            rescued = self._is_rescued(host)
            self._result(result, "failed", ignored=bool(ignore_errors), rescued=rescued)

    def _is_rescued(self, host):
        """Whether a `rescue` takes over from the latest failure: then Ansible has just kept the failed task for it."""
        kept = task_kept_for_rescue(self._variables, host)
        is_new = kept is not None and kept is not self._rescued.get(host)
        self._rescued[host] = kept
        return is_new

    @recorded
    def v2_runner_on_skipped(self, result):
        self._result(result, "skipped")

    @recorded
    def v2_runner_on_unreachable(self, result):
        self._result(result, "unreachable", ignored=bool(parts_of(result)[0].ignore_unreachable))

    def _result(self, result, status, ignored=False, rescued=False):
        task, host, values = parts_of(result)
        uuid, now = uuid_of(task), time.monotonic()
        begun = self._begun.get((host, uuid), self._begun.get(uuid, now))
        ends = self._items.pop((host, uuid), [])
        record = {
            "play": self._play,
            "uuid": uuid,
            "kind": kind_of(task),
            "task": self._names.get(uuid) or name_of(task),
            "role": str(task._role.get_name()) if task._role else None,
            "path": place_of(task),
            "column": column_of(task),
            "action": str(task.action),
            "tags": [str(tag) for tag in task.tags],
            "host": host,
            "status": status,
            "changed": bool(values.get("changed", False)),
            "ignored": ignored,
            "ignores_itself": self._own_ignore.get(uuid, False),
            "never_fails": never_fails(task),
            "rescued": rescued,
            "seconds": round(now - begun, 3),
        }
        if task.delegate_to:
            record["delegate"] = str(task.delegate_to)
        # Ansible has already removed what `no_log` hides.
        if task.no_log is True or "censored" in values:
            record["no_log"] = True
        else:
            record["output"] = self._output(values, status == "failed")
            record["items"] = [self._item(item, end) for item, end in zip(items_of(values), ends, strict=False)]
        self._record("result", **record)

    @staticmethod
    def _output(values, failed):
        # A text instead of a boolean is the reason why `failed_when` could not be evaluated.
        judged = values.get("failed_when_result")
        unevaluated = None if isinstance(judged, bool) else text(judged)
        output = {
            # An include that could not load its file has a `reason`.
            "msg": text(values.get("msg") or values.get("reason")) or unevaluated,
            "reason": text(values.get("skip_reason")),
            # For an assert, the condition that did not hold.
            "condition": text(values.get("assertion")),
            "stderr": text(values.get("stderr") or values.get("module_stderr") or failed_modules(values)),
            "stdout": text(values.get("stdout") or values.get("module_stdout")) if failed else None,
            "rc": str(values["rc"]) if isinstance(values.get("rc"), int) else None,
        }
        return {key: value for key, value in output.items() if value is not None}

    def _item(self, values, end):
        failed = end in ("failed", "unreachable")
        if values.get("_ansible_no_log") or "censored" in values:
            return {"item": "(hidden)", "failed": failed, "output": {}}
        return {
            "item": text(self._get_item_label(values)) or "",
            "failed": failed,
            "output": self._output(values, failed),
        }

    # -- the end --------------------------------------------------------------------------------------------------

    @recorded
    def v2_playbook_on_stats(self, stats):
        if self._host and self._variables is not None:
            self._declare_the_rest()
        hosts = {host: {k: int(v) for k, v in stats.summarize(host).items()} for host in stats.processed}
        self._record("stats", hosts=hosts)
