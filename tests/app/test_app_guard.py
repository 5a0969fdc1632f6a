"""What the server answers to requests that its page would not send, without a browser."""

import contextlib
import functools
import time

import cv2
import numpy as np
import pytest
import tifffile
from app_helpers import SHAPE, StubPredictor, write_image

pytest.importorskip("fastapi")

import httpx

from unet_sharp_det.app import Analyser, IsolatedAnalyser, Model, serving

EVIL = "http://evil.example"
VIEW = {"plane": 0, "channels": [0]}
SEARCH = {"images": [1], "models": ["stub"]}
RESULTS = {"model": "stub", "limits": {}, "kinds": ["table"]}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a page that takes files up to 0.1 MB."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("guard")
        patch.setattr("tempfile.tempdir", str(folder))
        isolated = IsolatedAnalyser(Analyser({"stub": StubPredictor}))
        models = {"stub": Model(card="# stub")}
        with (
            contextlib.closing(isolated),
            serving(isolated, models, port=0, max_upload_mb=0.1) as address,
        ):
            yield address, folder


@pytest.fixture
def visit(address):
    """A function that returns a client: a visitor of his own, with a key."""
    with contextlib.ExitStack() as stack:

        def visit():
            client = stack.enter_context(httpx.Client(base_url=address[0], timeout=30))
            client.get("/api/page").raise_for_status()
            return client

        yield visit


@pytest.fixture
def client(visit):
    return visit()


def upload(client, content, name="a.png", **headers):
    return client.post("/api/images", params={"name": name}, content=content, headers=headers)


def send_image(client, path):
    return upload(client, write_image(path).read_bytes()).raise_for_status().json()


def search(client):
    client.post("/api/searches", json=SEARCH).raise_for_status()
    while client.get("/api/images").json()[0]["tasks"]["stub"]["state"] != "done":
        time.sleep(0.05)


def bytes_on_disk(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "path, status",
    [
        ("/", 200),
        ("/static/page.js", 200),
        ("/models/stub", 200),
        ("/models/nuclei", 404),
        ("/models/..%2f..%2fetc", 404),
        ("/static/../routes.py", 404),
        ("/static/%2e%2e/routes.py", 404),
        ("/static//etc/hostname", 404),
        ("/etc/hostname", 404),
        ("/docs", 404),
        ("/openapi.json", 404),
        ("/static/" + 300 * "a", 404),
    ],
)
def test_only_the_page_is_served(client, path, status):
    answer = client.get(path)
    assert answer.status_code == status
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_key_is_for_this_site_only_and_stays(address, visit):
    answer = httpx.get(address[0] + "api/page")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=strict" in answer.headers["set-cookie"]
    assert "set-cookie" not in visit().get("/api/page").headers
    assert httpx.get(address[0] + "api/images").status_code == 403


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
def test_other_sites_change_and_see_nothing(client, address, headers):
    before = bytes_on_disk(address[1])
    assert upload(client, b"x", **headers).status_code == 403
    for path in ("/api/searches", "/api/results", "/api/images/1/view", "/api/example"):
        assert client.post(path, json={}, headers=headers).status_code == 403
    assert client.delete("/api/images/1", headers=headers).status_code == 403
    assert client.get("/api/images", headers=headers).status_code == 403
    assert bytes_on_disk(address[1]) == before


def test_the_page_itself_and_a_link_to_it_are_no_other_site(client, tmp_path):
    origin = str(client.base_url).rstrip("/")
    content = write_image(tmp_path / "a.png").read_bytes()
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert upload(client, content, **headers).status_code == 200
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_a_file_has_a_limit_and_tells_its_length(client, address):
    before = bytes_on_disk(address[1])
    assert upload(client, bytes(110_000)).status_code == 413
    assert upload(client, (part for part in [b"x"])).status_code == 411
    assert client.post("/api/searches", content=bytes(2 * 2**20)).status_code == 413
    assert bytes_on_disk(address[1]) == before


