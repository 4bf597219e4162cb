from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from threading import Timer
from typing import Any

import duckdb
import pytest

from market_pipeline.doctor.folders import check_data_dir, check_modes
from market_pipeline.errors import PublishError
from market_pipeline.security.access import Change, Roles, changes
from market_pipeline.tables import open_catalogue
from market_pipeline.warehouse.catalogue import connect
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline_tests.warehouse.writers import BBO, DAY, PERP, publish_run, rows_of

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("useradd") is None,
    reason="users are made by root, with useradd",
)


Connect = Callable[[Path], duckdb.DuckDBPyConnection]


def become(user: str, warm: Path) -> None:
    """Be that user from now on, with everything imported that the user may not be able to read."""
    publish_run(Warehouse(warm), 1)
    read(warm, connect)
    os.chdir(warm.parent)
    list(check_modes(warm, None))
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.umask(0o077)


def publish(data_dir: Path, run: int) -> None:
    publish_run(Warehouse(data_dir), run)


def why_not_published(data_dir: Path, run: int) -> str:
    with pytest.raises(PublishError) as caught:
        publish(data_dir, run)
    return str(caught.value)


def read(data_dir: Path, connect: Connect = open_catalogue) -> tuple[int, int]:
    """Rows of a table by the catalogue and by its Delta log."""
    with connect(data_dir) as connection:
        (by_sql,) = connection.sql(
            "SELECT count(*) FROM market.books.bbo WHERE symbol = 'BTC-USDT-PERP'"
        ).fetchall()[0]
    return by_sql, scan(Warehouse(data_dir), BBO, DAY, {PERP}).collect().height


def rows(data_dir: Path) -> int:
    """Rows of a table by its Delta log alone."""
    return scan(Warehouse(data_dir), BBO, DAY, {PERP}).collect().height


def refused(paths: list[Path]) -> list[Path]:
    """Those that cannot be opened, or listed."""
    found = []
    for path in paths:
        try:
            os.close(os.open(path, os.O_RDONLY))
        except PermissionError:
            found.append(path)
    return found


def warnings(data_dir: Path, readers: str) -> list[str]:
    """What the doctor warns of."""
    found = [*check_data_dir(data_dir, readers), *check_modes(data_dir, None, readers)]
    return [each[1] for each in found if each[0] != "ok"]


def apply(found: Iterator[Change]) -> list[str]:
    """Does what is to be done; what that was."""
    done = []
    for change in found:
        change.apply()
        done.append(change.text)
    return done


