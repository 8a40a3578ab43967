"""Curation on Ray Data makes the dataset that a single process makes."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from graph.errors import InvalidRequest
from tests.cluster import local_cluster
from tests.curation_log import CurationLog, fill
from training.curate import LogSource, curate, prepare_with_ray_data
from training.curation import CurationParameters

RAY = partial(prepare_with_ray_data, workers=2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    import ray

    # The cluster of the other graph tests, if they run beside; `prepare_with_ray_data` takes whichever is there.
    if ray.is_initialized():
        yield
        return
    with local_cluster():
        yield


@pytest.fixture
def log(tmp_path: Path) -> CurationLog:
    return fill(CurationLog(tmp_path / "log"))


@pytest.mark.usefixtures("cluster")
def test_ray_data_and_a_single_process_write_the_same_name_and_bytes(log: CurationLog, tmp_path: Path) -> None:
    source = LogSource(log.write())
    done: list[tuple[int, int]] = []
    alone = curate(tmp_path / "alone", CurationParameters(), log=source)
    spread = curate(
        tmp_path / "spread",
        CurationParameters(),
        log=source,
        runner=RAY,
        on_step=lambda step, rows, total: done.append((rows, total)) if step == "judging rows" else None,
    )
    assert alone.name == spread.name
    for path in alone.folder.iterdir():
        assert path.read_bytes() == (spread.folder / path.name).read_bytes()
    assert done[-1][0] == done[-1][1] == sum(each["rows"] for each in alone.manifest["inputs"])


@pytest.mark.usefixtures("cluster")
def test_what_is_refused_in_a_task_is_told_in_our_words(tmp_path: Path, log: CurationLog) -> None:
    def refuse(rows: object) -> None:
        raise InvalidRequest("no such row", param="rows")

    path = log.export(tmp_path / "out")
    with pytest.raises(InvalidRequest, match="no such row"):
        RAY([path], refuse, lambda rows: None)
