"""Where the cache lies, and that a user without any home is served without one."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from edge.errors import RunError
from edge.system.home import engine_cache, home

NOBODY = 54321  # a user id without an account
CASE = Path(__file__).parents[2] / "cases" / "2DBox_US_phantom.npz"
HOMES = ("HOME", "SAMEDGE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "USER", "LOGNAME")


def no_account(_user_id: int) -> None:
    raise KeyError("getpwuid(): uid not found")


@pytest.mark.parametrize("given", [None, "~/caches"])
def test_without_a_home_there_is_no_engine_cache(monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    """What must be kept (weights, training data) says what to set; SAMEDGE_HOME=~/caches cannot be found either."""
    for name in HOMES:
        monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv("SAMEDGE_HOME", given)
    monkeypatch.setattr(pwd, "getpwuid", no_account)
    assert engine_cache() is None
    with pytest.raises(RunError, match="set SAMEDGE_HOME"):
        home()


def without_homes() -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key not in HOMES}
    return {**environment, "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def as_nobody(tmp_path: Path) -> list[str]:
    """What to put before a command, to run it as a user without account, home or name in a folder of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become a user without an account")
    tmp_path.chmod(0o777)
    keep = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]  # the tests' own folders are root's alone
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *keep]
    if subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("needs setpriv, to become a user without an account")
    return command


def test_a_user_without_account_and_home_gets_every_case(tmp_path: Path, as_nobody: list[str]) -> None:
    """cron, systemd, `docker run --user`: predict, evaluate and bench end with 0 and no word on stderr."""
    environment = without_homes()

    def samedge(*arguments: object) -> None:
        command = [*as_nobody, sys.executable, "-m", "edge", *map(str, arguments)]
        run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (0, "")

    samedge("predict", CASE, "out", "-q")
    assert (tmp_path / "out" / CASE.name).is_file()
    samedge("evaluate", "out", CASE, "--csv", "scores.csv")
    samedge("bench", CASE, "--process", "--csv", "times.csv")


LENT = """
import getpass, os
from pathlib import Path
from edge.system.home import lend_home
before = dict(os.environ)
lend_home()
print(getpass.getuser(), Path.home().is_dir(), before == dict(os.environ), Path.home())
"""


def test_libraries_are_lent_a_name_and_a_home(as_nobody: list[str]) -> None:
    """Training and export import some that fail without; the folder is gone with the process."""
    command = [*as_nobody, sys.executable, "-c", LENT]
    run = subprocess.run(command, env=without_homes(), capture_output=True, text=True, check=True)
    name, there, unchanged, lent = run.stdout.split()
    assert (name, there, unchanged) == (str(NOBODY), "True", "False")
    assert not Path(lent).exists()


def test_nothing_is_lent_to_who_has_both() -> None:
    """A user as usual."""
    environment = {**without_homes(), "HOME": "/root", "USER": "somebody"}
    run = subprocess.run([sys.executable, "-c", LENT], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split()[2] == "True"
