"""Dask from outside: workers of this machine or of a scheduler, and strips handed to them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from toolbox.errors import ConfigError, MissingLibraryError, ToolboxError
from toolbox.io.extras import install_command

#: Workers of this machine for so many cores; a network keeps more than one core busy.
_CORES_PER_WORKER = 2
_TIMEOUT_S = 20
#: How often it is looked whether a worker is left, and how long none may be, seconds.
_LOOK_S, _PATIENCE_S = 10, 120

#: What distributed raises, on every version of Python, when its scheduler is gone.
_CANCELLED = (asyncio.CancelledError, concurrent.futures.CancelledError)
_GONE = (
    "dask: the connection to the scheduler was lost, or the work was cancelled there. Start "
    "scheduler and workers again; the same command resumes the work."
)


class WorkersError(ToolboxError):
    """The workers of Dask, or their scheduler, failed; what they have done remains."""


def check_address(where: str) -> None:
    """Refuse what is neither ``local``, ``local:N`` nor an address, and a missing library."""
    if not re.fullmatch(r"local(:[1-9]\d*)?|[a-z]+://\S+", where):
        raise ConfigError(
            f"dask must be local, local:N with N workers, or the address of a scheduler; received "
            f"{where!r}. Use e.g. local:2 or tcp://host:8786."
        )
    dask_library()


def dask_library() -> Any:
    """Import ``distributed``, or say in one line how it is installed."""
    try:
        import dask.array  # noqa: F401
        import distributed
        import zarr  # noqa: F401
    except ImportError:
        raise MissingLibraryError(
            f"dask: needs Dask, and zarr 3 for Python 3.11 or later. Run: {install_command('dask')}"
        ) from None
    return distributed


@contextlib.contextmanager
def dask_client(where: str) -> Iterator[Any]:
    """Give a client: of workers started here, or of a scheduler that runs elsewhere.

    Parameters
    ----------
    where : str
        ``local``, ``local:N`` with N workers, or an address such as ``tcp://host:8786``.

    Raises
    ------
    ConfigError
        If no scheduler answers, or none of its workers can be had.
    """
    check_address(where)
    distributed = dask_library()
    for name in ("distributed", "distributed.client"):  # each has a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        if where.startswith("local"):
            cluster = stack.enter_context(_local(distributed, where))
            yield stack.enter_context(distributed.Client(cluster))
            return
        try:
            client = stack.enter_context(distributed.Client(where, timeout=_TIMEOUT_S))
            client.wait_for_workers(1, timeout=_TIMEOUT_S)
        except (OSError, ValueError) as error:  # a timeout is an OSError
            raise ConfigError(
                f"dask: no scheduler with a worker answers at {where} ({str(error)[:120]}). Start "
                f"'dask scheduler' there and 'dask worker {where}', or use dask: local."
            ) from None
        yield client


def _local(distributed: Any, where: str) -> Any:
    """Start workers on this machine; together they use its cores once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    count = int(where.partition(":")[2] or max(2, cores // _CORES_PER_WORKER))
    share = str(max(1, cores // count))
    names = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
    threads = {name: os.environ.get(name, share) for name in names}
    return distributed.LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        env={**threads, "TF_CPP_MIN_LOG_LEVEL": "3"},
        silence_logs=logging.CRITICAL,
        preload=["toolbox.quiet_import"],
    )


def hand_out(
    client: Any,
    work: Callable[[Any, int], Any],
    order: Any,
    numbers: Sequence[int],
    take: Callable[[int, Any], None],
) -> None:
    """Have ``work(order, number)`` done for every number by the workers.

    What a worker was at when it died is done again by another.

    Parameters
    ----------
    client : distributed.Client
        From `dask_client`.
    work : callable
        A function of a module that the workers can import.
    order : object
        What is the same for all.
    numbers : sequence of int
        What differs.
    take : callable
        Called here with each number and its result, in the order in which they come.

    Raises
    ------
    ToolboxError
        What a worker raised, or that several died of the same number.
    """
    distributed = dask_library()
    futures = client.map(work, [order] * len(numbers), list(numbers), pure=False, retries=0)
    known = dict(zip(futures, numbers, strict=True))
    waiting, idle = set(futures), 0
    try:
        while waiting:
            try:
                done = distributed.wait(waiting, _LOOK_S, return_when="FIRST_COMPLETED").done
            except _CANCELLED:
                raise WorkersError(_GONE) from None
            except distributed.TimeoutError:
                idle = 0 if client.scheduler_info()["workers"] else idle + 1
                if idle * _LOOK_S >= _PATIENCE_S:
                    raise WorkersError(
                        f"dask: no worker is left, for {_PATIENCE_S} s. Start some, or give local "
                        f"ones more memory; the same command resumes the work."
                    ) from None
                continue
            waiting -= done
            for future in done:
                take(known[future], _result(future))
    finally:
        client.cancel(futures, force=True)


def _result(future: Any) -> Any:
    distributed = dask_library()
    try:
        return future.result()
    except ToolboxError:
        raise
    except distributed.KilledWorker as error:
        raise WorkersError(
            f"dask: workers died one after the other of the same rows "
            f"({str(error).split('. ')[0]}). Give them more memory, or a smaller tile."
        ) from None
    except _CANCELLED:
        raise WorkersError(_GONE) from None
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever failed there, such as a missing package
        said = (str(error).splitlines() or [""])[0]
        raise WorkersError(
            f"dask: a worker failed with {type(error).__name__}: {said[:300]}. Install the same "
            f"version of sr-toolbox there, and give paths that every worker sees."
        ) from error
