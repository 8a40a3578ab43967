"""An output of the model as the benchmark of the checks keeps it, for several tests."""

from benchmarks.validation.raw_outputs import RawOutput
from graph.contracts import CheckContext

TEXT = "Rivers carry a little salt from the rocks to the sea. The water leaves again as vapour, and the salt stays."


def raw(name: str, text: str = TEXT, record: str = "health-07", **context: object) -> RawOutput:
    values = {"prompt": "Why is the sea salt, and since when?", "known_text": "Why is the sea salt?", **context}
    return RawOutput(name, record, {"lp": {}, "ls": {}}, {"seed": 1}, CheckContext(**values), text)  # type: ignore[arg-type]
