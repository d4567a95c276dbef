"""How long the command line takes to answer, beside a bare interpreter, interleaved in one run.

Run: python benchmarks/startup.py [rounds]. Prints medians of whole-process wall and CPU time in milliseconds.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "peftbench --help": ["-m", "peftbench", "--help"],
    "peftbench list tasks": ["-m", "peftbench", "list", "tasks"],
    "peftbench plan quickstart": ["-m", "peftbench", "plan", "quickstart"],
}


def measure(arguments: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)  # noqa: S603 - our own command
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure every command in turn, round by round."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, arguments in COMMANDS.items():
            seen[name].append(measure(arguments))
    print(f"{'command':28s} {'wall ms':>8s} {'cpu ms':>8s}   ({rounds} rounds, medians)")
    for name, times in seen.items():
        wall, cpu = (1000 * statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:28s} {wall:8.0f} {cpu:8.0f}")


if __name__ == "__main__":
    main()
