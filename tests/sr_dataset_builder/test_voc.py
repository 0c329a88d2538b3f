"""The program voc: offline it checks and unpacks, online it resumes; nothing half done remains."""

import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from sr_dataset_builder import voc
from toolbox.errors import DataError

ROOT = "VOCdevkit/VOC2012"
NAMES = {"train": ["2007_000032", "2007_000039"], "val": ["2007_000033"]}


def content():
    """Return what a small data set holds: {name in the archive: bytes}."""
    files = {}
    for part, names in NAMES.items():
        lines = "".join(f"{name}\n" for name in names)
        files[f"{ROOT}/ImageSets/Segmentation/{part}.txt"] = lines.encode()
        for name in names:
            files[f"{ROOT}/JPEGImages/{name}.jpg"] = name.encode() * 300
            files[f"{ROOT}/SegmentationClass/{name}.png"] = name.encode() * 30
    return files


OTHERS = {
    f"{ROOT}/Annotations/2007_000032.xml": b"<boxes/>",
    f"{ROOT}/ImageSets/Main/train.txt": b"2007_000032",
    f"{ROOT}/SegmentationObject/2007_000032.png": b"instances",
}


def member(name, data=b"", **attributes):
    """Return a member of an archive and its bytes."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def archive(*more, without=""):
    """Return the bytes of a small archive, with further members and without those named so."""
    members = [member(f"{ROOT}/JPEGImages", type=tarfile.DIRTYPE, mode=0o755)]
    members += [member(n, d) for n, d in {**content(), **OTHERS}.items() if n != without]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, data in [*members, *more]:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def publish(monkeypatch):
    """``publish(data)`` makes some bytes the ones that are expected."""

    def declare(data):
        monkeypatch.setattr(voc, "ARCHIVE_BYTES", len(data))
        monkeypatch.setattr(voc, "ARCHIVE_MD5", hashlib.md5(data).hexdigest())
        return data

    return declare


class Server(http.server.HTTPServer):
    """A server of one file; what is set here makes it a bad one."""

    data = b""
    status = 200
    resumes = tells_length = True
    breaks_after: int | None = None
    off_by = 0

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges = []


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for a `Server`."""

    server: Server

    def do_GET(self):
        server, wanted = self.server, self.headers["Range"]
        server.ranges.append(wanted)
        if server.status >= 300:
            self.send_response(server.status)
            self.send_header("Location", "file:///etc/hostname")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted[len("bytes=") : -1]) if wanted and server.resumes else 0
        body = server.data[start:]
        self.send_response(206 if start else 200)
        if start:
            size = len(server.data)
            told = start + server.off_by
            self.send_header("Content-Range", f"bytes {told}-{size - 1}/{size}")
        if server.tells_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.breaks_after])
        server.breaks_after = None

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def server(monkeypatch):
    """A server of this machine from which the program downloads."""
    server = Server()
    server.data = archive()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(voc, "ADDRESS", f"http://127.0.0.1:{server.server_port}/voc.tar")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def program(tmp_path, capsys):
    """``program(*options)`` on the folder ``voc``; returns exit code, output and messages."""

    def run(*options):
        code = voc.main([str(tmp_path / "voc"), *options])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        if code:
            assert err.splitlines()[-1].startswith("error: ")
        return code, out, err

    return run


@pytest.fixture
def folder(tmp_path):
    """The folder itself, empty."""
    (tmp_path / "voc").mkdir()
    return tmp_path / "voc"


