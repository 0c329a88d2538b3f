"""The benchmarks run in their smallest form and end in one table."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.rows import Row, markdown

ROOT = Path(__file__).resolve().parents[1]


def test_smallest_suite_ends_in_one_table(tmp_path):
    """Every part that takes no device to warm up leaves rows, in JSON and in Markdown."""
    command = [sys.executable, "-m", "benchmarks", "--smallest", "--output", str(tmp_path)]
    command += ["--only", "networks", "dataset_build", "augment", "mixup"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "bench.json").read_text())
    assert {"device", "cores", "memory GiB", "versions", "load average"} <= set(content["machine"])
    assert list(content["parts"]) == ["networks", "dataset_build", "augment", "mixup"]
    for rows in content["parts"].values():
        assert rows
        for row in rows:
            assert row["value"] > 0, row
    text = (tmp_path / "bench.md").read_text()
    assert done.stdout.startswith(text)
    assert "espcn float32, step" in text


def test_ratio_is_above_one_where_the_toolbox_is_faster():
    """Half the time and twice the pixels are both twice as fast; the table shows it."""
    time = Row("step", 2.0, "ms", "PyTorch", 4.0, 700.0)
    speed = Row("inference", 20.0, "Mpixel/s", "PyTorch", 10.0)
    alone = Row("step", 2.0, "ms")
    assert (time.ratio, speed.ratio, alone.ratio) == (2, 2, None)
    lines = markdown({"networks": [time, alone]}).splitlines()
    assert lines[-2] == "| step | 2 | ms | PyTorch | 4 | 2.00 | 700 |  |"
    assert len({line.count("|") for line in lines}) == 1
