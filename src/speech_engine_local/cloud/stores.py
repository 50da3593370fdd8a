"""Where engines are kept: in memory, or in an SQLite file that survives a restart."""

from __future__ import annotations

import base64
import binascii
import copy
import os
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import anyio.to_thread
import attrs
import msgspec

from .engines import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

__all__ = [
    "EngineStore",
    "Listing",
    "MemoryStore",
    "Page",
    "Position",
    "SQLiteStore",
    "StoreError",
    "read_cursor",
]

SortBy = Literal["name", "created_at", "updated_at", "call_count_7d"]
Position = tuple[str | int, int]
"""Where an engine stands in an order: what it is sorted by, then its serial number."""

_T = TypeVar("_T")


class StoreError(ValueError):
    """The engines cannot be kept in that file; the message says why."""


@attrs.frozen
class Listing:
    """What to list.

    Args:
        page_size: how many engines at most.
        search: only engines with this in their name, whatever the case.
        sort_by: the order; ``call_count_7d`` is 0 for all, because calls are not counted.
        descending: the largest, or newest, first.
        after: only what follows this position, which a cursor tells.
    """

    page_size: int = 30
    search: str = ""
    sort_by: SortBy = "created_at"
    descending: bool = True
    after: Position | None = None


@attrs.frozen
class Page:
    """A part of the list.

    Args:
        engines: in order.
        next_cursor: stands for the position of the last of them; None if nothing follows. It
            stays good whatever is added or removed meanwhile.
    """

    engines: tuple[Engine, ...]
    next_cursor: str | None


class EngineStore(Protocol):
    """What the cloud asks of a store. Engines go in and out by value, never shared."""

    async def add(self, engine: Engine) -> None:
        """Keep a new engine."""
        ...

    async def get(self, engine_id: str) -> Engine | None:
        """Return an engine; None if there is none with this id."""
        ...

    async def change(self, engine_id: str, apply: Callable[[Engine], Engine]) -> Engine | None:
        """Replace an engine by what ``apply`` makes of it, with nobody else's change in between.

        What ``apply`` raises is passed on, and nothing is changed. None if there is no such engine.
        """
        ...

    async def remove(self, engine_id: str) -> bool:
        """Forget an engine; False if there was none."""
        ...

    async def page(self, listing: Listing) -> Page:
        """Return a part of the list."""
        ...

    async def close(self) -> None:
        """Let go of files. The store is not used after."""
        ...


class MemoryStore:
    """An `EngineStore` that forgets everything when the process ends."""

    def __init__(self) -> None:
        self._engines: dict[str, tuple[int, Engine]] = {}
        self._last = 0

    async def add(self, engine: Engine) -> None:
        """Keep a new engine."""
        self._last += 1
        self._engines[engine.engine_id] = (self._last, copy.deepcopy(engine))

    async def get(self, engine_id: str) -> Engine | None:
        """Return an engine; None if there is none with this id."""
        found = self._engines.get(engine_id)
        return None if found is None else copy.deepcopy(found[1])

    async def change(self, engine_id: str, apply: Callable[[Engine], Engine]) -> Engine | None:
        """Replace an engine by what ``apply`` makes of it."""
        engine = await self.get(engine_id)
        if engine is None:
            return None
        changed = apply(engine)
        serial, _ = self._engines[engine_id]
        self._engines[engine_id] = (serial, copy.deepcopy(changed))
        return changed

    async def remove(self, engine_id: str) -> bool:
        """Forget an engine; False if there was none."""
        return self._engines.pop(engine_id, None) is not None

    async def page(self, listing: Listing) -> Page:
        """Return a part of the list."""
        rows = (
            _Row(serial, engine.engine_id, engine.name, engine.created_at, engine.updated_at)
            for serial, engine in self._engines.values()
        )
        chosen, cursor = _select(rows, listing)
        found = (copy.deepcopy(self._engines[row.engine_id][1]) for row in chosen)
        return Page(tuple(found), cursor)

    async def close(self) -> None:
        """Let go of nothing."""


