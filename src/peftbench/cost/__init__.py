"""What a run costs, measured in the run."""
