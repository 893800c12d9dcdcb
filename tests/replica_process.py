"""A replica as a process of its own, for clients that speak HTTP to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replica(bundle: Path, digest: str, *options: str) -> Iterator[str]:
    """Serve a bundle on a free port of loopback; yield the URL once it is ready."""
    ready, told = os.pipe()
    with (
        socket.create_server(("127.0.0.1", 0), backlog=512) as listener,
        os.fdopen(ready, "rb") as pipe,
    ):
        command = [sys.executable, "-m", "modelyard.serving.replica", "--grace", "0.2"]
        command += ["--bundle", str(bundle), "--digest", digest, *options]
        command += ["--fd", str(listener.fileno()), "--ready-fd", str(told)]
        fds = (listener.fileno(), told)
        with subprocess.Popen(command, pass_fds=fds) as process:
            os.close(told)
            try:
                assert pipe.read(1), "the replica ended before it was ready"
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                process.terminate()
                assert process.wait(20) == 0
