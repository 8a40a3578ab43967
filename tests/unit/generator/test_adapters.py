"""The adapters that one engine holds, over a real registry and an engine with few places."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.durability.recording import QuickFiles
from deployments.generator import adapters as module
from deployments.generator.adapters import ResidentAdapters
from deployments.rollout.adapter_files import WEIGHTS
from deployments.rollout.adapter_store import BASE
from deployments.rollout.aliases import Aliases
from deployments.rollout.registry import Registry
from graph.errors import ConfigurationError
from tests.unit.rollout.adapter_support import make_base, make_card, write_adapter

PLACES = 3


class Engine:
    """As much of an engine as is asked here: it has `PLACES` for adapters and refuses one more."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}
        self.calls: list[str] = []
        self.broken: dict[str, Exception] = {}
        self.on_remove: Callable[[str], object] = lambda name: None

    async def add_adapter(self, name: str, path: str) -> None:
        self.calls.append(f"add {name[:4]}")
        await asyncio.sleep(0)
        if name in self.broken:
            raise self.broken[name]
        if len(self.places) == PLACES:
            raise RuntimeError("All items are pinned, cannot remove oldest from the cache.")
        self.places[name] = path

    async def remove_adapter(self, name: str) -> None:
        self.calls.append(f"remove {name[:4]}")
        await asyncio.sleep(0)
        self.on_remove(name)
        del self.places[name]


class Rig:
    def __init__(self, folder: Path, base_sha256: str | None = None) -> None:
        self.folder = folder
        self.engine = Engine()
        self.registry = Registry(folder / "registry", QuickFiles())
        self.base = make_base(folder / "models")
        self.whole = b""
        self.asked_for_base = 0
        self.told: list[tuple[int, tuple[str, ...], dict[str, str]]] = []
        self._base_sha256 = self.base.sha256 if base_sha256 is None else base_sha256
        self.adapters = ResidentAdapters(
            self.engine,  # type: ignore[arg-type]  # what is asked of it
            self.registry,
            self._find_base,
            lambda version, loaded, problems: self.told.append((version, loaded, problems)),
        )

    def _find_base(self) -> str | None:
        self.asked_for_base += 1
        return self._base_sha256 or None

    def register(self, number: int) -> str:
        folder = write_adapter(self.folder / f"runs/{number}", number)
        return self.registry.register(folder, self.folder / "runs", make_card(self.base), self.base, 16)

    def damage(self, adapter: str) -> None:
        path = self.registry.path(adapter) / WEIGHTS
        self.whole = path.read_bytes()
        path.write_bytes(self.whole[:-1])

    def mend(self, adapter: str) -> None:
        (self.registry.path(adapter) / WEIGHTS).write_bytes(self.whole)

    @property
    def loaded(self) -> set[str]:
        return set(self.engine.places)

    @property
    def problems(self) -> dict[str, str]:
        return self.told[-1][2]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the event loop's clock on, as the module reads it."""
    passed_s = 0.0

    class Later:
        def __init__(self) -> None:
            self._loop = asyncio.get_running_loop()

        def time(self) -> float:
            return self._loop.time() + passed_s

    class Asyncio:
        Lock, to_thread = asyncio.Lock, asyncio.to_thread

        @staticmethod
        def get_running_loop() -> Later:
            return Later()

    def move_on(seconds: float) -> None:
        nonlocal passed_s
        passed_s += seconds

    monkeypatch.setattr(module, "asyncio", Asyncio)
    return move_on


def aliases(version: int, champion: str = BASE, challenger: str | None = None, previous: str | None = None) -> Aliases:
    return Aliases(version, champion, challenger, previous)


async def test_it_loads_what_the_aliases_name_and_tells_it(rig: Rig) -> None:
    one, two, three = (rig.register(number) for number in range(3))
    await rig.adapters.follow(aliases(7, one, two, three))
    assert rig.engine.places == {name: str(rig.registry.path(name)) for name in (one, two, three)}
    assert rig.told == [(7, (one, two, three), {})]


async def test_the_base_model_needs_nothing(rig: Rig) -> None:
    await rig.adapters.follow(aliases(1, BASE, None, BASE))
    assert (rig.engine.calls, rig.told, rig.asked_for_base) == ([], [(1, (), {})], 0)


