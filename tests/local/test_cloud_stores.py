"""Both stores behave the same; the SQLite one survives restarts and company."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from contextlib import closing
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speech_engine_local.cloud import (
    Engine,
    EngineStore,
    Listing,
    MemoryStore,
    SQLiteStore,
    StoreError,
    engines,
)
from speech_engine_local.cloud.stores import read_cursor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio


def engine(name: str = "A", created: int = 100, updated: int | None = None) -> Engine:
    made = engines.create({"name": name, "speech_engine": {"ws_url": "ws://x"}}, now=created)
    return attrs.evolve(made, updated_at=created if updated is None else updated)


def renamed(name: str, now: int = 200) -> Callable[[Engine], Engine]:
    return lambda before: engines.patch(before, {"name": name}, now=now)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[EngineStore]:
    made: EngineStore = (
        MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "engines.db")
    )
    yield made
    await made.close()


async def names(store: EngineStore, **listing: Any) -> list[str]:
    """All names, page after page."""
    found: list[str] = []
    order = {key: listing[key] for key in ("sort_by", "descending") if key in listing}
    order = {"sort_by": "created_at", "descending": True, **order}
    after = None
    while True:
        page = await store.page(Listing(**listing, after=after))
        found += [each.name for each in page.engines]
        if page.next_cursor is None:
            return found
        assert len(page.engines) == listing.get("page_size", 30)
        after = read_cursor(page.next_cursor, **order)


class TestBoth:
    async def test_give_back_what_they_were_given(self, store: EngineStore) -> None:
        kept = engine("Ünïcode \u0000 \U0001f600")
        await store.add(kept)
        assert await store.get(kept.engine_id) == kept
        assert await store.get("seng_other") is None

    async def test_share_nothing(self, store: EngineStore) -> None:
        kept = engine()
        await store.add(kept)
        kept.settings["tags"].append("x")
        for found in (await store.get(kept.engine_id), *(await store.page(Listing())).engines):
            assert found is not None
            assert found.settings["tags"] == []
            found.settings["tags"].append("y")
        changed = await store.change(kept.engine_id, renamed("B"))
        assert changed is not None
        changed.settings["tags"].append("z")
        found = await store.get(kept.engine_id)
        assert found is not None
        assert found.settings["tags"] == []

    async def test_change(self, store: EngineStore) -> None:
        kept = engine("A")
        await store.add(kept)
        changed = await store.change(kept.engine_id, renamed("B"))
        assert changed is not None
        assert (changed.name, changed.created_at, changed.updated_at) == ("B", 100, 200)
        assert await store.get(kept.engine_id) == changed
        assert await names(store, search="b") == ["B"]
        assert await store.change("seng_other", renamed("B")) is None

    async def test_a_change_that_fails_changes_nothing(self, store: EngineStore) -> None:
        kept = engine("A")
        await store.add(kept)

        def fail(_: Engine) -> Engine:
            raise LookupError("no")

        with pytest.raises(LookupError, match="no"):
            await store.change(kept.engine_id, fail)
        assert await store.get(kept.engine_id) == kept
        assert await store.change(kept.engine_id, renamed("B")) is not None

    async def test_changes_at_once_are_all_kept(self, store: EngineStore) -> None:
        kept = engine()
        await store.add(kept)

        async def tag(name: str) -> None:
            await store.change(
                kept.engine_id,
                lambda old: engines.patch(old, {"tags": [*old.settings["tags"], name]}, now=1),
            )

        async with anyio.create_task_group() as group:
            for index in range(20):
                group.start_soon(tag, str(index))
        found = await store.get(kept.engine_id)
        assert found is not None
        assert sorted(found.settings["tags"], key=int) == [str(index) for index in range(20)]

    async def test_remove(self, store: EngineStore) -> None:
        kept = engine()
        await store.add(kept)
        assert await store.remove(kept.engine_id) is True
        assert await store.remove(kept.engine_id) is False
        assert await store.get(kept.engine_id) is None
        assert (await store.page(Listing())).engines == ()

    @pytest.mark.parametrize(
        ("listing", "expected"),
        [
            ({}, ["b", "A", "C", "a"]),
            ({"descending": False}, ["a", "C", "A", "b"]),
            ({"sort_by": "name", "descending": False}, ["a", "A", "b", "C"]),
            ({"sort_by": "name"}, ["C", "b", "A", "a"]),
            ({"sort_by": "updated_at"}, ["C", "b", "A", "a"]),
            ({"sort_by": "call_count_7d"}, ["b", "A", "C", "a"]),
            ({"search": "A"}, ["A", "a"]),
            ({"search": "nobody"}, []),
        ],
    )
    async def test_order(
        self, store: EngineStore, listing: dict[str, Any], expected: list[str]
    ) -> None:
        for one in (engine("a", 1), engine("C", 2, 9), engine("A", 3), engine("b", 4)):
            await store.add(one)
        assert await names(store, **listing) == expected

    async def test_a_page_that_holds_all_has_no_next(self, store: EngineStore) -> None:
        for index in range(3):
            await store.add(engine(str(index)))
        assert (await store.page(Listing(page_size=3))).next_cursor is None
        page = await store.page(Listing(page_size=2))
        assert page.next_cursor is not None
        assert len(page.engines) == 2

    async def test_a_cursor_outlives_what_it_was_made_at(self, store: EngineStore) -> None:
        for name in "abc":
            await store.add(engine(name))
        order: Any = {"sort_by": "name", "descending": False}
        page = await store.page(Listing(page_size=2, **order))
        await store.remove(page.engines[-1].engine_id)
        assert page.next_cursor is not None
        after = read_cursor(page.next_cursor, **order)
        rest = await store.page(Listing(page_size=2, after=after, **order))
        assert [each.name for each in rest.engines] == ["c"]


CASES = st.text("aAbBé", max_size=2)


class TestPages:
    """Beside a model: a sorted list of what was there from the beginning."""

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(
        present=st.lists(st.tuples(CASES, st.integers(0, 3))),
        late=st.lists(st.tuples(CASES, st.integers(0, 3)), max_size=10),
        page_size=st.integers(1, 5),
        sort_by=st.sampled_from(["name", "created_at", "updated_at", "call_count_7d"]),
        descending=st.booleans(),
        search=CASES,
        sqlite=st.booleans(),
    )
    def test_neither_repeat_nor_skip_while_others_are_added(
        self,
        present: list[tuple[str, int]],
        late: list[tuple[str, int]],
        page_size: int,
        sort_by: Any,
        descending: bool,
        search: str,
        sqlite: bool,
    ) -> None:
        async def read(folder: str) -> None:
            store: EngineStore = SQLiteStore(f"{folder}/:memory:") if sqlite else MemoryStore()
            first = [engine(name, when) for name, when in present]
            for one in first:
                await store.add(one)
            coming = [engine(name, when) for name, when in late]
            found: list[Engine] = []
            after = None
            while True:
                page = await store.page(Listing(page_size, search, sort_by, descending, after))
                found += page.engines
                if coming:
                    await store.add(coming.pop())
                if page.next_cursor is None:
                    break
                assert len(page.engines) == page_size
                after = read_cursor(page.next_cursor, sort_by, descending=descending)
            await store.close()
            check(first, found)

        def check(first: list[Engine], found: list[Engine]) -> None:
            ids = [one.engine_id for one in found]
            assert len(set(ids)) == len(ids)

            def key(one: Engine) -> Any:
                match sort_by:
                    case "name":
                        return one.name.casefold()
                    case "call_count_7d":
                        return 0
                    case _:
                        return getattr(one, sort_by)

            wanted = [one for one in first if search.casefold() in one.name.casefold()]
            if descending:
                wanted.reverse()  # the youngest first, where they are else the same
            wanted.sort(key=key, reverse=descending)
            original = {one.engine_id for one in first}
            assert [i for i in ids if i in original] == [one.engine_id for one in wanted]
            keys = [key(one) for one in found]
            assert keys == sorted(keys, reverse=descending)

        with TemporaryDirectory() as folder:
            anyio.run(read, folder)


class TestCursors:
    @pytest.mark.parametrize(
        "cursor",
        [
            "x",
            "====",
            "é",
            "\ud800",
            "bnVsbA==",
            "W10=",
            "e30=",
            "W1siYSIsdHJ1ZV0sWzEsMV1d",
            "W1tb",
        ],
    )
    async def test_what_is_none(self, cursor: str) -> None:
        with pytest.raises(ValueError, match="expected a "):
            read_cursor(cursor, "name", descending=False)

    async def test_one_of_another_order(self) -> None:
        store = MemoryStore()
        for name in "ab":
            await store.add(engine(name))
        cursor = (await store.page(Listing(page_size=1))).next_cursor
        assert cursor is not None
        assert read_cursor(cursor, "created_at", descending=True) == (100, 2)
        for sort_by, descending in (("created_at", False), ("updated_at", True)):
            with pytest.raises(ValueError, match="the same sort_by and sort_direction"):
                read_cursor(cursor, sort_by, descending=descending)  # type: ignore[arg-type]

    @given(st.text())
    def test_garbage_is_told_and_nothing_else_happens(self, cursor: str) -> None:
        with pytest.raises(ValueError, match="expected a "):
            read_cursor(cursor, "name", descending=True)


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


WRITER = """
import sys, anyio
from speech_engine_local.cloud import SQLiteStore, engines

