"""Where runs are done: one file each. Every executor does what `peftbench exec STORE RUN_ID...` does."""
