"""Kinds of work: each task is a folder here and one row of `toolbox.registry.TASKS`."""