async def main():
    store = SQLiteStore(sys.argv[1])
    def add(old):
        return engines.patch(old, {"tags": [*old.settings["tags"], sys.argv[3]]}, now=1)
    for _ in range(20):
        await store.change(sys.argv[2], add)
        await store.add(engines.create({"speech_engine": {"ws_url": "ws://x"}}, now=1))
    await store.close()

anyio.run(main)
"""


class TestTheFile:
    async def test_survives_a_restart(self, tmp_path: Path) -> None:
        path = tmp_path / "engines.db"
        kept = [engine("A"), engine("B")]
        first = SQLiteStore(path)
        for one in kept:
            await first.add(one)
        await first.close()
        second = SQLiteStore(path)
        await second.add(engine("C"))
        assert [await second.get(one.engine_id) for one in kept] == kept
        assert await names(second, sort_by="name", descending=False) == ["A", "B", "C"]
        await second.close()

    async def test_is_its_owners_alone(self, tmp_path: Path) -> None:
        store = SQLiteStore(tmp_path / "engines.db")
        await store.add(engine())
        found = modes(tmp_path)
        await store.close()
        assert found == {0o600}

    async def test_takes_several_processes_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "engines.db"
        store = SQLiteStore(path)
        kept = engine()
        await store.add(kept)

        async def write(number: int) -> None:
            command = [sys.executable, "-c", WRITER, str(path), kept.engine_id, str(number)]
            done = await anyio.run_process(command, check=False)
            assert (done.stderr, done.returncode) == (b"", 0)

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(write, number)
        found = await store.get(kept.engine_id)
        assert found is not None
        assert sorted(found.settings["tags"]) == [str(n) for n in range(3) for _ in range(20)]
        assert len(await names(store)) == 61
        await store.close()

    async def test_opened_by_many_at_the_same_moment(self, tmp_path: Path) -> None:
        path = tmp_path / "engines.db"
        opened: list[SQLiteStore] = []

        def open_it() -> None:
            opened.append(SQLiteStore(path))

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(anyio.to_thread.run_sync, open_it)
        for index, store in enumerate(opened):
            await store.add(engine(str(index)))
        assert len(await names(opened[0])) == 8
        for store in opened:
            await store.close()


async def test_other_databases_are_left_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE notes (text)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="expected an engine store of speech-engine, got another"):
        SQLiteStore(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["other.db"]


async def test_an_empty_database_with_an_owner_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA application_id = 5")
    with pytest.raises(StoreError, match="got another database"):
        SQLiteStore(path)


async def test_another_version_is_told(tmp_path: Path) -> None:
    path = tmp_path / "engines.db"
    await SQLiteStore(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(StoreError, match="expected an engine store of version 1, got version 7"):
        SQLiteStore(path)


async def test_no_database_at_all(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("hello " * 1000)
    with pytest.raises(StoreError, match="cannot be used: file is not a database"):
        SQLiteStore(path)
    assert path.read_text() == "hello " * 1000


async def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    for path, cause in (
        (tmp_path / "missing" / "engines.db", "No such file or directory"),
        (tmp_path, "Is a directory"),
        ("null\0byte", "(open: )?embedded null"),
    ):
        with pytest.raises(StoreError, match=f"cannot be opened: {cause}"):
            SQLiteStore(path)
