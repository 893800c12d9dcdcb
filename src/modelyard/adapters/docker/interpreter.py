"""What of a base image does Python need to run these packages? Asked inside of that image.

This file is run by the base image's own Python, and imports nothing but its standard library. It
finds packages in WORK/packages and code in WORK/application, leaves the interpreter in
WORK/interpreter as it stands in the file system, compiles all three to bytecode, and prints what
it found as JSON.
"""

from __future__ import annotations

import json
import os
import platform
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

UNUSED_MODULES = frozenset(
    {"ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tests", "tkinter", "turtledemo"}
)
"""Of the standard library, and of no use to a server: an installer, windows, its own tests."""

_NO_MODULES = frozenset({"__pycache__", "site-packages", "dist-packages"})
_HEADERS = re.compile(r"config-\d")
_UNUSED_FILE = re.compile(
    r"(_test|_ctypes_test|_tkinter|_xx|xx|turtle\.py"
    r"|(nis|ossaudiodev|readline|_curses|_curses_panel|_dbm|_gdbm)\.|.*\.(a|o|exe)$)"
)

_SYSTEM_FILES = (
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/os-release",
    "/etc/debian_version",
    "/etc/ssl/openssl.cnf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/usr/lib/ssl/openssl.cnf",
    "/usr/lib/ssl/certs",
    "/usr/lib/ssl/cert.pem",
)
"""Read by the loader, by name resolution, by TLS, and by who looks for known flaws."""

_COMPILERS = 8
"""Always as many, each with its own share of the files: what a compiler has seen before can show
in the bytecode that it writes next, and two builds must not differ."""

_LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x[0-9a-f]+\)")


