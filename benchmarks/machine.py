"""What figures were measured on: processor, memory, versions, load, device."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_VERSIONS = """
import json, importlib.metadata as m
names = ("tensorflow", "keras", "numpy", "torch")
found = {}
for name in names:
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
if "torch" in found and "tensorflow" not in found:
    import torch
    found["torch device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
print(json.dumps(found))
"""


def peak_mib() -> float:
    """Return the peak memory of this process; on a GPU, of the device."""
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() / 2**20
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    # The figure of getrusage is that of the parent where the parent was larger.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def has_torch(python: str) -> bool:
    """Tell whether an interpreter can import PyTorch."""
    done = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    return done.returncode == 0


def device_name() -> str:
    """Return the name of TensorFlow's GPU, or that there is none, and the processor."""
    import tensorflow as tf

    from toolbox.training.tuning import processor

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return f"CPU, no GPU found: {processor()}"
    details = tf.config.experimental.get_device_details(gpus[0])
    return f"GPU: {details.get('device_name', 'unknown')}"


def described(python: str | None = None) -> dict[str, Any]:
    """Describe this machine.

    Parameters
    ----------
    python : str, optional
        Interpreter that has PyTorch.
    """
    import json

    versions: dict[str, str] = {"python": platform.python_version()}
    for path in dict.fromkeys((python or sys.executable, sys.executable)):
        done = subprocess.run([path, "-c", _VERSIONS], capture_output=True, text=True, check=False)
        versions |= json.loads(done.stdout or "{}")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    threads = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return {
        "device": device_name(),
        "cores": usable,
        "memory GiB": round(memory, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": versions,
        "threads": {name: os.environ[name] for name in threads if name in os.environ},
        "load average": [round(value, 1) for value in os.getloadavg()],
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
