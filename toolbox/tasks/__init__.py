"""The tasks: each is a folder here and one row in `toolbox.registry.TASKS`."""
