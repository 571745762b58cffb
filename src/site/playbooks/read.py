"""Reads playbooks as Ansible does, runs nothing, and writes what they have for the host under test, as JSON.

    python3 read.py QUESTION ANSWER ARGUMENT...

The arguments are those of `ansible-playbook`, with a playbook for each phase of the question. The question and the
answer are files; `src/site/playbooks.rs` writes the one and reads the other. Ansible's own loader finds plays, roles
and imports, and its own patterns select hosts: here, in the inventory of the run, and in production.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import ansible.cli.playbook
from ansible import constants
from ansible.errors import AnsibleError
from ansible.executor.playbook_executor import PlaybookExecutor
from ansible.inventory.manager import InventoryManager, split_host_pattern
from ansible.playbook.block import Block
from ansible.playbook.play import Play

# Beside this file in a workspace.
from boma_it_tasks import ignores_errors_itself, kind_of, name_of, never_fails, place_of

# What a task can be, besides an include and a probe.
ASSERTIONS = ("assert", "fail", "tagged")

# A play that selects only these runs on this machine, and a run is limited to the host under test.
LOCAL = {*constants.LOCALHOST}

# Fields of a task that hold the list of a loop have these names in a playbook.
LOOPS = ("loop", "with_items", "with_list", "with_flattened", "with_dict")

resolve = Play.post_validate


def resolve_if_known(play, templar):
    """Like Ansible, but a play whose `hosts` cannot be resolved yet is only marked."""
    try:
        templar.template(play.hosts)
    except AnsibleError as error:
        # A play without a name is called after its hosts.
        written, play.hosts, play.name = (play.hosts, play.name), ["all"], ""
        resolve(play, templar)
        (play.hosts, play.name), play.boma_it_unknown = written, str(error)
    else:
        resolve(play, templar)


def as_list(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


def is_blank(value):
    """Whether a value is written down and empty."""
    value = value.strip() if isinstance(value, str) else value
    return value is None or (isinstance(value, (str, list, tuple, dict)) and not value)


def production_of(groups, loader):
    """The production inventory, from `ansible-inventory --list`: its groups and hosts without their variables."""
    inventory = InventoryManager(loader=loader, parse=False)
    for name in groups:
        inventory.add_group(name)
    for name, group in groups.items():
        for host in group.get("hosts", []):
            inventory.add_host(host, group=name)
        for child in group.get("children", []):
            inventory.add_group(child)
            if child not in ("all", "ungrouped"):
                inventory.groups[name].add_child_group(inventory.groups[child])
    inventory.reconcile_inventory()
    return inventory


def selected(inventory, pattern):
    return sorted({host.name for host in inventory.get_hosts(pattern)})


class Reader(PlaybookExecutor):
    """Takes the place of what runs playbooks. Its superclass loads them if, as here, it is asked for a listing."""

    def run(self):
        question, answer = QUESTION, []
        production = production_of(question["production"], self._loader)
        for playbook, variables in zip(self._playbooks, question["phases"], strict=True):
            self._variable_manager.extra_vars.update(variables)
            known = (self._inventory, self._variable_manager, self._loader)
            executor = PlaybookExecutor([playbook], *known, self.passwords)
            (entry,) = executor.run()
            answer.append([self.play(play, playbook, production) for play in entry["plays"]])
        ANSWER.write_text(json.dumps(answer, default=str), encoding="utf-8", errors="surrogateescape")
        return 0

    def play(self, play, playbook, production):
        self._loader.set_basedir(play._included_path or os.path.realpath(Path(playbook).parent))
        unknown = getattr(play, "boma_it_unknown", None)
        pattern = [str(part) for part in as_list(play.hosts)]
        parts = [part for part in split_host_pattern(pattern) if part and part[0] not in "!&"]
        here = [] if unknown else selected(self._inventory, pattern)
        there = [] if unknown else selected(production, pattern)
        found = {
            "name": name_of(play),
            "path": place_of(play),
            "pattern": pattern,
            "unknown": unknown,
            "here": here,
            "production": [name for name in there if name not in LOCAL],
            "local": bool(LOCAL.intersection(there)),
            "unmatched": [part for part in parts if not unknown and not selected(production, [part])],
            "tags": {str(tag) for tag in play.tags},
            "tasks": [],
        }
        blocks = [(block, False) for block in play.compile()]
        handlers = [*play.handlers, *play.compile_roles_handlers()]
        for block, is_handler in blocks + [(block, True) for block in handlers]:
            found["tasks"].extend(task_facts(task, is_handler) for task in tasks_of(block))
        for task in found["tasks"]:
            if not task["handler"]:
                found["tags"].update(task["tags"])
        found["tags"] = sorted(found["tags"])
        return found


def tasks_of(block):
    if not isinstance(block, Block):
        if not (block.action in constants._ACTION_META and block.implicit):
            yield block
        return
    for section in (block.block, block.rescue, block.always):
        for inner in section:
            yield from tasks_of(inner)


def task_facts(task, is_handler):
    """What is written on a task. A template stays unknown: nothing is true of it."""
    written = task.get_ds() or {}
    module, kind = str(task.action).rpartition(".")[2], kind_of(task)
    loops = [written[key] for key in LOOPS if key in written]
    conditions = as_list(task.args.get("that"))
    return {
        "name": name_of(task),
        "path": place_of(task),
        "handler": is_handler,
        "tags": [str(tag) for tag in task.tags],
        "kind": "assertion" if kind in ASSERTIONS else kind,
        "asserts_nothing": module == "assert" and "that" in task.args and all(map(is_blank, conditions)),
        "loops_over_nothing": any(is_blank(value) for value in loops),
        "not_waited_for": str(task.async_val) not in ("0", "") and str(task.poll) == "0",
        "always_changes": (
            module in ("command", "shell", "raw", "script")
            and not {"creates", "removes"}.intersection(task.args)
            and as_list(written.get("changed_when", True)) in ([], [True])
        ),
        "ignored": never_fails(task) or (ignores_errors_itself(task) and written["ignore_errors"] is True),
    }


if __name__ == "__main__":
    QUESTION = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    ANSWER = Path(sys.argv[2])
    Play.post_validate = resolve_if_known
    ansible.cli.playbook.PlaybookExecutor = Reader
    ansible.cli.playbook.PlaybookCLI.cli_executor(["ansible-playbook", "--list-hosts", "--list-tags", *sys.argv[3:]])
