"""Tables of the phases of surgical videos; splits by video; class weights."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from toolbox.errors import DataError, nearest_name, not_found
from toolbox.picture_set import checked_shares

SPLITS = ("train", "validation", "test")
#: Id of times that no segment covers.
UNLABELLED = -1
#: Headings, in lower case, of the columns that are read; the first one found is used.
_HEADINGS = {
    "video": ("video_path", "video_id"),
    "phase": ("phase", "phase_id"),
    "start": ("start",),
    "end": ("end",),
    "split": ("split",),
}
_SPLIT_WORDS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


class Annotations(NamedTuple):
    """The contents of a CSV file of phases.

    Attributes
    ----------
    table : pandas.DataFrame
        One segment per row, indexed by its ``line`` in the file: ``video`` and ``phase`` (text),
        ``start_s`` and ``end_s`` (seconds; both NaN if the whole video is one phase) and ``split``
        (``train``, ``validation``, ``test``, or empty if the file has no such column).
    notes : list of str
        Lines about rows that were left out or merged, for a log.
    """

    table: pd.DataFrame
    notes: list[str]


def read_annotations(csv_path: str | os.PathLike[str]) -> Annotations:
    """Read the phases of videos from a CSV file.

    Two forms are accepted: ``video_path,phase``, where a video shows one phase, and OphNet's
    ``video_id,start,end,split,surgery_id,phase_id`` with or without ``operation_id``, where a row
    is a segment in seconds. Other columns are ignored. Repeated rows count once: OphNet lists a
    segment again for each of its operations.

    Parameters
    ----------
    csv_path : path-like
        Text in UTF-8, with commas, semicolons or tabs.

    Returns
    -------
    Annotations

    Raises
    ------
    DataError
        If the file is missing, empty, not such a table, or a row contradicts itself or another.

    References
    ----------
    Hu, M. et al. (2024). OphNet: a large-scale video benchmark for ophthalmic surgical workflow
    understanding. ECCV. arXiv:2406.07471.
    """
    path = Path(csv_path)
    sheet = _read_sheet(path)
    table = pd.DataFrame({name: sheet[name] for name in ("video", "phase")})
    for name in table:
        _refuse_rows(path, table[name] == "", f"{name} is empty. Fill it in or remove the row")
    fault = "phase contains a tab or a line break, which timelines cannot hold. Rename it"
    _refuse_rows(path, table["phase"].str.contains(r"[\t\r\n]", regex=True), fault)
    table["start_s"], table["end_s"] = _times(path, sheet)
    table["split"] = _splits(path, sheet)
    notes: list[str] = []
    nothing = table["phase"] == str(UNLABELLED)
    if nothing.any():
        notes.append(f"{path}: rows left out, with phase {UNLABELLED} (none): {nothing.sum()}")
    if nothing.all():
        raise DataError(f"{path}: all rows have phase {UNLABELLED} (none). Add the phases.")
    table = table[~nothing]
    table = _without_duplicates(path, table, notes)
    table = _merged(path, table, notes)
    _note_overlaps(path, table, notes)
    return Annotations(table[["video", "start_s", "end_s", "phase", "split"]], notes)


def _read_sheet(path: Path) -> pd.DataFrame:
    """Read the columns of `_HEADINGS` as text, indexed by line number."""
    rows = _read_rows(path)
    header = [heading.lower() for heading in rows.pop(min(rows))]
    if not rows:
        raise DataError(f"{path}: has a heading but no rows. Add the phases of your videos.")
    for line, row in rows.items():
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: has {len(row)} cells; the heading has {len(header)}. "
                f"Quote names that contain the separator."
            )
    columns = _columns(path, header)
    texts = {name: [row[place] for row in rows.values()] for name, place in columns.items()}
    return pd.DataFrame(texts, pd.Index(rows, name="line"), dtype=object)


def _read_rows(path: Path) -> dict[int, list[str]]:
    """Return the cells of all lines that are not blank, by line number."""
    text = _read_text(path)
    first = text.lstrip().splitlines()[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), skipinitialspace=True
    )
    rows = {}
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows[reader.line_num] = cells
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: not valid CSV ({error}). Close the quotation marks."
        ) from None
    return rows


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{not_found(path, 'file')}. Name an existing CSV file of phases.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not text in UTF-8 ({error.reason} at byte {error.start}). Save it as CSV "
            f"in UTF-8."
        ) from None
    if "\0" in text or not text.strip():
        fault = "is not text" if "\0" in text else "is empty"
        raise DataError(f"{path}: {fault}. Expected a CSV with the columns video_path,phase.")
    return text


def _columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    found = {
        name: header.index(heading)
        for name, headings in _HEADINGS.items()
        for heading in headings[::-1]
        if heading in header
    }
    if not {"video", "phase"} <= found.keys() or ("start" in found) != ("end" in found):
        raise DataError(
            f"{path}: its columns are {', '.join(header)}; expected video_path,phase or "
            f"video_id,start,end,phase_id. Rename them."
        )
    return found


def _first(found: pd.Series) -> int:
    """Return the line of the first row for which `found` is true."""
    return int(found.index[int(found.to_numpy().argmax())])


def _refuse_rows(path: Path, wrong: pd.Series, fault: str) -> None:
    if wrong.any():
        raise DataError(f"{path}, line {_first(wrong)}: {fault}.")


def _times(path: Path, sheet: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return starts and ends in seconds; NaN if the file has none."""
    if "start" not in sheet:
        nothing = pd.Series(np.nan, sheet.index)
        return nothing, nothing
    start, end = (_seconds(path, sheet[name]) for name in ("start", "end"))
    _refuse_rows(path, start < 0, "start is negative; expected seconds from 0")
    line = _first(end <= start)
    fault = f"end is {end[line]:g} s and start {start[line]:g} s; expected the end after the start"
    _refuse_rows(path, end <= start, fault)
    return start, end


