"""Replicas as they are looked up on an engine, without one."""

from __future__ import annotations

from docker.models.containers import Container

from modelyard.adapters.docker.replicas import (
    ADDRESS_LABEL,
    DIGEST_LABEL,
    IMAGE_LABEL,
    NUMBER_LABEL,
    SLOT_LABEL,
    VERSION_LABEL,
    Replica,
)


def replica(
    version: str,
    number: int,
    slot: str = "a",
    status: str = "running",
    started: str = "2026-03-01T12:00:00.000000001Z",
) -> Replica:
    labels = {
        VERSION_LABEL: version,
        DIGEST_LABEL: f"digest-{version}",
        IMAGE_LABEL: f"image-{version}",
        ADDRESS_LABEL: f"10.0.0.{number}",
        SLOT_LABEL: slot,
        NUMBER_LABEL: str(number),
    }
    attrs = {
        "Id": f"{version.replace('.', '')}{number:09d}",
        "Config": {"Labels": labels},
        "State": {"Status": status, "StartedAt": started},
    }
    return Replica(Container(attrs=attrs))
