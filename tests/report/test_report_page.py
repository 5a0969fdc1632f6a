"""The page itself, in a browser: figures and pictures are there, nothing is fetched or broken."""

import importlib
import inspect
import json
import re
import shutil
from dataclasses import replace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from evaluation_helpers import coco_dataset
from test_report_pruning import write

from unet_sharp_det.errors import UserError
from unet_sharp_det.evaluation.evaluate_files import evaluate_files
from unet_sharp_det.evaluation.record import EvaluationRecord
from unet_sharp_det.report import write_report
from unet_sharp_det.report.drawing import add_legend, new_plot, plain

NASTY = "<b>bold</b></script><script>alert(1)</script>"
SIZES = {"samples": 30, "ap_samples": 5}


@pytest.fixture(scope="module")
def page_of_two(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("report") / "two.html"
    write_report(runs, output, labels=["first", NASTY], worst=3, full=True, **SIZES)
    return output


@pytest.fixture(scope="module")
def page_of_one(runs, converted_sample, tmp_path_factory):
    """Of a run without scores, pictures and training: the truth as predictions of itself."""
    folder = tmp_path_factory.mktemp("one")
    truth = str(converted_sample / "annotations" / "dsb2018_val.json")
    record = EvaluationRecord.read(runs[0] / "inference")
    replace(record, predictions=truth, images=str(folder)).write(folder)
    output = folder / "new" / "one.html"
    write_report([folder], output, worst=2, title="A title", **SIZES)
    return output


def check_is_sound(opened):
    assert opened.problems == []
    evaluate = opened.page.evaluate
    widths = evaluate("(e => [e.scrollWidth, e.clientWidth])(document.scrollingElement)")
    assert widths[0] <= widths[1]
    assert evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    ids = evaluate("[...document.querySelectorAll('.plot')].map(e => e.id)")
    assert len(set(ids)) == len(ids)
    drawn = "path, use, image"
    empty = f"[...document.querySelectorAll('.plot')].filter(e => !e.querySelector('{drawn}'))"
    assert evaluate(f"{empty}.map(e => e.id)") == []
    plots = "[...document.querySelectorAll('.plot')].filter(e => e.checkVisibility())"
    narrow = f"{plots}.filter(e => e.clientWidth < 250).length"
    assert evaluate(narrow) == 0
    return len(ids)


def sections_of(path):
    """The HTML of each section by its key."""
    first, *rest = path.read_text(encoding="utf-8").split('<details class="section" id="')
    return {"first": first} | {text.split('"')[0]: text for text in rest}


@pytest.mark.parametrize("width, scheme", [(400, "light"), (1400, "dark")])
def test_two_runs(browser_page, page_of_two, width, scheme):
    opened = browser_page(page_of_two, width=width, color_scheme=scheme)
    assert check_is_sound(opened) == 18
    assert opened.page.locator("img").count() == 2 + 6
    assert opened.page.get_by_text("bold", exact=True).count() == 0
    assert opened.page.locator(".numbers th", has_text=NASTY).count() > 0
    assert opened.page.locator("svg text", has_text=NASTY).count() > 0
    ground, text = opened.page.evaluate(
        "[getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(document.querySelector('.plot text')).fill]"
    )
    dark_ground = sum(map(int, re.findall(r"\d+", ground))) < 200
    dark_text = sum(map(int, re.findall(r"\d+", text)[:3])) < 200
    assert (dark_ground, dark_text) == ((scheme == "dark"), (scheme == "light"))


def test_one_run_without_scores_images_and_training(browser_page, page_of_one):
    opened = browser_page(page_of_one, width=400)
    assert check_is_sound(opened) == 12
    assert opened.page.title() == "A title"
    text = opened.page.text_content("main")
    assert "have no scores to rank them by" in text
    assert "the image's file is not there, so the ground is gray" in text
    assert not {"training", "pruning", "classes"} & sections_of(page_of_one).keys()


def test_it_begins_with_the_verdict_and_one_screen_says_it(browser_page, page_of_one):
    opened = browser_page(page_of_one, width=1400, height=900)
    page = opened.page
    assert "has a DSB score of 100.0" in page.inner_text("#verdict")
    assert "Only 8 images were judged" in page.inner_text("#verdict")
    names = page.locator(".numbers thead th").all_inner_texts()
    assert names == ["DSB score", "F1 at IoU .50", "Panoptic quality", "Count bias"]
    hints = "[...document.querySelectorAll('.numbers thead th')].map(e => e.title.split(':')[0])"
    assert page.evaluate(hints)[2] == "PQ_image_mean"
    box = page.locator(".first").bounding_box()
    assert box["y"] + box["height"] < 900
    assert len(page.inner_text("body").split()) < 300
    measures = page.locator("#measures table").first
    assert not measures.is_visible()
    page.locator("#measures > summary").click()
    assert measures.is_visible()


def test_its_best_and_worst_image(page_of_two, methods):
    best = max(methods, key=lambda each: each.image_values("DSB_score").mean())
    values = best.image_values("DSB_score")
    first = sections_of(page_of_two)["first"]
    shown = re.findall(r'<span class="file" title="(.*?)"', first)
    rows = int(np.argmax(values)), int(np.argmin(values))
    assert shown == [best.images[row].file_name for row in rows]


@pytest.mark.parametrize("page, fewest, most", [("page_of_one", 1, 1), ("page_of_two", 8, 40)])
def test_it_prints_what_is_unfolded(browser_page, request, page, fewest, most):
    opened = browser_page(request.getfixturevalue(page))
    pdf = opened.page.pdf(prefer_css_page_size=True)
    counts = [int(each) for each in re.findall(rb"/Type /Pages\s*/Count (\d+)", pdf)]
    assert fewest <= max(counts) <= most


def test_it_has_no_script_and_is_small(page_of_two):
    text = page_of_two.read_text(encoding="utf-8")
    assert "<script" not in text
    assert len(text) < 2_500_000


def test_points_say_their_images(page_of_two, reports):
    """In every figure of images; undefined values have no point."""
    text = page_of_two.read_text(encoding="utf-8")
    figures = dict(re.findall(r'(?s)<div class="plot" id="([\w-]+)".*?(<svg.*?</svg>)', text))
    row = int(np.argmin(reports[0].results.image_values("DSB_score")))
    name = reports[0].images[row].file_name
    value = f"{reports[0].results.image_values('DSB_score')[row]:g}"
    for key in ("box-dsb-score", "counts", "agreement"):
        titles = re.findall(r"<title>(first, .*?)</title>", figures[key])
        assert len(titles) == 8, key
        (title,) = [each for each in titles if name in each]
        assert value in title or key in ("counts", "agreement")
    assert len(re.findall(r"<title>first: \d+\.\d+, \d+\.\d+ to ", figures["ap-pooled"])) == 10


@pytest.mark.parametrize("label", ["$x_1$", "_a", "a & <b>", "$", "a$b"])
def test_labels_are_shown_as_they_are(label):
    plot = new_plot("key", "title", "caption", "x", "y")
    for name in (label, "other"):
        plot.axes.plot([1, 2], [3, 4], label=plain(name))
    add_legend(plot)
    texts = [each.text for each in ElementTree.fromstring(plot.svg()).iter() if each.text]
    assert label in [text.strip("\N{ZERO WIDTH SPACE}") for text in texts]


def test_it_holds_the_numbers_and_the_files(page_of_two, reports):
    text = page_of_two.read_text(encoding="utf-8")
    for value in (
        reports[0].results.metrics["instances"]["PQ_pooled"],
        reports[1].coco["segm"].metrics["AP"],
    ):
        assert f"<td>{value:.2f}<small>" in text
    assert "SEED: 2" in text
    assert str(reports[1].record.predictions) in text


@pytest.fixture(scope="module")
def tool():
    return importlib.import_module("unet_sharp_det.cli.report")


class TestTool:
    def test_it_writes_the_page(self, tool, runs, tmp_path, capsys):
        output = tmp_path / "r.html"
        pruned = [write(tmp_path / "a.json"), write(tmp_path / "b.json", title="Another network")]
        arguments = ["--worst", "0", "--samples", "2", "--title", "T", "--grid", "0"]
        arguments += ["--pruning", *map(str, pruned)]
        arguments += ["--figures", str(tmp_path / "figures"), "--output", str(output)]
        assert tool.main([*map(str, runs), "--labels", "net", "net", *arguments]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(output)
        text = output.read_text(encoding="utf-8")
        assert "<title>T</title>" in text
        assert "<img" not in text
        assert "<small>2 seeds</small>" in text
        section = text.split('id="pruning"')[1].split("</details>")[0]
        assert {"UNet# pruned", "Another network"} <= set(re.findall("<h3>(.*?)</h3>", section))
        keys = re.findall(r'<div class="plot" id="([\w-]+)"', text)
        names = [f"{key}.{kind}" for key in keys for kind in ("png", "svg")]
        assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(names)
        for key in keys:
            assert np.ptp(cv2.imread(str(tmp_path / "figures" / f"{key}.png"))) > 100
            ElementTree.parse(tmp_path / "figures" / f"{key}.svg")

    def test_its_help_says_the_defaults_of_the_function(self, tool, capsys):
        with pytest.raises(SystemExit):
            tool.parse_args(["--help"])
        text = " ".join(capsys.readouterr().out.split())
        parameters = inspect.signature(write_report).parameters
        assert parameters["grid"].default == ("4",)
        for name in ("worst", "samples", "ap_samples"):
            option = "--" + name.replace("_", "-")
            default = parameters[name].default
            assert re.search(rf"{option} \w+ [^-]*\(default: {default}\)", text), name
        assert set(vars(tool.parse_args(["run"]))) == {"runs", "output"}

    def test_an_error_leaves_the_former_file(self, tool, runs, tmp_path):
        output = tmp_path / "r.html"
        output.write_text("former")
        broken = shutil.copytree(runs[0], tmp_path / "broken")
        (broken / "inference" / "coco_instances_results.json").write_text("[")
        with pytest.raises(UserError, match=r"coco_instances_results.json: is not JSON"):
            tool.main([str(broken), "--output", str(output)])
        for option, least in {"--samples": 1, "--ap-samples": 1, "--worst": 0}.items():
            with pytest.raises(
                UserError, match=f"{option} must be {least} or more, not {least - 1}"
            ):
                tool.main([str(runs[0]), option, str(least - 1), "--output", str(output)])
        assert output.read_text() == "former"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "r.html"]

    @pytest.mark.parametrize(
        "output, message",
        [
            ("d", r"d is a folder, give a file.*d/report.html"),
            ("f/r.html", "lies below .*/f, which"),
        ],
    )
    def test_an_output_that_cannot_be_written_is_told_before_the_work(
        self, tool, tmp_path, output, message
    ):
        (tmp_path / "d").mkdir()
        (tmp_path / "f").write_text("former")
        with pytest.raises(UserError, match=f"--output: .*{message}"):
            tool.main([str(tmp_path / "no such run"), "--output", str(tmp_path / output)])


def test_several_classes_have_a_table_and_a_confusion(tmp_path):
    truth = coco_dataset({1: [(0, 0, 10, 10), (20, 20, 30, 30)]}, size=(40, 40))
    results = [{**each, "score": 0.9} for each in truth["annotations"]]
    truth["categories"] = [{"id": 1, "name": "round"}, {"id": 2, "name": "long"}]
    truth["annotations"][1]["category_id"] = 2
    for name, content in (("truth", truth), ("results", results)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    evaluate_files(tmp_path / "results.json", tmp_path / "truth.json", tmp_path / "run", samples=5)
    write_report([tmp_path / "run"], tmp_path / "r.html", samples=5, ap_samples=2)
    section = sections_of(tmp_path / "r.html")["classes"]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in section.split("<tr>")]
    assert ["round", "1", "0", "0"] in rows
    assert ["long", "1", "0", "0"] in rows  # It was found as a round one.
    assert ["no object", "0", "0", "0"] in rows
