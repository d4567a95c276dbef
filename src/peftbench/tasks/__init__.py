"""The tasks: one file each, its name is the task's name. Files with an underscore are machinery."""