@dataclass
class Machine:
    """A machine with users of its own, and what each of them does."""

    root: Path
    roles: Roles
    private: dict[Path, str]
    users: dict[str, ProcessPoolExecutor]

    @property
    def data_dir(self) -> Path:
        return self.root / "data"

    def access(self) -> list[str]:
        """What the verb finds to do, done."""
        return apply(changes(self.roles, [self.data_dir], None, self.private))

    def as_user(self, user: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if user not in self.users:
            warm = self.root / f"warm-{user}"
            self.users[user] = ProcessPoolExecutor(1, get_context("spawn"), become, (user, warm))
        return self.users[user].submit(function, *arguments).result(timeout=300)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Users and a group that are there during the test alone."""
    mark = uuid.uuid4().hex[:8]
    roles = Roles(f"mpr{mark}", f"mpx{mark}", f"mpk{mark}")
    root = Path(tempfile.mkdtemp(prefix="access-"))
    root.chmod(0o711)
    private = {root / ".env": roles.runner, root / "master.env": roles.keeper}
    for path in private:
        path.write_text("PIPELINE_X=1\n")
    made = Machine(root, roles, private, {})
    try:
        yield made
    finally:
        for each in made.users.values():
            each.shutdown()
        shutil.rmtree(root)
        for command in (
            *(("userdel", "--remove", each) for each in (roles.runner, roles.keeper, f"mpa{mark}")),
            ("groupdel", roles.readers),
        ):
            subprocess.run(command, capture_output=True, check=False)


@needs_root
@pytest.mark.slow
def test_three_users(machine: Machine) -> None:
    """A reader reads what is published, also what comes later; only the keeper its key."""
    publish(machine.data_dir, 1)
    (foreign := machine.root / "foreign").touch(0o600)
    os.link(foreign, machine.data_dir / "tables/foreign")
    assert 7 == len(machine.access())
    assert [] == machine.access()
    assert (0, 0o600) == (foreign.stat().st_uid, stat.S_IMODE(foreign.stat().st_mode))

    runner, keeper = machine.roles.runner, machine.roles.keeper
    reader = f"mpa{runner[3:]}"
    subprocess.run(["useradd", "--groups", machine.roles.readers, reader], check=True)
    (machine.data_dir / "keys").mkdir(0o700)
    shutil.chown(machine.data_dir / "keys", runner)
    machine.as_user(runner, publish, machine.data_dir, 2)
    assert (rows_of(2), rows_of(2)) == machine.as_user(reader, read, machine.data_dir)

    closed = [
        *(machine.data_dir, machine.data_dir / "state", machine.data_dir / "keys"),
        *(machine.data_dir / "staging", *machine.private),
    ]
    assert closed == machine.as_user(reader, refused, closed)
    assert [machine.root / "master.env"] == machine.as_user(runner, refused, closed)
    key = (machine.root / "master.env").stat()
    assert (pwd.getpwnam(keeper).pw_uid, 0o600) == (key.st_uid, stat.S_IMODE(key.st_mode))

    assert [] == machine.access()
    assert [] == machine.as_user(runner, warnings, machine.data_dir, machine.roles.readers)
    wide = next(machine.data_dir.glob("tables/books/bbo/_delta_log/*.json"))
    wide.chmod(0o644)
    (found,) = machine.as_user(runner, warnings, machine.data_dir, machine.roles.readers)
    assert f"the first is {wide} (0644)" in found
    assert 1 == len(machine.access())
    assert 0o640 == stat.S_IMODE(wide.stat().st_mode)

    shutil.chown(wide, "root")
    wide.chmod(0o644)
    machine.as_user(runner, publish, machine.data_dir, 3)  # with a warning
    (found,) = machine.as_user(runner, warnings, machine.data_dir, machine.roles.readers)
    assert (0o644, True) == (stat.S_IMODE(wide.stat().st_mode), str(wide) in found)
    machine.access()
    assert (runner, 0o640) == (wide.owner(), stat.S_IMODE(wide.stat().st_mode))

    wide.chmod(0o600)  # as the Delta library makes it
    Timer(0.3, wide.chmod, [0o640]).start()
    assert rows_of(3) == machine.as_user(reader, rows, machine.data_dir)


@needs_root
@pytest.mark.slow
def test_a_runner_of_before(machine: Machine) -> None:
    """A process that began before its user came into the group says so, and closes nothing."""
    runner = machine.roles.runner
    subprocess.run(["useradd", runner], check=True)
    machine.data_dir.mkdir(0o700)
    shutil.chown(machine.data_dir, runner, runner)
    machine.as_user(runner, publish, machine.data_dir, 1)
    machine.access()
    why = machine.as_user(runner, why_not_published, machine.data_dir, 2)
    assert "Start the process anew" in why


class TestPlan:
    def test_own_user_and_group(self, tmp_path: Path) -> None:
        """Without root, a user opens what is published to a group of theirs, once."""
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
        publish(tmp_path / "data", 1)
        roles = Roles(group, user, user)
        done = apply(changes(roles, [tmp_path / "data"], None, {}))
        os.utime(tmp_path / "data/warehouse/market.duckdb")  # as if somebody wrote into it
        publish(tmp_path / "data", 2)

        assert 1 == len(done)
        assert [] == list(changes(roles, [tmp_path / "data"], None, {}))
        assert {True: {0o2750}, False: {0o440, 0o640}} == {
            is_folder: {
                stat.S_IMODE(path.stat().st_mode)
                for folder in ("tables", "warehouse")
                for path in (tmp_path / "data" / folder).rglob("*")
                if "set-aside" not in path.parts
                if path.is_dir() == is_folder and not path.is_symlink()
            }
            for is_folder in (True, False)
        }
        assert [] == warnings(tmp_path / "data", group)
        kept = tmp_path / "data/warehouse/set-aside"
        assert [0o700, 0o400] == [
            stat.S_IMODE(path.stat().st_mode) for path in (kept, *kept.iterdir())
        ]

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        """What a link below leads to keeps its mode: it may be anybody's."""
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
        (foreign := tmp_path / "foreign").write_text("x")
        foreign.chmod(0o644)
        Warehouse(tmp_path / "data").prepare()
        (tmp_path / "data/tables/link").symlink_to(foreign)
        (tmp_path / ".env").symlink_to(foreign)
        private = {tmp_path / ".env": user}
        apply(changes(Roles(group, user, user), [tmp_path / "data"], None, private))
        assert 0o644 == stat.S_IMODE(foreign.stat().st_mode)

    def test_the_data_folder_is_a_link(self, tmp_path: Path) -> None:
        """What the settings name is meant, also by a link."""
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
        Warehouse(tmp_path / "disk").prepare()
        (tmp_path / "data").symlink_to(tmp_path / "disk")
        assert 1 == len(apply(changes(Roles(group, user, user), [tmp_path / "data"], None, {})))
        assert 0o2750 == stat.S_IMODE((tmp_path / "disk/tables").stat().st_mode)
