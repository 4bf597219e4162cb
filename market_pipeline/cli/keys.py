"""`market-pipeline keys`: the keys of sealed files, and the files they open."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import track
from rich.table import Table

from market_pipeline.cli.options import AsJson
from market_pipeline.cli.output import bytes_text, console, errors_console
from market_pipeline.errors import MarketPipelineError, SealError

if TYPE_CHECKING:
    from market_pipeline.config.settings import Settings
    from market_pipeline.security.ring import Key, KeyRing, Purpose

__all__ = ["keys"]

keys = typer.Typer(
    name="keys",
    help="Make, list, rotate, verify and destroy the keys of sealed files.",
    no_args_is_help=True,
)
PurposeName = Annotated[
    str, typer.Argument(metavar="PURPOSE", help="captures, raw, exports, backups or secrets.")
]
Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[PATH]...",
        help="Files or folders; by default the data, the lake and the backup folder.",
    ),
]


@keys.command("new")
def new(
    purpose: PurposeName,
    pair: Annotated[
        bool, typer.Option("--pair", help="A pair, whose public half other hosts seal with.")
    ] = False,
    public: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Take the public half that --pair printed elsewhere."),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(metavar="NAME[:KEY]", help="A key of a service that a package brings."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the key that seals from now on; the one before it goes on opening what it sealed.

    Exit code 0: made. 2: wrong usage, no master key, no such public half, or a service that is not
    there or refuses.
    """
    settings = _settings()
    if pair + (public is not None) + (service is not None) > 1:
        text = "give one of --pair, --public and --service"
        raise typer.BadParameter(text, param_hint="--public")
    ring, of = _ring(settings), _purpose(purpose)
    if public is not None and not public.startswith(f"{of}-"):
        raise typer.BadParameter(f"it is no key for {of}", param_hint="--public")
    if service is not None:
        key = ring.new_of_service(of, service)
    else:
        key = ring.adopt(public) if public is not None else ring.new(of, pair=pair)
    _record(settings, key.id, "made" if public is None else "taken")
    if as_json:
        typer.echo(json.dumps(_described(key, None), indent=2))
        return
    console().print(f"{key.id} seals {of} from now on.")
    if pair:
        console().print(
            f"On the host that seals: market-pipeline keys new {of} --public {key.public_text}",
            soft_wrap=True,
        )


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Show every key with the number of files that it opens.

    Exit code 0: shown. 1: there is none, or slots of a file cannot be read. 2: wrong usage.
    """
    settings = _settings()
    ring = _ring(settings, with_master=False)
    by_key, unread = _files_by_key(_sealed(settings, None))
    counts = Counter({key: len(files) for key, files in by_key.items()})
    if as_json:
        typer.echo(json.dumps([_described(key, counts[key.id]) for key in ring.keys], indent=2))
    else:
        table = Table(title="Keys", title_justify="left")
        for name in ("key", "purpose", "state", "wraps by"):
            table.add_column(name, no_wrap=True)
        table.add_column("files", justify="right")
        for key in ring.keys:
            table.add_row(key.id, key.purpose, key.state, key.kind, f"{counts[key.id]:,}")
        console().print(table if ring.keys else "No key; `market-pipeline keys new` makes one.")
    raise typer.Exit(1 if unread or not ring.keys else 0)


@keys.command("rotate")
def rotate(
    purpose: PurposeName,
    files: Files = None,
    only_files: Annotated[
        bool,
        typer.Option("--only-files", help="Make no key: go on with a rotation that was stopped."),
    ] = False,
) -> None:
    """Make a new key and give it every file of the purpose; no file is written, only its slots.

    It may be stopped at any moment: each file is opened by one key or the other.

    Exit code 0: every file has the new key. 1: some file could not be given to it. 2: wrong usage.
    """
    from market_pipeline.security.files import rewrap

    settings = _settings()
    ring, of = _ring(settings), _purpose(purpose)
    key = ring.active(of) if only_files else ring.new(of)
    _record(settings, key.id, "given every file" if only_files else "made")
    todo = [path for path in _sealed(settings, files) if _of(path, of)]
    written, failed = _each(todo, lambda path: rewrap(path, ring), "rotating")
    console().print(
        f"{key.id}: {len(written):,} files of {len(todo):,}, {sum(written):,} bytes written"
    )
    raise typer.Exit(1 if failed else 0)


@keys.command("reseal")
def reseal_files(files: Annotated[list[Path], typer.Argument(metavar="FILE...")]) -> None:
    """Seal files with a file key of their own once more, as when the old one may be known.

    Exit code 0: done. 1: some file could not be. 2: wrong usage.
    """
    from market_pipeline.security.files import reseal

    ring = _ring(_settings())
    written, failed = _each(files, lambda path: reseal(path, ring), "resealing")
    console().print(f"{len(written):,} files of {len(files):,}, {bytes_text(sum(written))}")
    raise typer.Exit(1 if failed else 0)


@keys.command("verify")
def verify(files: Files = None) -> None:
    """Open every sealed file, whole.

    Exit code 0: all are as they were sealed. 1: some is not, no key opens it, or there is none. 2:
    wrong usage.
    """
    from market_pipeline.security.files import open_sealed

    settings = _settings()
    ring, todo = _ring(settings), _sealed(settings, files)

    def read(path: Path) -> int:
        with open_sealed(path, ring) as file:
            return sum(len(part) for part in iter(lambda: file.read(1 << 20), b""))

    sizes, failed = _each(todo, read, "verifying")
    console().print(f"{len(sizes):,} files of {len(todo):,} verified, {bytes_text(sum(sizes))}")
    raise typer.Exit(1 if failed or not todo else 0)


@keys.command("destroy")
def destroy(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, as `keys list` shows it.")],
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            exists=True,
            file_okay=False,
            help="Where sealed files lie besides.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Destroy it.")] = False,
) -> None:
    """Show which files nothing will open without a key, and with --yes destroy it.

    It looks through data, lake and backup folder and those that are named: files that lie
    elsewhere are not known, and are gone as well. The key's slots beside the files go with it.
    Copies of them elsewhere have to be destroyed too: whoever has one and the master key opens the
    file.

    Exit code 0: shown, or destroyed. 1: destroyed, but slots beside some file could not be removed.
    2: wrong usage, there is no such key, or what it opens cannot be listed.
    """
    from market_pipeline.security.files import forget_key

    settings = _settings()
    ring = _ring(settings, with_master=False)
    found = ring.named(key)
    roots = [*_roots(settings), *(folders or ())]
    opens = _opened_by(key, ring, roots)
    for path, what in opens.items():
        console().print(f"{path}: {what}", soft_wrap=True)
    if not yes:
        looked = ", ".join(dict.fromkeys(map(str, roots)))
        console().print(
            f"{found.id} opens {len(opens):,} files of those in {looked}; what lies elsewhere is "
            "not known. --yes destroys it.",
            soft_wrap=True,
        )
        return
    _record(settings, key, "destroyed")
    ring.destroy(key, agreed=lambda: _opened_by(key, ring, roots) == opens)
    _, failed = _each(list(opens), lambda path: forget_key(path, key), "removing slots")
    console().print(f"{found.id} is destroyed.")
    raise typer.Exit(1 if failed else 0)


@keys.command("seal")
def seal(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...")],
    purpose: Annotated[str, typer.Option(help="Whose key opens them.")] = "exports",
) -> None:
    """Make a sealed copy `FILE.sealed` of files, as of exports that leave the machine.

    Exit code 0: done. 1: some file could not be sealed. 2: wrong usage, or no key.
    """
    from market_pipeline.security.envelope import SUFFIX, open_regular
    from market_pipeline.security.files import sealed_whole

    of, ring = _purpose(purpose), _ring(_settings())

    def sealed(path: Path) -> int:
        with (
            os.fdopen(open_regular(path), "rb") as source,
            sealed_whole(Path(f"{path}{SUFFIX}"), ring, of) as target,
        ):
            before = os.fstat(source.fileno())
            size = sum(target.write(part) for part in iter(lambda: source.read(1 << 20), b""))
            after = os.fstat(source.fileno())
            if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, size):
                raise SealError(
                    "The file changed while it was sealed",
                    next_step="Seal it when nobody writes to it.",
                    file=path,
                )
            return size

    sizes, failed = _each(files, sealed, "sealing")
    console().print(f"{len(sizes):,} files of {len(files):,} sealed, {bytes_text(sum(sizes))}")
    raise typer.Exit(1 if failed else 0)


@keys.command("open")
def open_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sealed file.")],
    to: Annotated[Path, typer.Option(help="Where its content is put; no file is replaced.")],
    crashed: Annotated[
        bool, typer.Option("--crashed", help="Give what is whole of a file that was cut off.")
    ] = False,
) -> None:
    """Write what is sealed in a file to another one, mode 0600.

    Exit code 0: done. 2: wrong usage, no key opens it, or it is not as it was sealed.
    """
    from market_pipeline.security.files import open_sealed
    from market_pipeline.warehouse.layout import written_whole

    if os.path.lexists(to):
        raise typer.BadParameter(f"{to} is there already", param_hint="--to")
    with open_sealed(file, _ring(_settings()), crashed=crashed) as source, written_whole(to) as out:
        for part in iter(lambda: source.read(1 << 20), b""):
            out.write(part)


def _settings() -> Settings:
    from market_pipeline.config.settings import load_settings

    return load_settings()


def _record(settings: Settings, key_id: str, done: str) -> None:
    from market_pipeline.audit.record import record

    record(settings.data_dir, "key", {"key": key_id, "done": done})


def _ring(settings: Settings, *, with_master: bool = True) -> KeyRing:
    from market_pipeline.security.master import ring_of

    return ring_of(settings, with_master=with_master)


def _purpose(text: str) -> Purpose:
    from market_pipeline.security.ring import PURPOSES

    for purpose in PURPOSES:
        if purpose == text:
            return purpose
    raise typer.BadParameter(f"expected one of {', '.join(PURPOSES)}", param_hint="PURPOSE")


def _of(path: Path, purpose: str) -> bool:
    """Whether a file is of a purpose; one that cannot be read is, so that it is reported."""
    from market_pipeline.security.files import head_of

    try:
        return head_of(path).purpose == purpose
    except (SealError, OSError):
        return True


def _roots(settings: Settings) -> list[Path]:
    folders = (settings.data_dir, settings.lake_path, settings.backup_folder)
    return [each for each in folders if each is not None and each.is_dir()]


def _sealed(settings: Settings, paths: Sequence[Path] | None) -> list[Path]:
    """The files that are named, and the sealed ones in the folders that are."""
    from market_pipeline.security.files import find_sealed

    paths = paths or _roots(settings)
    folders = [path for path in paths if path.is_dir()]
    return [*(path for path in paths if path not in folders), *find_sealed(folders)]


def _files_by_key(paths: Sequence[Path]) -> tuple[dict[str, list[Path]], int]:
    """By key, the files with a slot of it; and how many files' slots cannot be read."""
    from market_pipeline.security.envelope import read_all_slots

    found: dict[str, list[Path]] = {}
    unread = 0
    for path in paths:
        try:
            slots = read_all_slots(path)
        except SealError as error:
            unread += 1
            errors_console().print(str(error), soft_wrap=True)
            continue
        for key in {slot.key for each in slots.values() for slot in each}:
            found.setdefault(key, []).append(path)
    return found, unread