def test_the_files_of_a_visitor_have_a_bound_in_all(client, tmp_path):
    content = write_image(tmp_path / "a.png").read_bytes()
    padded = content + bytes(100_000 - len(content))
    answers = [upload(client, padded) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [400]
    assert "no more room" in answers[-1].json()["error"]
    client.delete("/api/images/1")
    assert upload(client, padded).status_code == 200


def test_nobody_sees_or_changes_what_is_anothers(visit, tmp_path):
    owner, other = visit(), visit()
    image = send_image(owner, tmp_path / "a.png")
    search(owner)
    owner.post("/api/results", json=RESULTS).raise_for_status()
    paths = ["/api/images/1/objects/stub", "/api/results/stub"]
    paths.append(f"/api/images/{image['tiles']}/0/0_0.jpg")
    assert other.get("/api/images").json() == []
    assert [owner.get(path).status_code for path in paths] == [200] * 3
    upload(other, b"no image")  # now he has a session, too
    assert [other.get(path).status_code for path in paths] == [400, 404, 400]
    assert other.post("/api/searches", json=SEARCH).status_code == 400
    assert other.post("/api/results", json=RESULTS).status_code == 400
    assert other.post("/api/images/1/view", json=VIEW).status_code == 400
    other.delete("/api/images/1")
    other.delete("/api/searches")
    assert len(owner.get("/api/images").json()) == 1


def test_results_are_downloads_with_sensible_names(searched):
    searched.post("/api/results", json=RESULTS).raise_for_status()
    answer = searched.get("/api/results/stub")
    assert answer.headers["content-disposition"] == 'attachment; filename="stub_results.zip"'
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_an_archive_that_is_sent_stays_whole_when_the_next_is_made(searched, address):
    searched.post("/api/results", json=RESULTS).raise_for_status()
    whole = searched.get("/api/results/stub").content
    paths = [each for each in address[1].rglob("stub_results.zip") if each.read_bytes() == whole]
    with contextlib.ExitStack() as stack:
        sent = [stack.enter_context(open(path, "rb")) for path in paths]
        few = {**RESULTS, "limits": {"score": [0.7, None]}}
        searched.post("/api/results", json=few).raise_for_status()
        assert searched.get("/api/results/stub").content != whole
        assert sent
        assert all(file.read() == whole for file in sent)


@pytest.mark.parametrize(
    "path, content",
    [
        ("/api/searches", {**SEARCH, "models": ["/etc/passwd"]}),
        ("/api/searches", {**SEARCH, "models": ["stub"] * 3}),
        ("/api/searches", {**SEARCH, "diameter": -1}),
        ("/api/searches", {**SEARCH, "diameter": "x"}),
        ("/api/searches", {**SEARCH, "images": [99]}),
        ("/api/searches", []),
        ("/api/results", {**RESULTS, "model": "../stub"}),
        ("/api/results", {**RESULTS, "kinds": ["../x"]}),
        ("/api/results", {**RESULTS, "limits": {"score": [1]}}),
        ("/api/images/1/view", {"plane": -1, "channels": [0]}),
        ("/api/images/1/view", {"plane": 7, "channels": [0]}),
        ("/api/images/1/view", {"plane": 0, "channels": [0, 0]}),
        ("/api/images/1/view", {"plane": 0, "channels": [5]}),
        ("/api/images/99/view", VIEW),
        ("/api/images/x/view", VIEW),
        ("/", {}),
        ("/static/page.js", {}),
    ],
    ids=str,
)
def test_wrong_calls_are_the_callers_fault(searched, path, content):
    assert 400 <= searched.post(path, json=content).status_code < 500


@pytest.fixture(scope="module")
def searched(address, tmp_path_factory):
    """A visitor in whose image the squares were found."""
    with httpx.Client(base_url=address[0], timeout=30) as client:
        client.get("/api/page")
        send_image(client, tmp_path_factory.mktemp("searched") / "a.png")
        search(client)
        yield client


@pytest.mark.parametrize("place", ["0/0_1", "1/0_0", "-1/0_0", "0/..%2f..%2fimage%2fa_0"])
def test_tiles_are_those_of_the_picture(searched, place):
    tiles = searched.get("/api/images").json()[0]["tiles"]
    assert searched.get(f"/api/images/{tiles}/0/0_0.jpg").status_code == 200
    assert searched.get(f"/api/images/{tiles}/{place}.jpg").status_code in (404, 422)


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
    answer = upload(client, path.read_bytes(), "a.ome.tif")
    if answer.status_code != 200:
        assert "names a file that is not beside it" in answer.json()["error"]
        return
    assert len(planes) == 1
    tile = client.get(f"/api/images/{answer.json()['tiles']}/0/0_0.jpg").content
    shown = cv2.imdecode(np.frombuffer(tile, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(shown > 127, own > 0)
