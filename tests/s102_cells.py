"""Writes small S-102 cells of the editions 2.0, 2.1, 2.2 and 3.0.

They are laid out as in IHO S-102, Bathymetric Surface Product Specification, editions 2.0.0 (2019),
2.1.0, 2.2.0 and 3.0.0, clause 10 and the annex on the HDF5 encoding, with S-100 part 10c. Names and
types of the attributes were compared with what NOAA's s100py 2.0.1 writes (read in its source), and
places and values of edition 2 with what GDAL 3.10 reads (a test holds that).
"""

import h5py
import numpy as np

ROWS, COLUMNS, FILL = 5, 7, 1_000_000.0
#: Positive down, row 0 the southernmost, one gap and one drying height.
DEPTHS = 20 + np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS) / 4
DEPTHS[1, 2], DEPTHS[4, 6] = np.nan, -1.5
#: EPSG code, centre of the south-western node, spacing: x first.
UTM = (32618, (580_000.0, 4_500_000.0), (8.0, 4.0))
DEGREES = (4326, (-74.05, 40.6), (0.0001, 0.0002))
EDITIONS = ("2.0", "2.1", "2.2", "3.0")
ONE = "BathymetryCoverage.01"


def write_s102(path, edition="3.0", place=UTM, coverages=1, depths=DEPTHS, fields=2):
    """Write a cell; every further coverage is 10 m deeper and twice as coarse."""
    code, (x, y), (dx, dy) = place
    axes = ["Longitude", "Latitude"] if code == 4326 else ["Easting", "Northing"]
    with h5py.File(path, "w") as file:
        file.attrs["productSpecification"] = f"INT.IHO.S-102.{edition}" + ".0" * (edition == "3.0")
        file.attrs["issueDate"] = "20240301"
        write_root(file, edition, code)
        write_group_f(file, fields)
        container = file.create_group("BathymetryCoverage")
        container["axisNames"] = np.array(axes, h5py.string_dtype())
        container.attrs["dataCodingFormat"] = enum(2 if edition in ("2.0", "3.0") else 9)
        container.attrs["dimension"] = np.uint8(2)
        container.attrs["numInstances"] = np.uint8(coverages)
        container.attrs["sequencingRule.type"] = enum(1)
        container.attrs["sequencingRule.scanDirection"] = ", ".join(axes)
        if edition == "3.0":
            container.attrs["dataOffsetCode"] = enum(5)
        for number in range(coverages):
            coverage = container.create_group(f"BathymetryCoverage.{number + 1:02}")
            coverage.attrs["gridOriginLongitude"] = np.float64(x)
            coverage.attrs["gridOriginLatitude"] = np.float64(y)
            coverage.attrs["gridSpacingLongitudinal"] = np.float64(dx * 2**number)
            coverage.attrs["gridSpacingLatitudinal"] = np.float64(dy * 2**number)
            coverage.attrs["numPointsLongitudinal"] = np.uint32(depths.shape[1])
            coverage.attrs["numPointsLatitudinal"] = np.uint32(depths.shape[0])
            coverage.attrs["startSequence"] = "0,0"
            coverage.attrs["numGRP"] = np.uint8(1)
            records = np.zeros(depths.shape, [("depth", "<f4"), ("uncertainty", "<f4")][:fields])
            records["depth"] = np.nan_to_num(depths + 10 * number, nan=FILL)
            if fields == 2:
                records["uncertainty"] = np.where(np.isnan(depths), FILL, uncertainties(depths))
            group = coverage.create_group("Group_001")
            group.create_dataset("values", data=records, chunks=(2, 3), compression="gzip")
        if edition in ("2.2", "3.0"):
            named = "QualityOfSurvey" if edition == "2.2" else "QualityOfBathymetryCoverage"
            file.create_group(named).attrs["dataCodingFormat"] = enum(9)
    return path


def uncertainties(depths):
    """Return those of the writer: half a metre and a centimetre more from node to node."""
    return 0.5 + np.arange(depths.size, dtype=np.float32).reshape(depths.shape) / 100


def enum(number):
    """Return a number of an HDF5 enumeration, as the standard wants it."""
    kind = h5py.enum_dtype({"one": 1, "two": 2, "five": 5, "nine": 9}, basetype="u1")
    return np.array(number, kind)


def write_root(file, edition, code):
    """Write what says the systems: of the plane before edition 2.2 in two attributes."""
    if edition in ("2.0", "2.1"):
        file.attrs["horizontalDatumReference"] = np.bytes_("EPSG")
        file.attrs["horizontalDatumValue"] = np.int16(code) if code < 2**15 else np.int32(code)
        return
    file.attrs["horizontalCRS"] = np.int32(code)
    file.attrs["verticalCS"] = np.int32(6498)
    file.attrs["verticalDatum"] = np.uint16(12)


def write_group_f(file, fields=2, fill="1000000", unit="metres"):
    """Write what every field means."""
    names = ("code", "name", "uom.name", "fillValue", "datatype", "lower", "upper", "closure")
    rows = [
        ("depth", "depth", unit, fill, "H5T_FLOAT", "-12000", "12000", "closedInterval"),
        ("uncertainty", "uncertainty", unit, fill, "H5T_FLOAT", "0", "", "geSemiInterval"),
    ]
    kind = np.dtype([(name, h5py.string_dtype()) for name in names])
    group = file.require_group("Group_F")
    group["BathymetryCoverage"] = np.array(rows[:fields], kind)
    group["featureCode"] = np.array(["BathymetryCoverage"], h5py.string_dtype())
