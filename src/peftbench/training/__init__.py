"""Training one adapter: batches, the loop, schedules."""
