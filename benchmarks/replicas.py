"""How is one replica started as a process of its own, and asked over HTTP?"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Replica:
    """A replica that is ready."""

    url: str
    pid: int


@contextmanager
def serve(bundle: Path, digest: str, *options: str) -> Iterator[Replica]:
    """Serve a bundle on a free port of loopback until the block ends.

    `options` are those of `python -m modelyard.serving.replica`. Raises RuntimeError for a replica
    that does not start, or does not end well.
    """
    ready, told = os.pipe()
    with (
        socket.create_server(("127.0.0.1", 0), backlog=512) as listener,
        os.fdopen(ready, "rb") as pipe,
    ):
        command = [sys.executable, "-m", "modelyard.serving.replica", "--grace", "0.2"]
        command += ["--bundle", str(bundle), "--digest", digest, *options]
        command += ["--fd", str(listener.fileno()), "--ready-fd", str(told)]
        with subprocess.Popen(command, pass_fds=(listener.fileno(), told)) as process:
            os.close(told)
            try:
                if not pipe.read(1):
                    raise RuntimeError("The replica ended before it was ready.")
                yield Replica(f"http://127.0.0.1:{listener.getsockname()[1]}", process.pid)
            finally:
                process.terminate()
                code = process.wait(20)
    if code:
        raise RuntimeError(f"The replica ended with exit code {code}.")
