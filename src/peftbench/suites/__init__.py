"""The suites that ship, one YAML file each, and the strict reader of suite files."""
