"""Evidence of how each task of verify.yml was evaluated, from inside the process that runs it.

A result says how a task ended, not whether anything was evaluated: an empty `assert` is ok, a module that could not run
is failed, and `no_log` hides what would tell them apart. So the parts of Ansible that evaluate conditions and run
actions are wrapped. What they did is recorded as one `round` for a task, or for each item of its loop, before Ansible
hides anything. A round has counts and flags, and no text of the playbook or of the host.

What a round means is decided in `src/site/verdict.rs`.
"""

from __future__ import annotations

import functools

from ansible.executor.task_executor import TaskExecutor
from ansible.playbook.conditional import Conditional
from ansible.plugins.action import ActionBase
from ansible.plugins.strategy import Debugger, NextAction
from ansible.template import Templar

try:
    from ansible._internal._templating._engine import TemplateEngine
except ImportError:
    # Before 2.19.
    TemplateEngine = None
try:
    from ansible._internal._task import TaskContext
except ImportError:
    # Before 2.19.
    TaskContext = None

# Keys of a result that Ansible itself adds, or that every failure has: they do not show that a module did its work.
NOT_OWN = {
    "attempts",
    "changed",
    "deprecations",
    "exception",
    "failed",
    "invocation",
    "msg",
    "retries",
    "skipped",
    "warnings",
}


# Keys that the wrapper of a job in the background adds, also for a module that it killed or could not read.
OF_A_JOB = {
    "ansible_job_id",
    "child_pid",
    "cmd",
    "data",
    "finished",
    "outdata",
    "results_file",
    "started",
    "stderr",
    "stderr_lines",
    "stdout",
    "stdout_lines",
}


class Round:
    """What is seen of a task, or of one item of its loop. Ansible runs one at a time in a process."""

    current = None

    def __init__(self):
        # Whether the action was started, ended with an exception, or returned.
        self.action = "none"
        self.in_action = False
        # Conditions of the action itself (those of `assert`), in its last attempt, by their value.
        self.held = self.broke = self.odd = 0
        # Conditions of keywords, such as `when` and `until`, that were false.
        self.false = 0
        # Conditions of either kind that could not be evaluated.
        self.errors = 0
        # Results of modules that could be read, and that could not; and commands of a shell, for a module or alone.
        self.parsed = self.garbled = self.commands = 0
        # Whether the action becomes another user.
        self.become = False
        self.values = {}

    def start(self, become):
        """Starts an attempt: with `until`, only the last one counts."""
        self.action, self.in_action, self.become = "started", True, become
        self.held = self.broke = self.odd = self.parsed = self.garbled = self.commands = 0
        self.values = {}

    def condition(self, value):
        if not self.in_action:
            self.false += value is False
        elif value is True:
            self.held += 1
        elif value is False:
            self.broke += 1
        else:
            self.odd += 1

    def fields(self, final):
        counts = ("held", "broke", "odd", "false", "errors", "parsed", "garbled", "commands")
        return {
            "action": self.action,
            **{name: getattr(self, name) for name in counts},
            "become": self.become,
            "returned": self.values,
            "failed": is_failed(final),
            "changed": bool(final.get("changed")),
            "skipped": bool(final.get("skipped")),
        }


def values_of(result):
    """The values of a result. Since 2.21 Ansible has a class for it."""
    if result is None or isinstance(result, dict):
        return result or {}
    return result.as_result_dict()


def is_failed(values):
    """Whether a result says that it failed, as Ansible reads it."""
    return bool(values.get("failed", values.get("rc") not in (None, 0, "0")))


def summary(values):
    """What the values of an action's result show, without the values."""
    # Module `command` notes when its program ended; it has none of that if there was no program to start.
    is_command = "cmd" in values and "end" in values
    is_job = "ansible_job_id" in values
    not_own = NOT_OWN | (OF_A_JOB if is_job else set())
    facts = [key for key in values.get("ansible_facts") or {} if not key.startswith("discovered_interpreter")]
    own = [key for key in values if key not in not_own and key != "ansible_facts" and not key.startswith("_ansible")]
    rc = values.get("rc")
    return {
        "failed": is_failed(values),
        "rc": None if rc is None else str(rc)[:20],
        "ended": values["end"] is not None if is_command else None,
        "stdout": bool(values.get("stdout")),
        "stderr": bool(values.get("stderr")),
        "own": bool(own or facts),
        # A job in the background that has not ended.
        "pending": is_job and not values.get("finished"),
    }


def watch_tasks(record):
    """Wraps what evaluates tasks. `record` writes an event; it works in each process that Ansible forks."""
    watch_conditions()
    watch_modules()

    def write(executor, final, seen, **more):
        task = executor._task
        record("round", uuid=task._uuid, host=executor._host.name, **seen.fields(final), **more)

    # Since 2.19 the outer of the two turns an exception into a result.
    name = "_execute_internal" if hasattr(TaskExecutor, "_execute_internal") else "_execute"
    execute, run = getattr(TaskExecutor, name), TaskExecutor.run

    @functools.wraps(execute)
    def watched_execute(self, *args, **kwargs):
        Round.current = seen = Round()
        self.boma_it_rounds = getattr(self, "boma_it_rounds", 0) + 1
        final, is_complete = None, False
        try:
            final = execute(self, *args, **kwargs)
            is_complete = True
            return final
        finally:
            Round.current = None
            write(self, values_of(final), seen, is_complete=is_complete)

    @functools.wraps(run)
    def watched_run(self, *args, **kwargs):
        result = run(self, *args, **kwargs)
        final = values_of(result)
        if not getattr(self, "boma_it_rounds", 0) and final.get("skipped"):
            # A loop over an empty list. Ansible has not evaluated `when`, by which the task may not be for the host.
            seen = Round()
            seen.false = int(is_kept_off(self))
            write(self, final, seen, is_complete=True)
        return result

    setattr(TaskExecutor, name, watched_execute)
    TaskExecutor.run = watched_run
    watch_actions()