async def test_it_drops_what_no_alias_names_any_more(rig: Rig) -> None:
    one, two = rig.register(0), rig.register(1)
    await rig.adapters.follow(aliases(1, one))
    await rig.adapters.follow(aliases(2, two, previous=one))
    assert rig.loaded == {one, two}, "the previous champion stays, so that a rollback loads nothing"
    await rig.adapters.follow(aliases(3, two))
    assert rig.loaded == {two}
    assert rig.told[-1] == (3, (two,), {})


async def test_what_is_dropped_makes_room_before_another_is_loaded(rig: Rig) -> None:
    one, two, three, four = (rig.register(number) for number in range(4))
    await rig.adapters.follow(aliases(1, one, two, three))
    # Two changes between two looks: the challenger was cleared and another one set.
    await rig.adapters.follow(aliases(3, one, four, three))
    assert (rig.loaded, rig.problems) == ({one, four, three}, {})


async def test_what_a_request_still_uses_stays_and_goes_at_the_next_change(rig: Rig) -> None:
    one, two = rig.register(0), rig.register(1)
    await rig.adapters.follow(aliases(1, one))
    with rig.adapters.in_use(one), rig.adapters.in_use(one):
        await rig.adapters.follow(aliases(2, two))
        assert rig.loaded == {one, two}
    await rig.adapters.follow(aliases(3, two))
    assert rig.loaded == {two}


async def test_a_request_that_fails_uses_its_adapter_no_longer(rig: Rig) -> None:
    one = rig.register(0)
    await rig.adapters.follow(aliases(1, one))
    with pytest.raises(RuntimeError), rig.adapters.in_use(one):
        raise RuntimeError("the request failed")
    await rig.adapters.follow(aliases(2))
    assert rig.loaded == set()


async def test_a_request_that_begins_while_another_adapter_is_dropped_keeps_its_own(rig: Rig) -> None:
    one, two = rig.register(0), rig.register(1)
    await rig.adapters.follow(aliases(1, one, two))
    with ExitStack() as requests:
        rig.engine.on_remove = lambda name: requests.enter_context(rig.adapters.in_use(two))
        await rig.adapters.follow(aliases(2))
        assert rig.engine.calls[2:] == [f"remove {one[:4]}"]
        assert (rig.loaded, rig.told[-1]) == ({two}, (2, (two,), {}))


async def test_no_adapter_is_never_in_use(rig: Rig) -> None:
    with rig.adapters.in_use(None):
        assert await rig.adapters.ready(None) is None
    assert rig.engine.calls == []


async def test_an_adapter_that_cannot_be_removed_ends_nothing(rig: Rig) -> None:
    one, two = rig.register(0), rig.register(1)
    await rig.adapters.follow(aliases(1, one))

    def fail(name: str) -> None:
        raise RuntimeError("the engine is busy")

    rig.engine.on_remove = fail
    await rig.adapters.follow(aliases(2, two))
    assert rig.told[-1] == (2, (two,), {})


async def test_a_request_for_one_that_is_not_loaded_yet_loads_it_once(rig: Rig) -> None:
    one = rig.register(0)
    assert await asyncio.gather(*(rig.adapters.ready(one) for _ in range(5))) == [one] * 5
    assert rig.engine.calls == [f"add {one[:4]}"]
    assert rig.told == [(0, (one,), {})]


@pytest.mark.parametrize("name", ["f" * 64, "base", "../../etc", ""])
async def test_an_unknown_name_is_answered_by_the_base_model(rig: Rig, name: str) -> None:
    assert await rig.adapters.ready(name) is None
    assert (rig.engine.calls, list(rig.problems)) == ([], [name])


