"""One process that answers predictions for one release.

`--fd` serves on a listening socket that a supervisor opened and shares between replicas;
`--host --port` on a socket of its own, as in a container.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import socket
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.domain.values import ReplicaLimits
from modelyard.errors import ModelYardError

if TYPE_CHECKING:
    from modelyard.serving.bundle import Bundle

GRACE_SECONDS = 5.0
ORPHAN_GRACE_SECONDS = 1.0
"""Without its supervisor a replica leaves soon: the next supervisor wants the address."""

LAME_DUCK_SECONDS = 2.0
"""A gateway needs this long to see that /ready says no; nobody else takes the connections."""

API_KEYS_VARIABLE = "MODELYARD_API_KEYS"
"""Names a file of API keys, where the command line does not."""

_LIMITS = {
    "body_bytes": ("--max-body", "bytes of one request"),
    "rows": ("--max-rows", "rows of one request"),
    "seconds": ("--deadline", "seconds to answer in"),
    "waiting": ("--max-waiting", "requests that may wait for their prediction"),
}
"""The options that set the fields of ReplicaLimits."""

REFUSED = 3
"""Exit code of a replica that does not trust its bundle: starting it again will not help."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # OpenMP threads fight over small batches; read when numpy is first imported, hence before it
    os.environ["OMP_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")  # of libraries, for each request with a level never seen
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        serve(options)
    except ModelYardError as err:
        print(f"The replica does not start. {type(err).__name__}: {err}", file=sys.stderr)
        return REFUSED
    return 0


def serve(options: argparse.Namespace) -> None:
    """Load the bundle, prove it on its golden rows, and serve until asked to stop."""
    bundle = load_proven(options.bundle, options.digest)

    from modelyard.serving.api_keys import ApiKeys, require_keys_beyond_loopback
    from modelyard.serving.app import Replica
    from modelyard.serving.batching import Limits
    from modelyard.serving.inference_log import InferenceLog
    from modelyard.serving.server import DrainingServer, server_config

    log = InferenceLog(options.log, bundle.manifest.version) if options.log else None
    keys = ApiKeys(options.api_keys) if options.api_keys else None
    own_socket = options.fd is None
    if own_socket:
        require_keys_beyond_loopback(
            options.host, has_keys=keys is not None, open_to_all=options.behind_gateway
        )
    replica = Replica(
        bundle,
        log,
        replica=f"{socket.gethostname()}-{os.getpid()}",
        api_keys=keys,
        limits=Limits(**{name: getattr(options, name) for name in _LIMITS}),
    )
    listener = (
        _listen(options.host, options.port) if own_socket else socket.socket(fileno=options.fd)
    )

    def ready() -> None:
        if options.lifeline_fd is not None:
            asyncio.get_running_loop().add_reader(options.lifeline_fd, orphaned)
        if options.ready_fd is not None:
            os.write(options.ready_fd, b"1")
            os.close(options.ready_fd)

    def draining() -> None:
        replica.draining = True

    def orphaned() -> None:
        asyncio.get_running_loop().remove_reader(options.lifeline_fd)
        server.drain(ORPHAN_GRACE_SECONDS)

    server = DrainingServer(
        server_config(replica.app(), direct=replica.direct()),
        grace_seconds=options.grace,
        lame_duck_seconds=LAME_DUCK_SECONDS if own_socket else 0.0,
        on_ready=ready,
        on_drain=draining,
    )
    server.run(sockets=[listener])
    if log is not None:
        log.close()


def load_proven(folder: Path, digest: str) -> Bundle:
    """Load a release's bundle, and prove it on its golden rows.

    Raises BundleError when it is not the one of `digest`, or does not predict as recorded.
    """
    # Two thousand modules are imported, and next to nothing of that is ever garbage: to look for
    # some in between costs a fifth of the time, and again and again while requests are answered.
    gc.disable()
    try:
        from modelyard.serving.bundle import load_bundle

        bundle = load_bundle(folder, digest)
        bundle.check_golden()
        gc.freeze()
    finally:
        gc.enable()
    return bundle


def limit_options(limits: ReplicaLimits) -> list[str]:
    """Return the options that give a replica its limits, none for what is as usual."""
    usual = ReplicaLimits()
    return [
        word
        for name, (option, _) in _LIMITS.items()
        if (value := getattr(limits, name)) != getattr(usual, name)
        for word in (option, f"{value:g}" if isinstance(value, float) else str(value))
    ]


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelyard.serving.replica", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the release's bundle")
    parser.add_argument("--digest", required=True, help="digest that the bundle must have")
    parser.add_argument("--log", type=Path, help="folder of the inference log; none: not logged")
    parser.add_argument("--grace", type=float, default=GRACE_SECONDS, help="seconds to drain")
    parser.add_argument(
        "--api-keys",
        type=Path,
        default=os.environ.get(API_KEYS_VARIABLE) or None,
        help="file of API keys, one a line; none: everybody may ask",
    )
    parser.add_argument(
        "--behind-gateway",
        action="store_true",
        help="listen beyond loopback without API keys: something else decides who gets here",
    )
    usual = ReplicaLimits()
    for name, (option, what) in _LIMITS.items():
        value = getattr(usual, name)
        parser.add_argument(option, dest=name, type=type(value), default=value, help=what)
    parser.add_argument("--fd", type=int, help="inherited listening socket")
    parser.add_argument("--ready-fd", type=int, help="gets one byte when requests are accepted")
    parser.add_argument("--lifeline-fd", type=int, help="the replica leaves when it is closed")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    return parser


if __name__ == "__main__":
    sys.exit(main())