def is_kept_off(executor):
    """Whether the task's `when` is false without an item of its loop."""
    task = executor._task
    if TemplateEngine is None:
        variables = executor._job_vars

        def holds():
            return task.evaluate_conditional(Templar(loader=executor._loader, variables=variables), variables)
    else:
        # Since 2.21 they are those of the context.
        variables = getattr(executor, "_job_vars", None) or TaskContext.current().task_vars

        def holds():
            return task._resolve_conditional(task.when, variables)

    try:
        return not holds()
    except Exception:
        # It needs the item.
        return False


def watch_actions():
    """Notes how the action of a task ends, and what it returns before keywords such as `failed_when` change it."""
    find, poll = TaskExecutor._get_action_handler_with_module_context, TaskExecutor._poll_async_result

    @functools.wraps(find)
    def watched_find(self, *args, **kwargs):
        found = find(self, *args, **kwargs)
        watch_run(found[0])
        return found

    @functools.wraps(poll)
    def watched_poll(self, *args, **kwargs):
        seen = Round.current
        garbled = seen.garbled if seen else 0
        result = poll(self, *args, **kwargs)
        if seen:
            values = values_of(result)
            # Ansible asks again if an answer in between could not be read.
            seen.garbled, seen.values = garbled, summary(values) | {"pending": not values.get("finished")}
        return result

    TaskExecutor._get_action_handler_with_module_context = watched_find
    TaskExecutor._poll_async_result = watched_poll


def watch_run(action):
    run = action.run

    @functools.wraps(run)
    def watched(*args, **kwargs):
        seen = Round.current
        if seen is None:
            return run(*args, **kwargs)
        seen.start(getattr(action._connection, "become", None) is not None)
        try:
            result = run(*args, **kwargs)
            seen.values = summary(values_of(result))
            seen.action = "returned"
            return result
        finally:
            seen.in_action = False
            if seen.action != "returned":
                seen.action = "raised"

    action.run = watched


def watch_modules():
    """Notes whether what came back from a module can be read: a missing interpreter or a traceback cannot."""
    parse, shell = ActionBase._parse_returned_data, ActionBase._low_level_execute_command

    @functools.wraps(parse)
    def watched(self, *args, **kwargs):
        data = parse(self, *args, **kwargs)
        if seen := Round.current:
            if getattr(data, "ansible_parsed", values_of(data).get("_ansible_parsed")) is True:
                seen.parsed += 1
            else:
                seen.garbled += 1
        return data

    @functools.wraps(shell)
    def watched_shell(self, *args, **kwargs):
        result = shell(self, *args, **kwargs)
        if seen := Round.current:
            seen.commands += 1
        return result

    ActionBase._parse_returned_data = watched
    ActionBase._low_level_execute_command = watched_shell


def watch_conditions():
    if TemplateEngine is None:
        watch_conditions_before_2_19()
        return
    strip = TemplateEngine._strip_conditional_handle_empty
    evaluate = TemplateEngine._normalize_and_evaluate_conditional

    @functools.wraps(strip)
    def watched_strip(self, conditional):
        value = strip(self, conditional)
        # With `allow_broken_conditionals`, an empty condition is taken for true.
        if value is True and conditional is not True and Round.current:
            Round.current.odd += 1
        return value

    @functools.wraps(evaluate)
    def watched_evaluate(self, conditional):
        try:
            value = evaluate(self, conditional)
        except Exception:
            if Round.current:
                Round.current.errors += 1
            raise
        if Round.current:
            Round.current.condition(value)
        return value

    TemplateEngine._strip_conditional_handle_empty = watched_strip
    TemplateEngine._normalize_and_evaluate_conditional = watched_evaluate


def watch_conditions_before_2_19():
    check, evaluate = Conditional._check_conditional, Conditional.evaluate_conditional_with_result

    def is_boolean(self, conditional, templar, all_vars):
        try:
            return check(self, f"({conditional}) is boolean", templar, all_vars)
        except Exception:
            return False

    @functools.wraps(check)
    def watched_check(self, conditional, templar, all_vars):
        try:
            value = check(self, conditional, templar, all_vars)
        except Exception:
            if Round.current:
                Round.current.errors += 1
            raise
        if seen := Round.current:
            # It takes any value for true or false; later versions refuse all but booleans. Evaluating again is for the
            # conditions of `assert` only.
            is_odd = seen.in_action and not is_boolean(self, conditional, templar, all_vars)
            seen.condition(None if is_odd else value)
        return value

    @functools.wraps(evaluate)
    def watched_evaluate(self, *args, **kwargs):
        result = evaluate(self, *args, **kwargs)
        if seen := Round.current:
            # Those that are no text it does not check: nothing, which it takes for true, and booleans.
            for condition in self.when:
                if condition is None or condition == "" or isinstance(condition, bool):
                    seen.condition(condition)
        return result

    Conditional._check_conditional = watched_check
    Conditional.evaluate_conditional_with_result = watched_evaluate


def continue_without_debugger():
    """Goes on where a playbook would start the debugger: nobody is there to type, and Ansible would give up."""

    def go_on(self):
        self.next_action.result = NextAction.CONTINUE

    Debugger.cmdloop = go_on