async def test_a_damaged_adapter_is_a_problem_and_no_failure(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    one, two = rig.register(0), rig.register(1)
    rig.damage(two)
    await rig.adapters.follow(aliases(4, one, two))
    version, loaded, problems = rig.told[-1]
    assert (version, loaded) == (4, (one,))
    assert f"The adapter {two} is damaged" in problems[two]
    assert await rig.adapters.ready(two) is None
    assert await rig.adapters.ready(one) == one
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_missing_folder_is_a_problem_and_no_failure(rig: Rig) -> None:
    await rig.adapters.follow(aliases(1, "e" * 64))
    assert "is not registered" in rig.problems["e" * 64]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigurationError("This engine takes no adapters; set it."), "This engine takes no adapters; set it."),
        (ValueError("rank 64 is greater than 16"), "ValueError: rank 64 is greater than 16"),
    ],
)
async def test_what_the_engine_says_of_it_is_told(rig: Rig, error: Exception, said: str) -> None:
    one = rig.register(0)
    rig.engine.broken[one] = error
    await rig.adapters.follow(aliases(1, one))
    assert rig.told[-1] == (1, (), {one: said})


async def test_a_problem_goes_with_its_alias(rig: Rig) -> None:
    one = rig.register(0)
    rig.damage(one)
    await rig.adapters.follow(aliases(1, one))
    await rig.adapters.follow(aliases(2))
    assert rig.told[-1] == (2, (), {})


async def test_requests_retry_a_failed_adapter_after_5_s_and_not_before(
    rig: Rig, clock: Callable[[float], None]
) -> None:
    one = rig.register(0)
    rig.damage(one)
    await rig.adapters.follow(aliases(1, one))
    rig.mend(one)
    told = len(rig.told)
    clock(4.5)
    assert [await rig.adapters.ready(one) for _ in range(3)] == [None] * 3
    # Nothing was tried, so nothing is written either: telling is a file, and these are requests.
    assert (rig.engine.calls, len(rig.told)) == ([], told)
    clock(0.6)
    assert await rig.adapters.ready(one) == one
    assert rig.told[-1] == (1, (one,), {})


async def test_a_change_of_the_aliases_retries_at_once(rig: Rig) -> None:
    one = rig.register(0)
    rig.damage(one)
    await rig.adapters.follow(aliases(1, one))
    rig.mend(one)
    await rig.adapters.follow(aliases(2, one))
    assert rig.told[-1] == (2, (one,), {})


async def test_an_adapter_of_another_base_is_refused_by_both_hashes(tmp_path: Path) -> None:
    rig = Rig(tmp_path, base_sha256="9" * 64)
    one, two = rig.register(0), rig.register(1)
    await rig.adapters.follow(aliases(1, one, two))
    assert rig.engine.calls == []
    assert f"{rig.base.sha256}, and {'9' * 64} is served" in rig.problems[one]
    assert set(rig.problems) == {one, two}
    assert rig.asked_for_base == 1, "reading the base model takes a second"


async def test_where_the_base_is_no_folder_the_engine_alone_decides(tmp_path: Path) -> None:
    rig = Rig(tmp_path, base_sha256="")
    one = rig.register(0)
    await rig.adapters.follow(aliases(1, one))
    assert rig.loaded == {one}


async def test_an_older_change_that_ends_late_takes_nothing_back(rig: Rig) -> None:
    one, two = rig.register(0), rig.register(1)
    older, newer = aliases(1, one), aliases(2, two)
    await asyncio.gather(rig.adapters.follow(older), rig.adapters.follow(newer))
    assert rig.loaded == {two}
    assert rig.told[-1] == (2, (two,), {})


async def test_aliases_of_the_registry_are_followed_as_they_change(rig: Rig) -> None:
    one = rig.register(0)
    decided = {"now_us": 1, "by": "tester"}
    changed = rig.registry.set_challenger(one, expected_version=0, **decided)  # type: ignore[arg-type]
    await rig.adapters.follow(changed)
    changed = rig.registry.promote(one, expected_version=1, ungated=True, reason="a test", **decided)  # type: ignore[arg-type]
    await rig.adapters.follow(changed)
    changed = rig.registry.roll_back(expected_version=2, **decided)  # type: ignore[arg-type]
    await rig.adapters.follow(changed)
    assert rig.engine.calls == [f"add {one[:4]}"], "promoted and taken back without loading anything"
    assert [told[:2] for told in rig.told] == [(1, (one,)), (2, (one,)), (3, (one,))]
    await rig.adapters.follow(replace(changed, version=4, previous=None))
    assert rig.loaded == set()
