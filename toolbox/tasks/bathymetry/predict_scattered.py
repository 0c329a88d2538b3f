"""One map enlarged by many processes: a row of tiles each, put where it belongs."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import DataError
from toolbox.inference.tiling import Tiling
from toolbox.io.growing import growing_map
from toolbox.io.growing_base import GrowingMap
from toolbox.io.maps import open_map
from toolbox.io.zarr_maps import ZarrRows
from toolbox.run import Run


@dataclasses.dataclass(frozen=True)
class Order:
    """What a worker must know to enlarge strips of a map.

    Attributes
    ----------
    run : toolbox.run.Run
        The opened run with the settings of ``predict``; its networks are read again where it is
        used.
    source, target, work : pathlib.Path
        The map, the result, and what the strips are put into: a Zarr. Every worker sees them.
    bands : tuple of str
        Names of all bands, if there are more than the map has.
    tiling : toolbox.inference.tiling.Tiling
        How the map is cut.
    fills : tuple of float
        `toolbox.io.maps.MapReader.fills` of the map.
    positive : str
        Its sign.
    token : str
        Tells this work from any other.
    """

    run: Run
    source: Path
    target: Path
    work: Path
    bands: tuple[str, ...]
    tiling: Tiling
    fills: tuple[float, ...]
    positive: str
    token: str

    @property
    def strip_rows(self) -> int:
        """Rows of every strip of the result but the last."""
        return self.tiling.tile * self.tiling.scale


class _Bench:
    """An open map, a loaded network and the result, of one process."""

    def __init__(self, order: Order) -> None:
        from toolbox.tasks.bathymetry.predict import MapPredictor  # it hands out the orders

        self.order, self._lock = order, threading.Lock()
        self.predictor = MapPredictor(order.run)
        s = order.run.predict
        self._opened = contextlib.ExitStack()
        path = order.source
        self.reader = self._opened.enter_context(
            open_map(path, s.variable, s.nodata, order.positive, s.time, s.group, order.fills)
        )
        if not order.work.is_dir():
            raise DataError(
                f"{order.work}: a worker does not see it. Give paths on a disk that all share."
            )
        self.store: Any = self._store()

    def _store(self) -> Any:
        order, reader = self.order, self.reader
        h, w = reader.shape
        scale = order.tiling.scale
        if order.target.suffix.lower() != ".zarr":
            count = len(order.bands) or reader.channels
            return ZarrRows(order.work, (h * scale, w * scale, count), order.strip_rows)
        s = order.run.predict
        growing = growing_map(
            order.target, reader, scale, bands=order.bands, dtype=s.dtype,
            strip_rows=order.strip_rows,
        )  # fmt: skip
        assert isinstance(growing, GrowingMap)
        return growing

    def _read(self, rows: slice, columns: slice) -> np.ndarray:
        with self._lock:
            return self.reader.read(rows, columns)

    def strip(self, number: int) -> dict[str, Any]:
        order, predictor = self.order, self.predictor
        ends = order.target.suffix.lower() != ".bag"
        enhance = predictor.enhancer_of(self.reader, ends)
        strip = next(order.tiling.strips(self._read, enhance, number))
        core = order.tiling.rows()[number].core
        lr = self._read(core, slice(0, self.reader.shape[1]))
        figures = predictor.measured(strip, lr)
        with self._lock:
            if isinstance(self.store, GrowingMap):
                self.store.output.gaps = self.store.output.cut = 0
            state = self.store.put(core.start * order.tiling.scale, strip)
        return {"figures": dataclasses.asdict(figures), "state": state}

    def close(self) -> None:
        self._opened.close()


#: The bench of the last order, in each process that enlarges strips.
_BENCHES: dict[str, _Bench] = {}
_BENCHES_LOCK = threading.Lock()


def enlarge_strip(order: Order, number: int) -> dict[str, Any]:
    """Enlarge a row of tiles, measure it and put it where it belongs.

    Parameters
    ----------
    order : Order
        The map and how it is enlarged; its network is loaded once in a process.
    number : int
        Which row of tiles.

    Returns
    -------
    dict
        Figures and state of the strip, JSON types.
    """
    with _BENCHES_LOCK:
        if order.token not in _BENCHES:
            for bench in _BENCHES.values():
                bench.close()
            _BENCHES.clear()
            _BENCHES[order.token] = _Bench(order)
        bench = _BENCHES[order.token]
    return bench.strip(number)
