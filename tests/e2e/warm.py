"""Commands in processes that need not import the libraries first: forked from one that has done so and nothing else.

Importing torch, transformers and peft takes four seconds of a processor, most of what a small run takes. A server does
it once for each process of tests; a command that would import them is forked from it, with arguments, folder,
environment and standard streams of its own. Whatever is about starting, local workers, or other settings of the
libraries goes through a process that starts from nothing, see `command`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import shlex
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping
from functools import cache
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import IO, Any

# The verbs that run models; others start in no time.
VERBS = {"check", "evaluate", "exec", "run"}
# What the libraries look at when they are imported, and what they write when a test imports them.
_LOOKED_AT = ("HF_", "TRANSFORMERS_", "TORCH", "PYTHON", "OMP_", "CUDA", "XDG_", "HOME", "LD_")
_WRITTEN = {"TORCHINDUCTOR_CACHE_DIR"}


class Warm:
    """The server, as those see it who ask it for commands, one after the other."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.looked_at = looked_at(environment)
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(environment)
        )
        atexit.register(self._stop)

    @property
    def pid(self) -> int:
        """The process whose only child is the command."""
        return self._server.pid

    def do(
        self, arguments: list[str], folder: Path, environment: Mapping[str, str], given: str
    ) -> tuple[int, str, str]:
        """Exit code and both outputs of a command."""
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(tempfile.NamedTemporaryFile("w+", encoding="utf-8")) for _ in range(3)]
            streams[0].write(given)
            streams[0].flush()
            job = {
                "arguments": arguments,
                "folder": str(folder),
                "environment": dict(environment),
                "streams": [stream.name for stream in streams],
            }
            assert self._server.stdin is not None
            assert self._server.stdout is not None
            self._server.stdin.write(json.dumps(job) + "\n")
            self._server.stdin.flush()
            code = int(self._server.stdout.readline())
            out, err = (_read(stream) for stream in streams[1:])
            return code, out, err

    def _stop(self) -> None:
        self._server.communicate()


@cache
def server() -> Warm:
    """The one of this process, started with the first command."""
    from e2e.command import environment

    return Warm(environment())


def looked_at(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that the libraries look at when they are imported."""
    return {key: value for key, value in environment.items() if key.startswith(_LOOKED_AT) and key not in _WRITTEN}


def _read(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()


@contextlib.contextmanager
def shell_function(folder: Path) -> Iterator[str]:
    """A definition of `peftbench` for a shell script, as long as the script runs: it asks the server as tests do.

    What the command says comes when it is over.
    """
    address = str(folder / "warm")

    def answer() -> None:
        # Closed when nobody answers any more, so that no command waits for it.
        with listener:
            while True:
                with listener.accept() as asked:
                    job = asked.recv()
                    if job is None:
                        return
                    arguments, folder, environment = job
                    assert server().looked_at == looked_at(environment), "the page changes settings of the libraries"
                    asked.send(server().do(arguments, folder, environment, ""))

    listener = Listener(address)
    thread = threading.Thread(target=answer)
    thread.start()
    ask = shlex.join([sys.executable, __file__, address])
    try:
        yield f'peftbench() {{ case "$1" in {"|".join(VERBS)}) {ask} "$@";; *) command peftbench "$@";; esac; }}'
    finally:
        # The thread has ended already when a command could not be answered.
        with contextlib.suppress(OSError), Client(address) as last:
            last.send(None)
        thread.join()


def _ask(address: str, arguments: list[str]) -> int:
    with Client(address) as server:
        server.send((arguments, Path.cwd(), dict(os.environ)))
        code, out, err = server.recv()
    sys.stdout.write(out)
    sys.stderr.write(err)
    return int(code)


def _serve() -> None:
    """Import the libraries, then fork for every line."""
    import matplotlib.figure  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import peftbench.cli
    import peftbench.runner  # noqa: F401

    # No command searches what all of them share for garbage.
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _become(job: dict[str, Any]) -> None:
    """What `python -m peftbench` does, up to the exit code."""
    for number, name in enumerate(job["streams"]):
        os.dup2(os.open(name, os.O_WRONLY | os.O_APPEND if number else os.O_RDONLY), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    sys.argv = ["peftbench", *job["arguments"]]
    sys.path[0] = ""
    code = 0
    try:
        runpy.run_module("peftbench", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter ends a program
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(_ask(sys.argv[1], sys.argv[2:]))
    _serve()
