"""The validator's core needs neither Ray nor an engine."""

import subprocess
import sys


def test_the_core_imports_no_ray_no_engine_and_no_web_framework() -> None:
    program = (
        "import sys, deployments.validator.guard, deployments.validator.model_slots, deployments.validator.policy\n"
        "print([name for name in ('ray', 'torch', 'vllm', 'fastapi', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
