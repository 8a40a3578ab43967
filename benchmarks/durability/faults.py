"""Faults of the disk, the clock and the neighbours: never a false acknowledgement, no client left waiting.

A *false ack* is an acknowledged row that cannot be read after the restart. The writer must answer what it cannot
store with a retryable 503 and take on no more, or not start at all, with an OSError; and the next writer must
recover without a hand.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.durability.injected_faults import INJECTED_FAULTS
from benchmarks.durability.outcome import Outcome
from benchmarks.durability.real_faults import REAL_FAULTS
from benchmarks.durability.trial import Case


def faults(on_case: Callable[[int], None] = lambda checked: None) -> Outcome:
    """Inject and provoke every fault; call it from a process without threads.

    Args:
        on_case: Told how many faults came since it was last told.
    """
    began_s = time.monotonic()
    rows: list[dict[str, Any]] = []
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="rheostat-faults-") as directory:
        Path(directory).chmod(0o755)  # one fault gives up root's rights
        # The real ones first: they fork, and the injected ones start threads here.
        for number, (name, cases) in enumerate({**REAL_FAULTS, **INJECTED_FAULTS}.items()):
            scratch = Path(directory, str(number))
            scratch.mkdir()
            counts: Counter[str] = Counter()
            try:
                for case in cases(scratch):
                    _count(case, counts)
                    broken += filter(None, [broken_promise(name, case)])
                    on_case(1)
            except PermissionError as error:
                # Not every machine lets a process have a file system of its own.
                rows.append({"fault": f"{name}: not possible here ({error.strerror})", **dict.fromkeys(_FIGURES, 0)})
                continue
            rows.append({"fault": name, **{figure: counts[figure] for figure in _FIGURES}})
    return Outcome("faults", tuple(rows), tuple(broken), time.monotonic() - began_s)


_FIGURES = ("injected", "acked", "answered 503", "starts refused", "false acks", "hung", "recovered")


def broken_promise(fault: str, case: Case) -> str | None:
    """What went wrong in this case, in words; None: nothing."""
    trial = case.trial
    if not (case.false_acks or trial.hung or trial.wrong or case.problem):
        return None
    return (
        f"faults: {fault}, {case.place}: {case.false_acks} false acks, {trial.hung} hung, {trial.wrong}, "
        f"{case.problem or 'recovered'}"
    )


def _count(case: Case, counts: Counter[str]) -> None:
    counts["injected"] += 1
    counts["acked"] += len(case.trial.acked)
    counts["answered 503"] += case.trial.failed
    counts["starts refused"] += case.trial.start_refused
    counts["false acks"] += case.false_acks
    counts["hung"] += case.trial.hung
    counts["recovered"] += case.problem is None
