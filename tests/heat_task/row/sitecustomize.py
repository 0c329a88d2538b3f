"""The one row of the toy task, for programs that a test starts: this folder is on their path."""

from toolbox.registry import TASKS

TASKS._rows["heat"] = "heat_task.task:Heat"
