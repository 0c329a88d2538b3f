#!/usr/bin/env bash
# Install a wheel into a new environment and use it from an empty folder: try_wheel.sh PYTHON WHEEL
set -euo pipefail
python=$1
wheel=$(realpath "$2")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unset PYTHONPATH
"$python" -m venv "$folder/env"
PATH="$folder/env/bin:$PATH"
python -m pip install --quiet --upgrade pip
python -m pip install --quiet "$wheel"
mkdir "$folder/work"
cd "$folder/work"
sr-trainer --version
sr-trainer doctor
python -c "import sys, toolbox; print(toolbox.__file__); assert 'tensorflow' not in sys.modules"
python -c "import numpy; numpy.save('grid.npy', -1000 + numpy.add.outer(*[numpy.sin(numpy.arange(24) / 4)] * 2))"
sr-trainer predict --pretrained bathymetry_x2 grid.npy
python -c "import numpy; r = numpy.load('grid_x2.npy'); print(r.shape, r.mean()); assert r.shape == (48, 48)"
echo "$(python --version): works"
