#!/usr/bin/env bash
# Measures the package on a machine with a GPU, in less than eight minutes.
#
#     benchmarks/gpu.sh [WHEELS]
#
# It says how many tasks are left then; the same command once more does them.
#
# The machine needs Python with JAX or PyTorch for its GPU. WHEELS is a folder with what
# else it lacks: keras, optree, namex, rich, h5py; pytest, hypothesis and sortedcontainers
# for the golden values. To fill it, on a machine with a network:
#
#     pip download --no-deps --only-binary=:all: --dest WHEELS keras optree namex \
#         rich h5py absl-py ml-dtypes packaging markdown-it-py mdurl pygments \
#         pytest pluggy iniconfig hypothesis sortedcontainers attrs
#
# Results go to results/gpu_speed.json, or to the file that OUTPUT names.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -gt 0 ]; then
    site=$(mktemp -d)
    python3 -m pip install --quiet --no-index --no-deps --target "$site" "$1"/*.whl
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
fi
export XLA_PYTHON_CLIENT_PREALLOCATE=false
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || true
python3 -m benchmarks.gpu --rounds 1 --seconds 360 --resume \
    --output "${OUTPUT:-results/gpu_speed.json}"
