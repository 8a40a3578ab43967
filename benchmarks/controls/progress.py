"""How far a run is: answers, tokens a second, and when it will be done."""

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

RATE_WINDOW_S = 300.0
"""Of the estimate: long and short answers take turns, and a shorter window would jump about."""

LINE_EVERY_S = 30.0
"""Between two lines in a log."""


class Meter:
    """One bar a part of the run."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told_s = 0.0
        self._task: TaskID | None = None
        self._tokens = 0
        self._began_s = time.monotonic()

    def start(self, what: str, total: int) -> None:
        """Begins the next part."""
        self._task = self._progress.add_task(what, total=total, rate="")
        self._tokens, self._began_s = 0, time.monotonic()

    def tell(self, tokens: int) -> None:
        """One more answer is there."""
        if self._task is None:
            return
        self._tokens += tokens
        elapsed_s = max(time.monotonic() - self._began_s, 1e-3)
        self._progress.update(self._task, advance=1, rate=f"{self._tokens / elapsed_s:.0f} tokens/s")
        if not self._progress.console.is_terminal:
            self._tell_line(self._task)

    def _tell_line(self, task_id: TaskID) -> None:
        """For a log file, where no bar is drawn: a line now and then."""
        task = self._progress.tasks[task_id]
        if task.finished or time.monotonic() - self._told_s > LINE_EVERY_S:
            self._told_s = time.monotonic()
            left = "" if task.time_remaining is None else f", {task.time_remaining / 60:.0f} min left"
            self._progress.console.print(
                f"{task.description}: {task.completed:.0f} of {task.total:.0f}, {task.fields['rate']}{left}"
            )


@contextlib.contextmanager
def showing(console: Console) -> Iterator[Meter]:
    """A meter on the console; the bars stay."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, speed_estimate_period=RATE_WINDOW_S) as progress:
        yield Meter(progress)
