"""Prediction of maps: enlarged in tiles, with their geodata, however large they are."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from toolbox.errors import ConfigError, DataError, ToolboxError
from toolbox.inference.dask_cluster import check_address, dask_client, hand_out
from toolbox.inference.read_ahead import ReadAhead, TurnedMemory
from toolbox.inference.scattered_work import ScatteredWork
from toolbox.inference.super_resolver import repeated
from toolbox.inference.tiling import Tiling
from toolbox.inference.work_file import WorkFile
from toolbox.io.atomic import naming
from toolbox.io.growing import growing_map
from toolbox.io.growing_base import GrowingMap
from toolbox.io.map_bag import UNCERTAINTIES
from toolbox.io.map_output import LIMITS
from toolbox.io.map_writers import check_output, default_output_suffix, write_map
from toolbox.io.maps import IMAGE_KINDS, SUFFIXES, MapReader, RasterioReader, open_map
from toolbox.io.provenance import Provenance
from toolbox.io.zarr_store import is_zarr, state_of
from toolbox.predict_settings import options_of
from toolbox.progress import pixel_rate, progress
from toolbox.resample import block_mean, fill_gaps
from toolbox.run import Run
from toolbox.tasks.bathymetry.calibration import intervals_of
from toolbox.tasks.bathymetry.inspector import quick_warnings
from toolbox.tasks.bathymetry.intervals import REACH, Intervals
from toolbox.tasks.bathymetry.predict_scattered import Order, enlarge_strip
from toolbox.tasks.bathymetry.prediction_report import PredictionReport
from toolbox.tasks.bathymetry.validity import FILE_NAME, load_validity

#: Per cent of the input outside the range from which a warning is printed; never "0.0 %".
_LEAST_SHARE = 0.05


@dataclasses.dataclass
class Figures:
    """Sums measured while a map is enlarged, which allows interrupted work to resume.

    Attributes
    ----------
    count : int
        Valid low-resolution pixels.
    squares, worst : float
        Sum of squares and maximum of the difference between the block means of the result and
        the input, physical units.
    low, high : float
        Range of the result.
    outside : int
        Valid low-resolution pixels outside the depths and slopes of the training data.
    """

    count: int = 0
    squares: float = 0.0
    worst: float = 0.0
    low: float = float("inf")
    high: float = float("-inf")
    outside: int = 0

    def add(self, lr: np.ndarray, sr: np.ndarray, outside: np.ndarray | None) -> None:
        """Add rows of the input (h, w, C) and of the result (h * scale, w * scale, C)."""
        scale = sr.shape[0] // lr.shape[0]
        difference = block_mean(sr[None], scale)[0] - lr
        valid = np.isfinite(difference)
        if not valid.any():
            return
        difference = difference[valid].astype(np.float64)
        self.count += int(valid[..., 0].sum())
        self.squares += float(np.square(difference).sum()) / lr.shape[2]
        self.worst = max(self.worst, float(np.abs(difference).max()))
        self.low = min(self.low, float(np.fmin.reduce(sr, axis=None)))
        self.high = max(self.high, float(np.fmax.reduce(sr, axis=None)))
        if outside is not None:
            self.outside += int((outside[::scale, ::scale] == 1).sum())

    def join(self, later: Figures) -> None:
        """Take in what was measured in the rows that follow."""
        self.count += later.count
        self.squares += later.squares
        self.worst = max(self.worst, later.worst)
        self.low, self.high = min(self.low, later.low), max(self.high, later.high)
        self.outside += later.outside


@contextlib.contextmanager
def _removed_on(error: type[Exception], work: WorkFile | ScatteredWork) -> Iterator[None]:
    try:
        yield
    except error:
        work.remove()
        raise


@contextlib.contextmanager
def _removed_if_empty(work: ScatteredWork) -> Iterator[None]:
    """Leave no work behind whose workers could not begin."""
    try:
        yield
    except ToolboxError:
        if not work.done:
            work.remove()
        raise


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


class MapPredictor:
    """Enlarges map files with an opened run: a `toolbox.task.FilePredictor`.

    Parameters
    ----------
    run : toolbox.run.Run
        The run, with the settings of ``predict``.
    """

    suffixes = SUFFIXES
    what = "no map or image"

    def __init__(self, run: Run) -> None:
        self.run, self.settings, self.resolver = run, run.predict, run.resolver
        self.validity = load_validity(self.resolver.folder)
        self._doubts: list[str] = []
        self._workers: contextlib.ExitStack | None = None

    def check(self) -> None:
        """Check the settings once for all files, and raise an error for a mistake."""
        self._enhancer((1.0, 1.0) if self.settings.range_mask else None, True)
        if self.settings.dask is not None:
            check_address(self.settings.dask)

    def suffix(self, path: Path) -> str:
        """Return the suffix of the result: that of the input, if it can be written."""
        return default_output_suffix(path)

    def predict(self, path: Path, target: Path) -> None:
        """Enlarge one map; interrupted work resumes where it stopped."""
        s = self.settings
        opened = open_map(path, s.variable, s.nodata, s.positive, s.time, s.group)
        with opened as reader, naming(target), contextlib.ExitStack() as locks:
            self._check(reader, target)
            said = len(reader.notes)
            start = time.perf_counter()
            names = tuple(self._bands(target))
            bands = names if len(names) > reader.channels else ()
            scale = self.resolver.scale
            check_output(target, reader, scale, bands=bands, dtype=s.dtype, cog=s.cog)
            enlarge = self._enlarge if s.dask is None else self._hand_out
            work, figures = enlarge(reader, target, bands, locks)
            if work.grows:
                work.finish()
            else:
                strips = work.strips()
                write_map(
                    target, reader, scale, strips, bands=bands, dtype=s.dtype, cog=s.cog,
                    provenance=self._provenance(reader),
                )  # fmt: skip
            seconds = time.perf_counter() - start
            for note in reader.notes[said:]:
                print(note)
            self._report(reader, target, work, figures)
            work.remove()
        pixels = work.shape[0] * work.shape[1]
        print(
            f"{target}: {work.shape[1]} × {work.shape[0]} pixels in {seconds:.1f} s "
            f"({pixel_rate(pixels, seconds)})"
        )

    def _check(self, reader: MapReader, target: Path) -> None:
        """Refuse a file that the network cannot process, and print how the file is read."""
        resolver = self.resolver
        if reader.channels != resolver.channels:
            raise DataError(
                f"{reader.path}: has {_channels(reader.channels)}; the network was trained on "
                f"{resolver.channels} (input_shape). {self._cure(reader)}"
            )
        h, w = reader.shape
        spacing = ""
        if reader.delta_m is not None:
            rows, columns = reader.delta_m
            spacing = f", {rows:.4g} × {columns:.4g} m per pixel"
        print(
            f"{reader.path}: {w} × {h} pixels{spacing}; positive {reader.positive} "
            f"({reader.positive_reason})"
        )
        for note in reader.notes:
            print(note)
        self._doubts = self._doubts_of(reader) if reader.channels == 1 else []
        for doubt in self._doubts:
            print(f"WARNING: {doubt}")
        s = self.settings
        whole = reader.dtype.kind in "iu" and not reader.is_image
        ending = target.suffix.lower()
        # Bands of one type: those with fractions make all of them float32. NetCDF and Zarr have
        # variables of their own types, and the ends of an interval need the type of the middle.
        further = ending not in (".nc", ".zarr") and (s.standard_deviation or s.range_mask)
        fractions = ending == ".bag" or s.interval is not None or further
        if whole and s.dtype is None and not fractions:
            print(
                f"the result is rounded to {reader.dtype}, like the input; add --dtype float32 to "
                f"keep the fractions"
            )

    def _doubts_of(self, reader: MapReader) -> list[str]:
        """Return the warnings of an inspection, or that of a grey picture instead of a map."""
        if not reader.is_image:
            # With a range mask, `_report` counts the pixels outside the range itself.
            return quick_warnings(reader, None if self.settings.range_mask else self.validity)
        depths = self.validity is not None and self.validity.depth_m[0] < 0
        # A picture of 16 bits may well hold depths.
        if not depths or reader.dtype.itemsize > 1 or reader.georeferenced:
            return []
        return [
            f"{reader.path}: is an 8-bit grey picture without a georeference, but the network was "
            f"trained on depths in metres, so the detail that it adds is a guess. Use "
            f"--pretrained sem_lines for SEM pictures, photo_x2 for photographs."
        ]

    def _cure(self, reader: MapReader) -> str:
        """Suggest how to use a file with a different number of channels, given its kind."""
        if self.resolver.channels != 1:
            return "Use a file with the same number of channels, or another network."
        if isinstance(reader, RasterioReader):
            return (
                f"Choose a band with --variable 1 to {reader.dataset.count}, or use another "
                f"network."
            )
        what = "to grey" if reader.kind in IMAGE_KINDS else "to an array (H, W) of one channel"
        return f"Convert it {what}, or use another network."

    def _bands(self, target: Path) -> list[str]:
        s = self.settings
        count = self.resolver.channels
        names = ["elevation"] if count == 1 else [f"channel_{i}" for i in range(1, count + 1)]
        if s.standard_deviation:
            names += ["standard_deviation"] if count == 1 else [f"{n}_deviation" for n in names]
        if s.interval is not None:
            names += list(LIMITS if target.suffix.lower() != ".bag" else UNCERTAINTIES[1:])
        return names + (["outside_training_range"] if s.range_mask else [])

    def _spacing(self, reader: MapReader) -> tuple[float, float] | None:
        """Return the spacing for slopes: that of the file, else that of the training data."""
        if not self.settings.range_mask:
            return None
        # Without a range, `_enhancer` refuses the mask whatever the spacing.
        return reader.delta_m or (self.validity.delta_lr_m if self.validity else (1.0, 1.0))

    def _interval(self) -> tuple[Intervals, float] | None:
        """Return the calibration and the half-width in spreads; None without an interval."""
        s = self.settings
        if s.interval is None:
            return None
        if s.self_ensemble or len(self.resolver.weights) > 1 or s.lr_consistency == "project":
            raise ConfigError(
                "interval is calibrated for the unmodified result of one network; received it with "
                "self_ensemble, several weights or lr_consistency: project. Remove these settings."
            )
        intervals = intervals_of(self.run)
        return intervals, intervals.multiple(s.interval)

    def _with_interval(
        self, enhance: Callable[[np.ndarray], np.ndarray], ends: bool
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that enlarges a window and adds its interval: both ends or a half."""
        found = self._interval()
        if found is None:
            return enhance
        intervals, multiple = found

        def with_interval(lr: np.ndarray) -> np.ndarray:
            missing = np.isnan(lr).any(axis=2)
            filled = lr
            if missing.any() and not missing.all():
                filled = fill_gaps(lr, max(REACH, self.resolver.reach or 0))
            large = enhance(filled)
            h, w, bands = large.shape
            spread = intervals.coarse_spread(filled[None, ..., 0], large[None, ..., 0])[0]
            scale = self.resolver.scale
            half = (np.float32(multiple) * spread).repeat(scale, 1)[:, None]
            result = np.empty((h, w, bands + (2 if ends else 1)), np.float32)
            result[..., :bands] = large
            # A row of the input is `scale` rows of the result.
            rows, middle = (x.reshape(len(spread), scale, w, -1) for x in (result, large))
            if ends:
                np.subtract(middle[..., 0], half, out=rows[..., -2])
                np.add(middle[..., 0], half, out=rows[..., -1])
            else:
                rows[..., -1] = half
            if missing.any():
                result[repeated(missing, scale)] = np.nan
            return result

        return with_interval

    def _enhancer(
        self, spacing: tuple[float, float] | None, ends: bool = True
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function that enlarges a window; a spacing adds the band of the range mask."""
        s, validity = self.settings, self.validity
        enhance = self._with_interval(
            self.resolver.enhancer(s.self_ensemble, s.standard_deviation, s.lr_consistency), ends
        )
        if spacing is None:
            return enhance
        if validity is None:
            raise ConfigError(
                f"range_mask needs {FILE_NAME} in {self.resolver.folder}; received none, because "
                f"the run is older than the mask. Train again, or remove range_mask."
            )

        def with_mask(lr: np.ndarray) -> np.ndarray:
            large = enhance(lr)
            outside = validity.outside(lr[..., 0], spacing).astype(np.float32)
            outside[np.isnan(lr).any(axis=2)] = np.nan
            mask = repeated(outside, self.resolver.scale)[..., None]
            return np.concatenate([large, mask], axis=2)

        return with_mask

    def enhancer_of(
        self, reader: MapReader, ends: bool = True
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Return what enlarges a window of a map to all bands of the result.

        Parameters
        ----------
        reader : toolbox.io.maps.MapReader
            The map.
        ends : bool
            Whether an interval is given by its ends instead of half its width.
        """
        return self._enhancer(self._spacing(reader), ends)

    def _tiling(self, reader: MapReader) -> Tiling:
        s = self.settings
        project = s.lr_consistency == "project"
        around = 0 if s.interval is None else REACH
        gaps = reader.gappy and not reader.complete
        return self.resolver.tiling(reader.shape, s.tile, gaps, project, around)

    def _growing(
        self, reader: MapReader, target: Path, bands: tuple[str, ...], tiling: Tiling
    ) -> Callable[..., GrowingMap | None]:
        """Return what makes a growing result, given its type (``dtype``) and form (``cog``)."""
        scale = self.resolver.scale
        return functools.partial(
            growing_map, target, reader, scale, bands=bands, strip_rows=tiling.tile * scale,
            provenance=self._provenance(reader),
        )  # fmt: skip

    def _work(
        self, reader: MapReader, target: Path, bands: tuple[str, ...], tiling: Tiling
    ) -> WorkFile:
        """Open what the strips are put into, as far as it was filled before."""
        s, scale = self.settings, self.resolver.scale
        h, w = reader.shape
        grow = self._growing(reader, target, bands, tiling)
        shape = (h * scale, w * scale, len(self._bands(target)))
        form = {"dtype": s.dtype, "cog": s.cog}
        return WorkFile(target, shape, self._job(reader, tiling), form, grow)

    def _enlarge(
        self,
        reader: MapReader,
        target: Path,
        bands: tuple[str, ...],
        locks: contextlib.ExitStack,
    ) -> tuple[WorkFile, Figures]:
        """Fill the work file, or the remaining part of it."""
        resolver = self.resolver
        tiling = self._tiling(reader)
        enhance = self.enhancer_of(reader, target.suffix.lower() != ".bag")
        h, w = reader.shape
        work = self._work(reader, target, bands, tiling)
        locks.callback(work.release)
        figures = Figures(**work.figures)
        if work.pieces:
            print(f"resuming after {100 * work.rows / work.shape[0]:.0f} % of the rows")
        bar = progress(
            None, "enlarging", total=h * w, initial=work.rows // resolver.scale * w, unit="px",
            unit_scale=True,
        )  # fmt: skip

        def finish(strip: np.ndarray, lr: np.ndarray) -> None:
            figures.join(self.measured(strip, lr))
            work.append(strip, dataclasses.asdict(figures))

        # A strip is measured and written while the network computes the next, and the input of
        # the one after that is read. Nothing of a damaged file is kept: resuming would fail at
        # the same place.
        ahead = ReadAhead(reader.read, tiling.rows(), w)
        with _removed_on(DataError, work), bar, ahead, ThreadPoolExecutor(1) as writer:
            pending = None
            strips = tiling.strips(
                ahead.read, enhance, work.pieces, bar.update, TurnedMemory().empty
            )
            for number, strip in enumerate(strips, work.pieces):
                lr = ahead.core(number)
                if pending is not None:
                    pending.result()
                pending = writer.submit(finish, strip, lr)
            if pending is not None:
                pending.result()
        return work, figures

    def measured(self, strip: np.ndarray, lr: np.ndarray) -> Figures:
        """Measure a strip of the result, whose mask is rounded, against its rows of the input."""
        outside = None
        if self.settings.range_mask:
            outside = strip[..., -1] = np.rint(strip[..., -1])  # blending gives fractions
        figures = Figures()
        figures.add(lr, strip[..., : self.resolver.channels], outside)
        return figures

    def _hand_out(
        self,
        reader: MapReader,
        target: Path,
        bands: tuple[str, ...],
        locks: contextlib.ExitStack,
    ) -> tuple[ScatteredWork, Figures]:
        """Have the strips that are missing enlarged by the workers of Dask."""
        s, scale = self.settings, self.resolver.scale
        tiling, (h, w) = self._tiling(reader), reader.shape
        rows = tiling.tile * scale
        growing = self._growing(reader, target, bands, tiling)(dtype=s.dtype, cog=s.cog)
        shape = (h * scale, w * scale, len(self._bands(target)))
        form = {"dtype": s.dtype} if target.suffix.lower() == ".zarr" else {}
        work = ScatteredWork(target, shape, rows, self._job(reader, tiling) | form, growing)
        locks.callback(work.release)
        parts = tiling.rows()
        sizes = [(part.core.stop - part.core.start) * w for part in parts]
        missing = work.missing()
        if work.done:
            print(f"resuming after {100 * (1 - len(missing) / work.count):.0f} % of the strips")
        path = growing.path if work.direct and growing is not None else work.path
        order = Order(
            self._sent(), reader.path.resolve(), target.resolve(), path.resolve(), bands, tiling,
            reader.fills, reader.positive, token=uuid.uuid4().hex,
        )  # fmt: skip
        bar = progress(
            None, "enlarging", total=h * w, initial=sum(sizes[i] for i in work.done), unit="px",
            unit_scale=True,
        )  # fmt: skip

        def take(number: int, known: dict[str, Any]) -> None:
            work.record(number, known)
            bar.update(sizes[number])

        with _removed_on(DataError, work), _removed_if_empty(work), bar:
            if missing:
                hand_out(self._client(), enlarge_strip, order, missing, take)
        figures = Figures()
        for number in range(work.count):
            figures.join(Figures(**work.done[number]["figures"]))
        return work, figures

    def _sent(self) -> Run:
        """Return the run as workers get it: paths that do not depend on a working directory."""
        run: Run = copy.copy(self.run)
        run.weights = [path.resolve() for path in run.weights]
        run.folder = run.folder.resolve()
        run.predict = run.predict.model_copy(update={"dask": None})
        return run

    def _client(self) -> Any:
        """Return the client, started with the first file and kept for the others."""
        if self._workers is None:
            self._workers = contextlib.ExitStack()
            weakref.finalize(self, self._workers.close)
            self._opened = self._workers.enter_context(dask_client(self.settings.dask))
        return self._opened

    def _job(self, reader: MapReader, tiling: Tiling) -> dict[str, Any]:
        """Describe the job; a partial result of other files or settings is not resumed."""
        state = reader.path.stat()
        size, changed = state.st_size, state.st_mtime_ns
        if is_zarr(reader.path):
            size, changed = state_of(reader.path)
        shaping = options_of(self.run.task) - {"report", "hillshade", "cog", "dtype", "dask"}
        return {
            "input": [str(reader.path.resolve()), size, changed],
            "weights": self.resolver.checksum,
            "normalizer": self.resolver.normalizer.state(),
            "settings": self.settings.model_dump(include=shaping),
            "tiling": dataclasses.asdict(tiling),
        }

    def _provenance(self, reader: MapReader) -> Provenance:
        """Return the provenance for the file of the result."""
        resolver = self.resolver
        network = resolver.folder.name if resolver.is_pretrained else resolver.config["model"]
        if reader.is_image:
            return Provenance(network)
        return Provenance(
            network,
            {"NOT_FOR_NAVIGATION": "yes"},
            "The detail is likely, not measured: not for navigation.",
        )

    def _report(
        self, reader: MapReader, target: Path, work: WorkFile | ScatteredWork, figures: Figures
    ) -> None:
        """Print how good the result is, and draw it if requested."""
        if not figures.count:
            print("WARNING: every pixel of the input is missing, so every pixel of the result is")
            return
        rmse = float(np.sqrt(figures.squares / figures.count))
        unit = "grey values" if reader.is_image else "m"
        agreement = f"RMS {rmse:.3g} {unit}, at most {figures.worst:.3g} {unit}"
        print(f"difference between the result, averaged back, and the input: {agreement}")
        warnings = []
        share = 100 * figures.outside / figures.count
        if share >= _LEAST_SHARE:
            warnings = [
                f"{share:.1f} % of the input is outside the depths and slopes of the training data"
            ]
            print(f"WARNING: {warnings[0]}")
        pictures = PredictionReport(reader, work, self.resolver.scale)
        if self.settings.hillshade:
            print(f"shaded relief: {pictures.write_hillshade(target)}")
        if self.settings.report:
            table = {
                "difference from the input when averaged back": agreement,
                "range of the result": f"{figures.low:.6g} to {figures.high:.6g} {unit}",
                "valid pixels of the input": f"{figures.count}",
            }
            told = [*warnings, *self._doubts]
            page = pictures.write_page(target, self._facts(reader, target), table, told)
            print(f"report: {page}")

    def _facts(self, reader: MapReader, target: Path) -> dict[str, str]:
        """Return a table of how the result was made."""
        resolver = self.resolver
        given = self.settings.model_dump(exclude_defaults=True, exclude={"report"})
        words = {k: str(v).lower() if isinstance(v, bool) else v for k, v in given.items()}
        return {
            "input": str(reader.path),
            "result": str(target),
            "sign": f"positive {reader.positive} ({reader.positive_reason})",
            "network": f"{resolver.config['model']}, {resolver.physical.count_params()} parameters",
            "run": resolver.folder.name,
            "normaliser": resolver.normalizer.name,
            "settings": ", ".join(f"{key}: {value}" for key, value in words.items()) or "defaults",
        }