def _seconds(path: Path, cells: pd.Series) -> pd.Series:
    values = pd.to_numeric(cells, errors="coerce").astype(float)
    wrong = ~values.abs().lt(np.inf)
    fault = f"{cells.name} must be a number of seconds; received {cells[_first(wrong)]!r}"
    _refuse_rows(path, wrong, fault)
    return values


def _splits(path: Path, sheet: pd.DataFrame) -> pd.Series:
    if "split" not in sheet:
        return pd.Series("", sheet.index)
    splits = sheet["split"].str.lower().map(_SPLIT_WORDS)
    received = sheet["split"][_first(splits.isna())]
    _refuse_rows(
        path, splits.isna(), f"split must be train, val, validation or test; received {received!r}"
    )
    other = splits != splits.groupby(sheet["video"]).transform("first")
    video = sheet["video"][_first(other)]
    _refuse_rows(path, other, f"video {video!r} is in another split above. Keep it in one split")
    return splits


def _without_duplicates(path: Path, table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Drop repeated rows; refuse rows that give another phase for the same segment."""
    segment = ["video", "start_s", "end_s"]
    again = table.duplicated([*segment, "phase"])
    if again.any():
        notes.append(f"{path}: rows left out, because they repeat others: {again.sum()}")
    table = table[~again]
    other = table.duplicated(segment)
    video = table["video"][_first(other)]
    fault = f"gives video {video!r} another phase for the same time. Keep one of them"
    _refuse_rows(path, other, fault)
    return table


def _merged(path: Path, table: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Join segments of one phase of a video that touch or overlap."""
    table = table.sort_values(["video", "phase", "start_s"], kind="stable")
    groups = table.groupby(["video", "phase"])
    reached = groups["end_s"].cummax().groupby([table["video"], table["phase"]]).shift()
    goes_on = table["start_s"] <= reached
    if goes_on.any():
        notes.append(
            f"{path}: rows merged, because they touch or overlap another with the same phase: "
            f"{goes_on.sum()}"
        )
    ends = table["end_s"].groupby((~goes_on).cumsum()).transform("max")
    return table.assign(end_s=ends)[~goes_on].sort_index()


def _note_overlaps(path: Path, table: pd.DataFrame, notes: list[str]) -> None:
    ordered = table.sort_values(["video", "start_s"], kind="stable")
    reached = ordered.groupby("video")["end_s"].cummax().groupby(ordered["video"]).shift()
    overlap = (np.minimum(reached, ordered["end_s"]) - ordered["start_s"]).clip(lower=0)
    if (overlap > 0).any():
        notes.append(
            f"{path}: overlapping segments of different phases: {(overlap > 0).sum()}, by "
            f"{overlap.sum():.1f} s in total and {overlap.max():.1f} s at most; that time counts "
            f"as unlabelled"
        )


def phases_of(table: pd.DataFrame) -> list[str]:
    """Return all phases of a table: numbers in numerical order, then names."""
    return sorted(table["phase"].unique(), key=_by_number)


def _by_number(name: str) -> tuple[bool, int, str]:
    number = name.isdecimal()
    return not number, int(name) if number else 0, name


def check_phases(table: pd.DataFrame, phases: Sequence[str], name: str = "the annotations") -> None:
    """Refuse a table with phases that are not among `phases`; `name` is its file.

    Raises
    ------
    DataError
        If a phase is unknown; the message gives its line.
    """
    unknown = ~table["phase"].isin(list(phases))
    if unknown.any():
        line = _first(unknown)
        phase = table["phase"][line]
        raise DataError(
            f"{name}: line {line} has the phase {phase!r}; expected one of {', '.join(phases)}."
            f"{nearest_name(phase, phases)}"
        )


def labels_at(segments: pd.DataFrame, times_s: np.ndarray, phases: Sequence[str]) -> np.ndarray:
    """Return the phase of a video at each of the given times.

    Parameters
    ----------
    segments : pandas.DataFrame
        Rows of one video; each applies from its start to just before its end.
    times_s : numpy.ndarray, shape (n,)
        Seconds after the first frame.
    phases : sequence of str
        All phases in the order of their ids.

    Returns
    -------
    numpy.ndarray, shape (n,), int64
        Ids; `UNLABELLED` where no segment applies or two disagree.

    Raises
    ------
    DataError
        If a phase is unknown.
    """
    check_phases(segments, phases)
    times_s = np.asarray(times_s)
    ids = np.full(times_s.shape, UNLABELLED, np.int64)
    contested = np.zeros(times_s.shape, bool)
    starts, ends = segments["start_s"].fillna(-np.inf), segments["end_s"].fillna(np.inf)
    for start_s, end_s, phase in zip(starts, ends, segments["phase"], strict=True):
        inside = (start_s <= times_s) & (times_s < end_s)
        number = list(phases).index(phase)
        contested |= inside & (ids != UNLABELLED) & (ids != number)
        ids[inside] = number
    ids[contested] = UNLABELLED
    return ids


def calculate_class_weights(df: pd.DataFrame, column: str) -> dict[str, float]:
    """Return class weights that make rare classes count as much as frequent ones.

    Each weight is the inverse of the number of rows, divided by the largest of these inverses.

    Parameters
    ----------
    df : pandas.DataFrame
        The table.
    column : str
        The column of the classes.

    Returns
    -------
    dict of str to float
        Weights; the rarest class has 1. Numbers in numerical order, then names.
    """
    counts = df[column].astype(str).value_counts()
    return {
        name: float(counts.min() / counts[name]) for name in sorted(counts.index, key=_by_number)
    }


def split_by_video(
    table: pd.DataFrame, shares: Sequence[float] = (8, 1, 1), seed: int = 0
) -> dict[str, list[str]]:
    """Assign videos to training, validation and test.

    The splits of the file are kept if it has any. Otherwise every phase is spread over the splits
    by their shares, rare phases first (iterative stratification); the first video of each phase
    goes to training.

    Parameters
    ----------
    table : pandas.DataFrame
        Annotations.
    shares : sequence of three float
        Shares of the splits.
    seed : int
        Seed of the assignment.

    Returns
    -------
    dict of str to list of str
        Sorted videos of each of the `SPLITS`; a list may be empty.

    References
    ----------
    Sechidis, K., Tsoumakas, G., Vlahavas, I. (2011). On the stratification of multi-label data.
    ECML PKDD. doi:10.1007/978-3-642-23808-6_10.
    """
    if table["split"].any():
        own = table.drop_duplicates("video").set_index("video")["split"]
        return {split: sorted(own.index[own == split]) for split in SPLITS}
    wanted = np.array(checked_shares(shares, "split shares"), float) / sum(shares)
    return _Dealer(table, wanted, seed).deal()


class _Dealer:
    """Iterative stratification of videos with several phases each; see `split_by_video`."""

    def __init__(self, table: pd.DataFrame, wanted: np.ndarray, seed: int) -> None:
        videos = sorted(table["video"].unique())
        order = np.random.default_rng(seed).permutation(len(videos))
        holds = pd.crosstab(table["video"], table["phase"]) > 0
        #: Videos not assigned yet (video, phase), and the number of videos that every split still
        #: needs, by phase (split, phase) and in total (split,).
        self._left = holds.loc[[videos[number] for number in order]]
        self._lacks = wanted[:, None] * self._left.sum().to_numpy()
        self._room = wanted * len(videos)
        self._trained = np.zeros(holds.shape[1], bool)
        self._dealt: dict[str, list[str]] = {split: [] for split in SPLITS}

    def deal(self) -> dict[str, list[str]]:
        """Assign all videos."""
        while len(self._left):
            counts = self._left.sum().to_numpy()
            scarcest = int(np.where(counts > 0, counts, np.inf).argmin())
            for video in self._left.index[self._left.iloc[:, scarcest]]:
                self._give(video, self._chosen(scarcest))
        return {split: sorted(videos) for split, videos in self._dealt.items()}

    def _chosen(self, phase: int) -> int:
        if not self._trained[phase]:
            return 0
        return int(np.lexsort((-self._room, -self._lacks[:, phase]))[0])

    def _give(self, video: str, split: int) -> None:
        holds = self._left.loc[video].to_numpy()
        self._lacks[split] -= holds
        self._room[split] -= 1
        self._trained |= holds & (split == 0)
        self._dealt[SPLITS[split]].append(video)
        self._left = self._left.drop(index=video)
