#!/bin/sh
# Have the two images that ModelYard builds on: Python for replicas, HAProxy for the gateway.
#
#   scripts/make_base_images.sh [PYTHON_IMAGE [GATEWAY_IMAGE]]
#
# The names default to those of configs/platform.yaml: python:3.11-slim and haproxy:lts. An image
# that is there is left alone; one that is not is pulled; where no registry answers, an equal is
# made from Debian packages (debootstrap; needs root). MODELYARD_BASE_IMAGE and
# MODELYARD_GATEWAY_IMAGE name them too; DEBIAN_MIRROR is where the packages come from.
set -eu
umask 022

PYTHON_IMAGE=${1:-${MODELYARD_BASE_IMAGE:-python:3.11-slim}}
GATEWAY_IMAGE=${2:-${MODELYARD_GATEWAY_IMAGE:-haproxy:lts}}
MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
PULL_SECONDS=${PULL_SECONDS:-120}

say() { echo "base images: $*"; }
fail() { echo "base images: $*" >&2; exit 1; }

present() { docker image inspect "$1" >/dev/null 2>&1; }

present_or_pulled() {
    present "$1" && { say "$1 is there"; return 0; }
    timeout "$PULL_SECONDS" docker pull -q "$1" >/dev/null 2>&1 && { say "pulled $1"; return 0; }
    say "$1 is not there and cannot be pulled: making an equal"
    return 1
}

docker version >/dev/null 2>&1 || fail "no Docker engine answers: run scripts/install_docker_engine.sh"
todo=""
present_or_pulled "$PYTHON_IMAGE" || todo="python"
present_or_pulled "$GATEWAY_IMAGE" || todo="$todo gateway"
[ -n "$todo" ] || exit 0

[ "$(id -u)" -eq 0 ] || fail "needs root to make them: sudo $0 $PYTHON_IMAGE $GATEWAY_IMAGE"

# Debian's own Python decides which suite can stand in for a python:X.Y image.
case "$PYTHON_IMAGE" in
    *:3.11*) suite=bookworm ;;
    *:3.13*) suite=trixie ;;
    *) fail "no Debian suite has the Python of $PYTHON_IMAGE: name a 3.11 or 3.13 image" ;;
esac
export DEBIAN_FRONTEND=noninteractive
if ! command -v debootstrap >/dev/null; then
    say "installing debootstrap"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
root=$work/root
say "bootstrapping Debian $suite from $MIRROR (about a minute)"
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates \
    "$suite" "$root" "$MIRROR" >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    fail "debootstrap failed; set DEBIAN_MIRROR to a mirror that this machine reaches"
}

make_python() {
    ln -s /usr/bin/python3 "$root/usr/local/bin/python"
    # Copyright files stay: the licences ask for them.
    tar -C "$root" -c --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' \
        --exclude='./var/log/*' --exclude='./usr/share/locale/*' --exclude='./usr/share/man/*' \
        --exclude='./usr/share/info/*' --exclude='./usr/share/doc/*/[!c]*' \
        --exclude='./usr/share/doc/*/changelog*' --exclude='./dev/*' --exclude='./proc/*' \
        --exclude='./sys/*' . |
        docker import \
            --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
            --change 'ENV LANG=C.UTF-8' --change 'CMD ["python"]' \
            --message "Debian $suite with its Python" - "$PYTHON_IMAGE" >/dev/null
    say "made $PYTHON_IMAGE"
}

# Only the two programs that the gateway needs and the libraries that they link to: HAProxy, and
# bash, through which the runtime API is asked from outside (as in Docker's own haproxy image).
make_gateway() {
    chroot "$root" apt-get install -y -qq --no-install-recommends haproxy >"$work/log" 2>&1 || {
        tail -n 20 "$work/log" >&2
        fail "apt-get could not install haproxy"
    }
    slim=$work/gateway
    mkdir -p "$slim/tmp"
    chmod 1777 "$slim/tmp"
    files=$(chroot "$root" ldd /usr/sbin/haproxy /bin/bash | grep -o '/[^ ():]*' | sort -u)
    for file in $files /bin/cat /etc/passwd /etc/group /usr/share/doc/haproxy/copyright; do
        mkdir -p "$slim$(dirname "$file")"
        # The target of a link inside the root, not inside this machine.
        cp "$root$(chroot "$root" readlink -f "$file")" "$slim$file"
    done
    ln -s bash "$slim/bin/sh"
    tar -C "$slim" -c . | docker import \
        --change 'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' --change 'USER haproxy' \
        --change 'CMD ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]' \
        --message "HAProxy from Debian $suite" - "$GATEWAY_IMAGE" >/dev/null
    say "made $GATEWAY_IMAGE"
}

for image in $todo; do "make_$image"; done