def _opened_by(key_id: str, ring: KeyRing, roots: Sequence[Path]) -> dict[Path, str]:
    """The files with a slot of a key, and what is left of each without it."""
    from market_pipeline.security.envelope import read_all_slots
    from market_pipeline.security.files import find_slots, head_of

    usable = {key.id for key in ring.keys if key.state != "destroyed"} - {key_id}
    found = {}
    for path in find_slots(roots):
        keys_of = {of: {slot.key for slot in each} for of, each in read_all_slots(path).items()}
        gone = {of for of, ids in keys_of.items() if key_id in ids and not ids & usable}
        if not any(key_id in ids for ids in keys_of.values()):
            continue
        if not gone:
            found[path] = "another key opens it"
        elif path.exists() and head_of(path).file_id not in gone:
            found[path] = "nothing will open an earlier file of that name"
        else:
            found[path] = "nothing will open it"
    return found


def _each(
    paths: Sequence[Path], work: Callable[[Path], int], what: str
) -> tuple[list[int], list[str]]:
    """What `work` gives for each file; a file that fails is reported and the others go on."""
    done, failed = [], []
    shown = track(paths, what, console=errors_console(), transient=True)
    for path in shown if errors_console().is_terminal else paths:
        try:
            done.append(work(path))
        except (MarketPipelineError, OSError) as error:
            failed.append(str(error))
            errors_console().print(str(error), soft_wrap=True)
    return done, failed


def _described(key: Key, files: int | None) -> dict[str, Any]:
    return {
        "id": key.id,
        "purpose": key.purpose,
        "state": key.state,
        "wraps_by": key.kind,
        "service": key.service,
        "public": key.public_text if key.public_key else None,
        "files": files,
    }
