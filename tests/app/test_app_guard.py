"""What the server answers to requests that its page would not send, without a browser."""

import contextlib
import functools
import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from app_helpers import SHAPE, StubPredictor, write_image

pytest.importorskip("gradio")

import httpx

from unet_sharp_det.app import guard
from unet_sharp_det.app.analysis import Analyser
from unet_sharp_det.app.isolation import IsolatedAnalyser
from unet_sharp_det.app.server import QUIET, serving

UPLOAD, JOIN = "/gradio_api/upload", "/gradio_api/queue/join"
EVIL = "http://evil.example"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Of a page that takes files up to 0.1 MB."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("guard")
        patch.setattr("tempfile.tempdir", str(folder))
        for name in QUIET:
            patch.setenv(name, "as it was")  # restored afterwards
        isolated = contextlib.closing(IsolatedAnalyser(Analyser(StubPredictor)))
        with isolated as analyser, serving(analyser, port=None, max_upload_mb=0.1) as address:
            with httpx.Client(base_url=address, timeout=30) as client:
                client.folder = folder
                yield client


def upload(client, *contents, name="a.png", **headers):
    files = [("files", (name, content)) for content in contents]
    return client.post(UPLOAD, files=files, headers=headers)


def join(client, data, function="open_upload", session="a"):
    numbers = {
        each["api_name"]: each["id"] for each in client.get("/config").json()["dependencies"]
    }
    body = {"data": data, "fn_index": numbers[function], "session_hash": session}
    client.post(JOIN, json=body).raise_for_status()
    stream = client.get("/gradio_api/queue/data", params={"session_hash": session}).text
    events = [json.loads(line[5:]) for line in stream.splitlines() if line.startswith("data:")]
    (output,) = [each["output"] for each in events if each["msg"] == "process_completed"]
    return output


def bytes_on_disk(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "path, status",
    [
        ("/", 200),
        ("/gradio_api/file=/etc/hostname", 403),
        ("/gradio_api/file=README.md", 404),
        ("/gradio_api/file=https://example.org/a.png", 404),
        ("/gradio_api/file=/%2e%2e/etc/hostname", 403),
        ("/gradio_api/info", 404),
        ("/gradio_api/openapi.json", 404),
        ("/gradio_api/proxy=https://example.org/", 404),
        ("/monitoring", 404),
        ("/docs", 404),
        ("/static/" + 300 * "a", 400),
    ],
)
def test_only_the_page_is_served(client, path, status):
    assert client.get(path).status_code == status


def test_another_host_name_is_refused(client):
    assert client.get("/", headers={"Host": "example.org"}).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": EVIL, "X-Forwarded-Host": "evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_other_sites_change_nothing(client, headers):
    before = bytes_on_disk(client.folder)
    assert upload(client, b"x", **headers).status_code == 403
    assert client.post(JOIN, json={}, headers=headers).status_code == 403
    assert client.post("/gradio_api/cancel", json={}, headers=headers).status_code == 403
    assert bytes_on_disk(client.folder) == before


def test_the_page_itself_and_a_link_to_it_are_no_other_site(client):
    origin = str(client.base_url).rstrip("/")
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert upload(client, b"x", **headers).status_code == 200
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


@pytest.mark.parametrize("name", ["X-Forwarded-Host", "X-Gradio-Server"])
def test_the_address_is_not_taken_from_the_request(client, name):
    assert "evil.example" not in client.get("/", headers={name: EVIL}).text
    assert "evil.example" not in client.get("/config", headers={name: EVIL}).text


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.png", "a.pdf"])
def test_files_are_downloads(client, name):
    path = upload(client, b"<script>alert(1)</script>", name=name).json()[0]
    for headers in ({}, {"Range": "bytes=0-3"}):
        answer = client.get(f"/gradio_api/file={path}", headers=headers)
        assert answer.status_code in (200, 206)
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_one_request_has_one_limit_however_many_files_it_has(client):
    before = bytes_on_disk(client.folder)
    megabyte = bytes(100_000)
    assert upload(client, *[megabyte] * 40).status_code == 413
    assert bytes_on_disk(client.folder) == before
    assert upload(client, megabyte).status_code == 200


def test_a_request_tells_its_length(client):
    chunks = (part for part in [b"x"])
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post(UPLOAD, content=chunks, headers=headers).status_code == 411


