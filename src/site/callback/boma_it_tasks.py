"""What a task or a play of a playbook is: its kind, its name and its place, as the callback plugin records them."""

from __future__ import annotations

from jinja2 import Environment, TemplateError
from jinja2.nodes import Name

# Modules whose tasks are unknown until they run.
INCLUDES = ("include_role", "include_tasks")

# Modules that assert nothing, whatever their tags: a play's tags also apply to its fact gathering and includes.
NO_ASSERTION = ("add_host", "debug", "gather_facts", "group_by", "meta", "set_fact", "setup")


def kind_of(task):
    """What a task is for: `assert` or `fail` by any name; tagged `assertion`; an include; or a probe of facts."""
    module = str(task.action).rpartition(".")[2]
    if module in ("assert", "fail"):
        return module
    if module in INCLUDES:
        return "include"
    if module in NO_ASSERTION or module.startswith(("include", "import_")):
        return "probe"
    return "tagged" if "assertion" in task.tags else "probe"


def name_of(named):
    """The name of a task or play: of a task with its role. It may be a number."""
    return str(named.get_name()).strip()


def hosts_of(play):
    """The `hosts` of a play as written, one pattern each: a template is not replaced."""
    hosts = (play.get_ds() or {}).get("hosts", play.hosts)
    return [str(pattern) for pattern in (hosts if isinstance(hosts, (list, tuple)) else [hosts])]


def place_of(task):
    """`file:line` of a task; nothing if nobody wrote it, as the gathering of facts."""
    return task.get_path() or ""


def column_of(task):
    """The column of a task in its file: two of them may be on one line. None if nobody wrote it."""
    origin = getattr(task, "_origin", None)
    if origin is not None:
        return origin.col_num
    # Before 2.19.
    position = getattr(task.get_ds(), "ansible_pos", None)
    return position[2] if position else None


def ignores_errors_itself(task):
    """Whether the task itself has `ignore_errors`, and not its block or play for all that is in it."""
    return "ignore_errors" in (task.get_ds() or {})


def never_fails(task):
    """Whether a task has a `failed_when` that depends on nothing, such as `false`: what it finds does not matter."""
    conditions = task.failed_when
    # Until 2.20 it always is a list.
    conditions = conditions if isinstance(conditions, (list, tuple)) else [conditions]
    return bool(conditions) and all(is_constant(condition) for condition in conditions)


def is_constant(condition):
    """Whether a condition names no variable and calls no function."""
    if not isinstance(condition, str):
        return isinstance(condition, bool)
    text = condition if "{{" in condition or "{%" in condition else "{{ " + condition + " }}"
    try:
        return not any(Environment(autoescape=True).parse(text).find_all(Name))
    except TemplateError:
        return False