class Root:
    """Files of this system, copied below a folder with every link on the way to them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._links: set[Path] = set()
        self.files: set[Path] = set()

    def keep(self, path: Path) -> None:
        """Copy a file; nothing is done for one that is not there."""
        if not path.exists():
            return
        done, left = Path("/"), list(path.parts[1:])
        while left:
            part = left.pop(0)
            here = done.parent if part == ".." else done / part
            if here.is_symlink():
                target = here.readlink()
                self._link(here, target)
                done = Path("/") if target.is_absolute() else done
                left = [*(p for p in target.parts if p != "/"), *left]
            else:
                done = here
        if done.is_file() and done not in self.files:
            self.files.add(done)
            shutil.copy(done, self.place(done))

    def _link(self, link: Path, target: Path) -> None:
        if link not in self._links:
            self._links.add(link)
            self.place(link).symlink_to(target)

    def write(self, path: Path, text: str) -> None:
        self.place(path).write_text(text)

    def place(self, path: Path) -> Path:
        """Return where a file of this system goes, in a folder that is there."""
        target = self._folder / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def main(work: Path, site: Path, whole: bool) -> None:
    """Leave the interpreter and all bytecode; `whole` where the base image is kept as it is."""
    root = Root(work / "interpreter")
    (work / "interpreter").mkdir()
    stdlib = Path(sysconfig.get_path("stdlib"))
    modules = list(_standard_library(stdlib))
    if not whole:
        for path in (Path(sys.executable).resolve(), *map(Path, _SYSTEM_FILES), *modules):
            root.keep(path)
        programs = [Path(sys.executable), *(m for m in modules if m.suffix == ".so")]
        for library in _libraries([*programs, *_shared_objects(work / "packages")]):
            root.keep(library)
    system = _system_packages(root, whole)
    sources = [(m, root.place(_bytecode(m)), m) for m in modules if m.suffix == ".py"]
    for folder in (work / "packages", work / "application"):
        files = sorted(folder.rglob("*.py"))
        sources += [(f, _bytecode(f), site / f.relative_to(folder)) for f in files]
    _compile(sources)
    print(json.dumps({"python": platform.python_version(), "packages": system}))


def _standard_library(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if entry.name not in UNUSED_MODULES | _NO_MODULES and not _HEADERS.match(entry.name):
                yield from _standard_library(entry)
        elif not _UNUSED_FILE.match(entry.name):
            yield entry


def _shared_objects(folder: Path) -> Iterator[Path]:
    return (f for f in sorted(folder.rglob("*.so*")) if f.is_file() and not f.is_symlink())


def _libraries(programs: Iterable[Path]) -> set[Path]:
    """Return the shared libraries of this system that programs and libraries are linked to."""
    loader = _loader()

    def linked(program: Path) -> list[str]:
        done = subprocess.run([loader, "--list", program], capture_output=True, text=True)
        return _LIBRARY.findall(done.stdout)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = {Path(library) for libraries in pool.map(linked, programs) for library in libraries}
    # Before glibc 2.34 names are resolved by libraries that nothing is linked to.
    found |= {*loader.resolve().parent.glob("libnss_*.so.2")}
    ours = Path(__file__).parent
    return {library for library in found if not library.is_relative_to(ours)} | {loader}


def _loader() -> Path:
    """Return the program that the interpreter names to load its shared libraries."""
    with Path(sys.executable).open("rb") as program:
        named = re.search(rb"/lib[\w/.-]*/ld[\w.-]*\.so[.\d]*", program.read(4096))
    if named is None or b"musl" in named[0]:
        sys.exit("its C library is not glibc: set `docker.whole_base: true` to keep all of it")
    return Path(named[0].decode())


def _system_packages(root: Root, whole: bool) -> list[dict[str, str]]:
    """Return the Debian packages that the kept files come from, and keep what tells of them.

    Their paragraphs go to where scanners of images without a package manager look.
    """
    status = Path("/var/lib/dpkg/status")
    if not status.exists():
        return []
    kept = {_merged(str(path)) for path in root.files}
    found = []
    for paragraph in status.read_text().split("\n\n"):
        fields = dict(re.findall(r"^(\S+): (.*)$", paragraph, re.MULTILINE))
        name = fields.get("Package")
        if not name or not (whole or _owns(name, fields["Architecture"], kept)):
            continue
        found.append({"name": name, "version": fields["Version"], "arch": fields["Architecture"]})
        if not whole:
            root.write(Path("/var/lib/dpkg/status.d", name), f"{paragraph.strip()}\n")
            root.keep(Path("/usr/share/doc", name, "copyright"))
    return sorted(found, key=lambda package: package["name"])


def _owns(package: str, architecture: str, kept: set[str]) -> bool:
    for name in (package, f"{package}:{architecture}"):
        files = Path("/var/lib/dpkg/info", f"{name}.list")
        if files.exists():
            return any(_merged(line) in kept for line in files.read_text().splitlines())
    return False


def _merged(path: str) -> str:
    """Return a path in the one spelling that it has where /lib is a link to /usr/lib."""
    return path.removeprefix("/usr")


def _bytecode(source: Path) -> Path:
    """Return where the bytecode of a source file is looked for."""
    return source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"


def _compile(files: Iterable[tuple[Path, Path, Path]]) -> None:
    """Compile files, each with where its bytecode goes and the path that it will be found at."""
    given = [tuple(map(str, paths)) for paths in files]
    shares = [json.dumps(given[number::_COMPILERS]) for number in range(_COMPILERS)]

    def compile_share(share: str) -> None:
        subprocess.run(
            [sys.executable, __file__, "compile"],
            input=share,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_share, shares))


def compile_here(files: Iterable[tuple[str, str, str]]) -> None:
    """Compile files one after another; one that is no Python of this version stays as it is.

    Nobody compares bytecode with its source when it is loaded: the sources' times are all the same.
    """
    for file, bytecode, final in files:
        Path(bytecode).parent.mkdir(exist_ok=True)
        py_compile.compile(
            file,
            cfile=bytecode,
            dfile=final,
            quiet=2,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


if __name__ == "__main__":
    if sys.argv[1] == "compile":
        compile_here(json.load(sys.stdin))
    else:
        main(Path(__file__).parent, Path(sys.argv[2]), whole=sys.argv[1] == "whole")
