#!/bin/sh
# Give a Debian machine a running Docker engine. Safe to run again; quick when one answers.
#
#   scripts/install_docker_engine.sh
#
# Works where systemd does not run (a container, a small virtual machine): dockerd is then started
# detached, with its log in /var/log/dockerd.log. Needs root, or sudo.
set -eu

LOG=/var/log/dockerd.log
WAIT_SECONDS=${WAIT_SECONDS:-60}

say() { echo "docker engine: $*"; }
fail() { echo "docker engine: $*" >&2; exit 1; }

# `docker info` exits 0 on some releases although no engine answers; `docker version` does not.
engine_version() { docker version --format '{{.Server.Version}}' 2>/dev/null; }

wait_for_engine() {
    for _ in $(seq "$WAIT_SECONDS"); do
        engine_version >/dev/null && return 0
        sleep 1
    done
    return 1
}

if version=$(engine_version); then
    say "version $version already answers"
    exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "needs root to install and start it: run as root"
    exec sudo WAIT_SECONDS="$WAIT_SECONDS" sh "$0" "$@"
fi

if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
    command -v apt-get >/dev/null ||
        fail "this is not Debian or Ubuntu; see https://docs.docker.com/engine/install/"
    say "installing docker.io"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # The client is a package of its own from Debian 13 on.
    client=$(apt-cache --names-only search '^docker-cli$' | cut -d' ' -f1)
    # shellcheck disable=SC2086  # an empty $client must vanish
    apt-get install -y -qq --no-install-recommends docker.io iptables ca-certificates $client \
        >/dev/null || fail "apt-get could not install docker.io (its message is above)"
fi

if [ -d /run/systemd/system ]; then
    say "starting it through systemd"
    systemctl enable --now docker
elif ! pgrep -x dockerd >/dev/null; then
    say "starting dockerd (log: $LOG)"
    # A file left by an engine that was killed would keep the new one from starting.
    rm -f /var/run/docker.pid
    setsid dockerd >>"$LOG" 2>&1 </dev/null &
fi

wait_for_engine || {
    tail -n 20 "$LOG" >&2 2>/dev/null || true
    fail "does not answer after $WAIT_SECONDS s; the last lines of $LOG are above"
}
say "version $(engine_version) answers"
[ -z "${SUDO_USER:-}" ] ||
    say "to use it without sudo: sudo usermod -aG docker $SUDO_USER, then log in again"