def test_uploads_have_a_bound_in_all(client):
    for number in range(20):
        last = upload(client, bytes([number]) * 100_000)
    assert bytes_on_disk(client.folder) <= (guard._UPLOADS_ON_DISK + 1) * 0.1 * 2**20
    assert Path(last.json()[0]).read_bytes() == bytes([19]) * 100_000


def test_old_uploads_vanish(client, monkeypatch):
    (old,) = upload(client, b"old").json()
    now = time.time()
    monkeypatch.setattr(guard.time, "time", lambda: now + guard._UPLOAD_SECONDS + 1)
    upload(client, b"new")
    assert not Path(old).exists()


def test_an_open_image_outlives_its_upload(client, tmp_path, monkeypatch):
    (path,) = upload(client, write_image(tmp_path / "a.png").read_bytes()).json()
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    assert join(client, [file], session="b")["is_generating"] is False
    now = time.time()
    monkeypatch.setattr(guard.time, "time", lambda: now + guard._UPLOAD_SECONDS + 1)
    upload(client, b"new")
    assert not Path(path).exists()
    shown = join(client, [1, [0], 0.5, 0, 0, True], "find", session="b")
    assert "<dd>3</dd>" in json.dumps(shown)


@pytest.mark.parametrize(
    "path, options",
    [
        (UPLOAD, {"data": {"files": "text"}, "files": {"x": b"x"}}),
        (UPLOAD, {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}),
        (UPLOAD, {"content": b"x", "headers": {"Content-Type": "text/plain"}}),
        (UPLOAD, {"files": {"files": ("..", b"x")}}),
        (JOIN, {"json": {"data": [], "fn_index": 99, "session_hash": "a"}}),
        (JOIN, {"json": {"data": [], "session_hash": "a"}}),
        (JOIN, {"json": {"data": [], "fn_index": 0}}),
        (JOIN, {"json": []}),
        (JOIN, {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        (JOIN, {"content": bytes(3 * 2**20)}),
        ("/gradio_api/cancel", {"json": {"fn_index": "x"}}),
        ("/", {"content": b"x"}),
        ("/config", {"content": b"x"}),
    ],
    ids=str,
)
def test_wrong_calls_are_the_callers_fault(client, path, options):
    assert 400 <= client.post(path, **options).status_code < 500


def test_a_file_that_is_given_by_its_address_is_not_fetched(client):
    file = {"path": "https://example.org/a.png", "meta": {"_type": "gradio.FileData"}}
    assert "Files can only be uploaded." in json.dumps(join(client, [file]))


OME = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1"><Image>
<Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="128" SizeY="96" SizeZ="{count}" SizeC="1"
SizeT="1"><Channel SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>"""
OWN = '<TiffData FirstZ="{z}" IFD="0"><UUID>urn:uuid:1</UUID></TiffData>'
OTHER = '<TiffData FirstZ="{z}" IFD="0"><UUID FileName="{name}">urn:uuid:2</UUID></TiffData>'


@pytest.mark.parametrize("planes", [[OWN], [OTHER], [OTHER, OWN], [OWN, OTHER]])
@pytest.mark.parametrize("way", ["", 20 * "/.."], ids=["absolute", "upwards"])
def test_an_upload_shows_its_own_pixels_or_an_error(client, tmp_path, planes, way):
    secret, path = tmp_path / "secret.tif", tmp_path / "a.ome.tif"
    name = f"{way}{secret}".removeprefix("/" if way else "")
    entries = "".join(each.format(z=z, name=name) for z, each in enumerate(planes))
    text = OME.format(count=len(planes), planes=entries)
    save = functools.partial(tifffile.imwrite, metadata=None, photometric="minisblack")
    other, own = cv2.imread(str(write_image(tmp_path / "other.png")), 0), np.zeros(SHAPE, np.uint8)
    own[:, 64:] = 90
    save(secret, other, description=text.replace("urn:uuid:1", "urn:uuid:2", 1))
    save(path, own, description=text)
    (sent,) = upload(client, path.read_bytes(), name="a.ome.tif").json()
    file = {"path": sent, "meta": {"_type": "gradio.FileData"}}
    message, picture, *_ = join(client, [file], session=f"{len(planes)}{way}")["data"]
    if picture is None:
        assert "names a file that is not beside it" in message["value"]
        return
    assert len(planes) == 1
    png = client.get(f"/gradio_api/file={picture['path']}").content
    shown = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(shown > 0, own > 0)
