"""Downloads against a server on this machine that misbehaves on purpose."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.bad_server import CONTENT, HALF, SHA256, Server, running

from knowsam_lite import downloads
from knowsam_lite.downloads import fetch
from knowsam_lite.errors import UserError


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    with running() as server:
        yield server


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"f.zip", "f.zip.lock", "f.zip.sha256"}


@pytest.mark.parametrize("faults", [[], ["500"], ["503", "429"], ["redirect"], ["truncated"]])
@pytest.mark.parametrize("sha256", [SHA256, None])
def test_what_passes_is_survived_and_the_file_is_right(server, tmp_path, faults, sha256):
    server.faults = list(faults)
    path = fetch(server.url, sha256, "f.zip", tmp_path / "new")
    assert path.read_bytes() == CONTENT
    assert not leftovers(tmp_path / "new")
    assert server.requests[-1][1] == (f"bytes={HALF}-" if "truncated" in faults else "")
    count = len(server.requests)
    assert fetch(server.url, sha256, "f.zip", tmp_path / "new") == path
    assert len(server.requests) == count  # what is there is not downloaded again


def test_a_later_process_goes_on_where_the_first_stopped(server, tmp_path):
    server.faults = ["truncated", "truncated"]
    with pytest.raises(UserError, match=r"not reachable after 2 attempts.*resumes where it stopped"):
        fetch(server.url, SHA256, "f.zip", tmp_path, retries=1)
    assert (tmp_path / "f.zip.part").stat().st_size == HALF + HALF // 2
    assert not (tmp_path / "f.zip").exists()
    assert fetch(server.url, SHA256, "f.zip", tmp_path).read_bytes() == CONTENT
    assert server.requests[-1][1] == f"bytes={HALF + HALF // 2}-"


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.faults, server.ranges = ["truncated"], False
    assert fetch(server.url, SHA256, "f.zip", tmp_path).read_bytes() == CONTENT


def test_a_complete_part_only_needs_its_name(server, tmp_path):
    (tmp_path / "f.zip.part").write_bytes(CONTENT)
    assert fetch(server.url, SHA256, "f.zip", tmp_path).read_bytes() == CONTENT
    (tmp_path / "f.zip").unlink()
    (tmp_path / "f.zip.part").write_bytes(CONTENT + b"too much")
    assert fetch(server.url, SHA256, "f.zip", tmp_path).read_bytes() == CONTENT


def test_pieces_that_do_not_belong_together_are_thrown_away(server, tmp_path):
    (tmp_path / "f.zip.part").write_bytes(b"of another file")
    assert fetch(server.url, SHA256, "f.zip", tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["bytes=15-", ""]


def test_without_a_checksum_two_versions_are_never_joined(server, tmp_path):
    server.faults = ["truncated"]
    with pytest.raises(UserError):
        fetch(server.url, None, "f.zip", tmp_path, retries=0)
    server.content, server.tag = CONTENT[::-1], '"two"'
    assert fetch(server.url, None, "f.zip", tmp_path).read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    ("fault", "sha256", "words"),
    [
        ("404", SHA256, r"found HTTP 404 .*expected f.zip: check the address"),
        ("403", SHA256, r"found HTTP 403"),
        ("wrong", SHA256, rf"checksum is wrong\), expected SHA-256 {SHA256}.*put the right file at"),
        ("page", None, r"found a web page at .*by hand"),
    ],
)
def test_what_no_repetition_mends_is_one_line_at_once(server, tmp_path, fault, sha256, words):
    server.faults = [fault]
    with pytest.raises(UserError, match=words) as caught:
        fetch(server.url, sha256, "f.zip", tmp_path)
    assert len(server.requests) == 1 and "\n" not in str(caught.value)
    assert not (tmp_path / "f.zip").exists() and not leftovers(tmp_path)


def test_a_closed_port_and_a_wrong_address_say_so(server, tmp_path):
    closed = Server()
    closed.server_close()
    with pytest.raises(UserError, match="not reachable after 3 attempts"):
        fetch(closed.url, SHA256, "f.zip", tmp_path, retries=2)
    with pytest.raises(UserError, match="no usable address"):
        fetch("not an address", SHA256, "f.zip", tmp_path)


def test_the_recorded_checksum_is_enforced_from_then_on(server, tmp_path):
    fetch(server.url, None, "f.zip", tmp_path)
    assert (tmp_path / "f.zip.sha256").read_text() == f"{SHA256}  f.zip\n"
    (tmp_path / "f.zip").write_bytes(CONTENT[:-1])  # damaged here: fetched again
    assert fetch(server.url, None, "f.zip", tmp_path).read_bytes() == CONTENT
    server.content = CONTENT[::-1]  # changed there: refused
    (tmp_path / "f.zip").unlink()
    with pytest.raises(UserError, match=f"expected SHA-256 {SHA256}"):
        fetch(server.url, None, "f.zip", tmp_path)


def test_an_altered_file_is_replaced_by_the_right_one(server, tmp_path):
    (tmp_path / "f.zip").write_bytes(CONTENT[:1000])
    assert fetch(server.url, SHA256, "f.zip", tmp_path).read_bytes() == CONTENT


def test_a_right_file_is_taken_from_where_nobody_may_write(server, tmp_path, monkeypatch):
    (tmp_path / "f.zip").write_bytes(CONTENT)
    monkeypatch.setattr("knowsam_lite.downloads.FileLock", None)  # it would make a file
    assert fetch(server.url, SHA256, "f.zip", tmp_path) == tmp_path / "f.zip"
    assert [path.name for path in tmp_path.iterdir()] == ["f.zip"] and not server.requests


def test_two_at_once_download_once(server, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(fetch, server.url, SHA256, "f.zip", tmp_path) for _ in range(4)]
        assert all(job.result().read_bytes() == CONTENT for job in jobs)
    assert len(server.requests) == 1


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not writable"):
        fetch(server.url, SHA256, "f.zip", tmp_path / "file")