def files_in(folder):
    """Return every file below a folder with its bytes, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def put(folder, data):
    """Lay an archive into the folder."""
    (folder / voc.ARCHIVE_NAME).write_bytes(data)


def check_whole(folder, out):
    """Assert that exactly what is wanted was unpacked, and said so."""
    found = files_in(folder)
    found.pop(voc.ARCHIVE_NAME, None)
    assert found == content()
    assert "2 in train, 1 in val" in out
    assert sorted(path.name for path in folder.iterdir()) in (
        ["VOCdevkit", voc.ARCHIVE_NAME],
        ["VOCdevkit"],
    )


# --- offline -----------------------------------------------------------------------------------


def test_the_published_archive():
    """The MD5 is that in torchvision/datasets/voc.py for 2012, of the same file."""
    assert voc.ARCHIVE_BYTES == 1999639040
    assert voc.ARCHIVE_MD5 == "6cd6e144f989b92b3379bac3b3de84fd"
    assert voc.ADDRESS.endswith(f"/voc2012/{voc.ARCHIVE_NAME}")
    assert voc.ADDRESS.startswith(("http://", "https://"))


def test_nothing_there_says_what_to_put_where(program, folder, server):
    """Without --download the network is left alone; the line has name, size, MD5 and address."""
    code, out, err = program()
    assert code == 2
    assert out == ""
    [line] = err.splitlines()
    for word in (
        str(folder),
        voc.ARCHIVE_NAME,
        "1,999,639,040",
        voc.ARCHIVE_MD5,
        voc.ADDRESS,
        "--download",
    ):
        assert word in line
    assert server.ranges == []
    assert list(folder.iterdir()) == []


def test_an_archive_is_unpacked(program, folder, publish):
    """Pictures, class maps and lists appear; a second run finds them without the archive."""
    put(folder, publish(archive()))
    code, out, _ = program()
    assert code == 0
    check_whole(folder, out)
    assert "no longer needed" in out
    (folder / voc.ARCHIVE_NAME).unlink()
    code, out, err = program()
    assert (code, err) == (0, "")
    check_whole(folder, out)
    assert "no longer needed" not in out


@pytest.mark.parametrize("damage", ["short", "changed"])
def test_a_damaged_archive_is_refused(program, folder, publish, damage):
    """One of the wrong size or MD5 is named and stays; nothing is unpacked."""
    data = publish(archive())
    data = data[:-512] if damage == "short" else bytes([data[0] ^ 1]) + data[1:]
    put(folder, data)
    code, _, err = program("--download")
    assert code == 2
    assert {"short": f"expected {voc.ARCHIVE_BYTES:,}", "changed": voc.ARCHIVE_MD5}[damage] in err
    assert files_in(folder) == {voc.ARCHIVE_NAME: data}


@pytest.mark.parametrize(
    "missing",
    [
        "ImageSets/Segmentation/val.txt",
        "JPEGImages/2007_000033.jpg",
        "SegmentationClass/2007_000039.png",
    ],
)
def test_an_incomplete_data_set_is_named(program, folder, publish, missing):
    """What is missing is named, whether in the folder or in the archive; nothing is replaced."""
    put(folder, publish(archive()))
    assert program()[0] == 0
    (folder / ROOT / missing).unlink()
    before = files_in(folder)
    code, _, err = program("--download")
    assert code == 2
    assert f"{missing} is missing" in err
    assert files_in(folder) == before
    (folder / "VOCdevkit").rename(folder / "away")
    put(folder, publish(archive(without=f"{ROOT}/{missing}")))
    code, _, err = program()
    assert code == 2
    assert f"{missing} is missing" in err
    assert not (folder / "VOCdevkit").exists()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (member("../evil.txt", b"evil"), "leads out of the folder"),
        (member(f"{ROOT}/JPEGImages/../../../../evil.jpg", b"evil"), "leads out of the folder"),
        (member("/tmp/voc_evil.jpg", b"evil"), "leads out of the folder"),
        (
            member(f"{ROOT}/JPEGImages/evil.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
            "is a link",
        ),
        (
            member(f"{ROOT}/JPEGImages/evil.jpg", type=tarfile.LNKTYPE, linkname="../evil.txt"),
            "is a link",
        ),
    ],
)
def test_archives_that_reach_elsewhere(program, folder, publish, bad, words):
    """Names that lead out of the folder, and links, are refused and leave nothing anywhere."""
    put(folder, publish(archive(bad)))
    before = files_in(folder.parent)
    code, _, err = program()
    assert code == 2
    assert words in err
    assert files_in(folder.parent) == before


def test_only_what_is_wanted_is_taken_out(program, folder, publish):
    """Other kinds of files in the wanted folders, and links outside of them, are left out."""
    others = [
        member(f"{ROOT}/JPEGImages/run.sh", b"#!/bin/sh"),
        member(f"{ROOT}/JPEGImages/deep/2007_000032.jpg", b"deep"),
        member("link", type=tarfile.SYMTYPE, linkname="/etc"),
    ]
    put(folder, publish(archive(*others)))
    code, out, _ = program()
    assert code == 0
    check_whole(folder, out)


def test_no_archive_at_all(program, folder, publish):
    """Bytes that are no archive, though they are the expected ones, give one line."""
    put(folder, publish(b"no archive" * 100))
    code, _, err = program()
    assert code == 2
    assert "cannot be unpacked" in err


def test_a_stopped_run_leaves_nothing_half_done(program, folder, publish, monkeypatch):
    """Stopped while unpacking, nothing has the final name; what a killed run left goes."""
    put(folder, publish(archive()))
    extract = tarfile.TarFile.extract

    def stop(tar, info, *rest, **options):
        if info.name.endswith("2007_000039.jpg"):
            raise KeyboardInterrupt
        return extract(tar, info, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extract", stop)
        assert voc.main([str(folder)]) == 130
    assert files_in(folder).keys() == {voc.ARCHIVE_NAME}
    left = folder / ".voc-unpacking.tmp" / ROOT / "JPEGImages"
    left.mkdir(parents=True)
    (left / "torn.jpg").write_bytes(b"torn")
    code, out, _ = program()
    assert code == 0
    check_whole(folder, out)


def test_a_file_instead_of_a_folder(program, tmp_path):
    """It is named in one line."""
    (tmp_path / "voc").write_text("a file")
    code, _, err = program("--download")
    assert code == 2
    assert "expected a folder" in err


# --- online ------------------------------------------------------------------------------------


def test_download(program, folder, server, publish):
    """The archive is fetched, verified and unpacked; a second run asks for nothing."""
    folder.rmdir()
    publish(server.data)
    code, out, err = program("--download")
    assert code == 0
    check_whole(folder, out)
    assert "downloading" in err
    assert (folder / voc.ARCHIVE_NAME).read_bytes() == server.data
    assert program("--download")[0] == 0
    assert server.ranges == [None]


@pytest.mark.parametrize("resumes", [True, False])
def test_an_interrupted_download(program, folder, server, publish, resumes):
    """What has arrived is kept; the next run asks for the rest, and copes if it gets it all."""
    publish(server.data)
    server.breaks_after, server.resumes = 5000, resumes
    code, _, err = program("--download")
    assert code == 2
    assert "run this again to resume" in err
    part = f"{voc.ARCHIVE_NAME}.part"
    assert files_in(folder) == {part: server.data[:5000]}
    code, out, _ = program("--download")
    assert code == 0
    check_whole(folder, out)
    assert server.ranges == [None, "bytes=5000-"]


def test_a_whole_part_needs_no_network(program, folder, server, publish):
    """A run that was killed between download and check leaves a part that is only verified."""
    (folder / f"{voc.ARCHIVE_NAME}.part").write_bytes(publish(server.data))
    code, out, _ = program("--download")
    assert code == 0
    check_whole(folder, out)
    assert server.ranges == []


def test_a_part_that_is_too_long(program, folder, server, publish):
    """A part that cannot be one is fetched anew."""
    (folder / f"{voc.ARCHIVE_NAME}.part").write_bytes(publish(server.data) + b"more")
    code, out, _ = program("--download")
    assert code == 0
    check_whole(folder, out)
    assert server.ranges == [None]


def test_a_wrong_checksum(program, folder, server, publish):
    """Bytes of another MD5 never get the final name, and are not resumed for ever."""
    publish(server.data)
    (folder / f"{voc.ARCHIVE_NAME}.part").write_bytes(b"other bytes")
    code, _, err = program("--download")
    assert code == 2
    assert f"expected {voc.ARCHIVE_MD5}" in err
    assert "was removed" in err
    assert list(folder.iterdir()) == []
    assert program("--download")[0] == 0


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_longer_file(program, folder, server, publish, tells_length):
    """Another file is refused before it is fetched, or as soon as it proves too long."""
    publish(server.data)
    server.data += bytes(4096)
    server.tells_length = tells_length
    code, _, err = program("--download")
    assert code == 2
    assert f"{len(server.data):,} bytes; expected {voc.ARCHIVE_BYTES:,}" in err
    assert list(folder.iterdir()) == []


def test_a_rest_of_another_place(program, folder, server, publish):
    """A server that sends other bytes than it was asked for does not spoil the part."""
    part = folder / f"{voc.ARCHIVE_NAME}.part"
    part.write_bytes(publish(server.data)[:600])
    server.off_by = 1
    code, _, err = program("--download")
    assert code == 2
    assert "requested bytes from 600 on" in err
    assert part.read_bytes() == server.data[:600]


@pytest.mark.parametrize(
    ("status", "words"),
    [(404, "answered 404 Not Found"), (416, "answered 416"), (302, "302")],
)
def test_servers_that_refuse(program, folder, server, status, words):
    """An error, or a redirection to a local file, is one line; nothing is written."""
    server.status = status
    code, _, err = program("--download")
    assert code == 2
    assert words in err
    assert list(folder.iterdir()) == []


def test_no_server(program, folder, server, monkeypatch):
    """Where nobody answers, the line says why and what to do instead."""
    monkeypatch.setattr(voc, "ADDRESS", "http://127.0.0.1:1/voc.tar")
    code, _, err = program("--download")
    assert code == 2
    assert "cannot be downloaded" in err
    assert "leave out --download" in err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/voc.tar"])
def test_only_the_web(folder, monkeypatch, address):
    """Neither local files nor FTP are opened, even if the address said so."""
    monkeypatch.setattr(voc, "ADDRESS", address)
    with pytest.raises(DataError, match="unknown url type"):
        voc.fetch(folder / voc.ARCHIVE_NAME)
    assert list(folder.iterdir()) == []