class SQLiteStore:
    """An `EngineStore` in an SQLite file, which several processes may use at once.

    The file is made where there is none, readable by its owner alone: request headers may hold
    secrets.

    Args:
        path: the file.

    Raises:
        StoreError: the file cannot be opened or written, is no database, or not one of ours.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.path.abspath(path)  # never one of the names that SQLite keeps for itself
        self._lock = threading.Lock()  # one connection, used by one worker thread at a time
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(
                self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error, ValueError) as error:
            raise StoreError(f"{self._path}: cannot be opened: {_cause(error)}") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._db.close()
            raise StoreError(f"{self._path}: cannot be used: {error}") from error
        except StoreError:
            self._db.close()
            raise

    async def add(self, engine: Engine) -> None:
        """Keep a new engine."""
        await self._run(lambda: self._insert(engine))

    async def get(self, engine_id: str) -> Engine | None:
        """Return an engine; None if there is none with this id."""
        return await self._run(lambda: self._find(engine_id))

    async def change(self, engine_id: str, apply: Callable[[Engine], Engine]) -> Engine | None:
        """Replace an engine by what ``apply`` makes of it, in one transaction."""

        def change() -> Engine | None:
            with self._transaction():
                engine = self._find(engine_id)
                if engine is None:
                    return None
                changed = apply(engine)
                self._db.execute(
                    "UPDATE engines SET name = ?, updated_at = ?, settings = ? WHERE engine_id = ?",
                    (changed.name, changed.updated_at, _pack(changed), engine_id),
                )
                return changed

        return await self._run(change)

    async def remove(self, engine_id: str) -> bool:
        """Forget an engine; False if there was none."""
        sql = "DELETE FROM engines WHERE engine_id = ?"
        return await self._run(lambda: self._db.execute(sql, (engine_id,)).rowcount > 0)

    async def page(self, listing: Listing) -> Page:
        """Return a part of the list."""

        def page() -> Page:
            rows = self._db.execute(
                "SELECT serial, engine_id, name, created_at, updated_at FROM engines"
            )
            chosen, cursor = _select((_Row(*row) for row in rows), listing)
            found = (self._find(row.engine_id) for row in chosen)
            # Another process may have removed one in between.
            return Page(tuple(engine for engine in found if engine is not None), cursor)

        return await self._run(page)

    async def close(self) -> None:
        """Close the file."""
        await self._run(self._db.close)

    def _prepare(self) -> None:
        """Check whose file it is before a byte of it is changed, then make what is missing."""
        with self._transaction():
            owner = self._db.execute("PRAGMA application_id").fetchone()[0]
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                if owner not in (0, _APPLICATION_ID):
                    raise self._foreign()
                self._db.execute(_SCHEMA)
                self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version = {_VERSION}")
            elif owner != _APPLICATION_ID:
                raise self._foreign()
            elif version != _VERSION:
                raise StoreError(
                    f"{self._path}: expected an engine store of version {_VERSION}, "
                    f"got version {version}"
                )
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # While another process uses the file the mode cannot be changed. That process has
            # asked for it too, and without it writers only wait a little longer.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise

    def _foreign(self) -> StoreError:
        return StoreError(
            f"{self._path}: expected an engine store of speech-engine, got another database"
        )

    async def _run(self, work: Callable[[], _T]) -> _T:
        def locked() -> _T:
            with self._lock:
                return work()

        return await anyio.to_thread.run_sync(locked)

    @contextmanager
    def _transaction(self) -> Generator[None]:
        """Take the file for writing at once, so that what is read in it cannot change."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _insert(self, engine: Engine) -> None:
        self._db.execute(
            "INSERT INTO engines (engine_id, name, created_at, updated_at, settings) "
            "VALUES (?, ?, ?, ?, ?)",
            (engine.engine_id, engine.name, engine.created_at, engine.updated_at, _pack(engine)),
        )

    def _find(self, engine_id: str) -> Engine | None:
        row = self._db.execute(
            "SELECT settings, created_at, updated_at FROM engines WHERE engine_id = ?", (engine_id,)
        ).fetchone()
        if row is None:
            return None
        return Engine(engine_id, msgspec.json.decode(row[0]), row[1], row[2])


def read_cursor(cursor: str, sort_by: SortBy, *, descending: bool) -> Position:
    """Read the position that a cursor stands for.

    Args:
        cursor: from `Page`.
        sort_by: the order that is asked for.
        descending: its direction.

    Raises:
        ValueError: no cursor, or one of another order.
    """
    try:
        data = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
        order, position = msgspec.json.decode(data, type=tuple[tuple[str, bool], Position])
    except (UnicodeError, binascii.Error, msgspec.MsgspecError, RecursionError) as error:
        raise ValueError("expected a next_cursor of this list, got something else") from error
    expected: type = str if sort_by == "name" else int
    if order != (sort_by, descending) or type(position[0]) is not expected:
        raise ValueError("expected a cursor of the same sort_by and sort_direction, got another's")
    return position


@attrs.frozen
class _Row:
    """What is needed of an engine to put it in order."""

    serial: int
    engine_id: str
    name: str
    created_at: int
    updated_at: int


_ORDERS: dict[SortBy, Callable[[_Row], str | int]] = {
    "name": lambda row: row.name.casefold(),
    "created_at": lambda row: row.created_at,
    "updated_at": lambda row: row.updated_at,
    "call_count_7d": lambda _: 0,
}


def _select(rows: Iterable[_Row], listing: Listing) -> tuple[list[_Row], str | None]:
    """Choose the rows of a page, and the cursor behind them.

    The serial number makes every position unique, so a page neither repeats nor skips an engine
    that was there when the listing began.
    """
    wanted = listing.search.casefold()
    order = _ORDERS[listing.sort_by]
    placed: list[tuple[Any, int, _Row]] = [
        (order(row), row.serial, row) for row in rows if wanted in row.name.casefold()
    ]
    if listing.after is not None:
        behind = listing.after
        if listing.descending:
            placed = [place for place in placed if place[:2] < behind]
        else:
            placed = [place for place in placed if place[:2] > behind]
    placed.sort(key=lambda place: place[:2], reverse=listing.descending)
    page = placed[: listing.page_size]
    if len(placed) <= listing.page_size:
        return [row for *_, row in page], None
    last = ((listing.sort_by, listing.descending), page[-1][:2])
    cursor = base64.urlsafe_b64encode(msgspec.json.encode(last)).decode()
    return [row for *_, row in page], cursor


def _pack(engine: Engine) -> bytes:
    return msgspec.json.encode(engine.settings)


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


_BUSY_SECONDS = 10.0
"""For another process's transaction; each of ours takes milliseconds."""

_APPLICATION_ID = 0x53454E47
"""Says in the file's header whose it is: "SENG"."""

_VERSION = 1

_SCHEMA = """
CREATE TABLE engines (
    serial INTEGER PRIMARY KEY AUTOINCREMENT,
    engine_id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    settings BLOB NOT NULL
)
"""
