"""The process that ``ray.serve.llm`` is served from: Ray and the application on this machine, until SIGINT."""

import argparse
import contextlib
import json
import signal
import sys
import threading
from pathlib import Path

import psutil

from benchmarks.contestants.ray_llm import READY

DRAIN_TIMEOUT_S = 15.0
LOGICAL_CPUS = 8
"""Its replicas ask for 3 at least; what they really have is the machine's."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contestants.ray_llm_app", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="one LLMConfig as JSON")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--temp", type=Path, required=True)
    options = parser.parse_args()
    stop = threading.Event()
    import ray
    from ray import serve
    from ray.serve.llm import LLMConfig, build_openai_app

    ray.init(
        address="local",
        num_cpus=LOGICAL_CPUS,
        include_dashboard=False,
        object_store_memory=200 << 20,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(options.temp),
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": options.port})
        config = LLMConfig(**json.loads(options.config.read_text()))
        serve.run(build_openai_app({"llm_configs": [config]}), name="llm", route_prefix="/")
        print(READY, flush=True)
        stop.wait()
    finally:
        processes = psutil.Process().children(recursive=True)
        drain = threading.Thread(target=serve.shutdown, daemon=True)
        drain.start()
        drain.join(DRAIN_TIMEOUT_S)
        ray.shutdown()
        _, alive = psutil.wait_procs(processes, timeout=10)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
