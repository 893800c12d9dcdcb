"""Put uv into a folder of the project, whatever Python there is: `python3 install_uv.py FOLDER`."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

VERSION = "0.13.9"


def main(folder: Path) -> int:
    """Make FOLDER/bin/uv. Returns the exit code."""
    present = shutil.which("uv")
    if present and _version(present) == VERSION:
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "bin" / "uv").symlink_to(present)
        return 0
    print(f"Installing uv {VERSION} into {folder} …", flush=True)
    try:
        venv.create(folder, with_pip=True, clear=True)
    except (subprocess.CalledProcessError, OSError) as err:
        print(
            f"Python cannot make an environment here: {err}. Its venv module is missing; on Debian "
            "`apt-get install python3-venv` brings it.",
            file=sys.stderr,
        )
        return 1
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run([*pip, f"uv=={VERSION}"], env=environment).returncode


def _version(uv: str) -> str:
    answer = subprocess.run([uv, "--version"], capture_output=True, text=True)
    words = answer.stdout.split()
    return words[1] if len(words) > 1 else ""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
