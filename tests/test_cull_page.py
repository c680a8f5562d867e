"""The page of `driqa cull`: harmless and bounded; in a browser each choice is changed by keyboard and exported."""

import csv
import json
import time

import pytest
from browser import MISSING, browser
from PIL import Image
from running_server import within
from test_near_duplicates import scene
from test_pages import EVIL, PROVENANCE, Page, check_harmless

from driqa_jax.errors import UserError
from driqa_jax.reports import cull_page
from driqa_jax.reports.cull_page import write_cull_page
from driqa_jax.reports.culling import COLUMNS, Choice

ODD = f"odd, {EVIL}".replace("/", "")


def rows_in(folder):
    """Two groups, a single photo to keep, one to reject, a failed one."""
    groups, number = [], 0
    for seed, names in ((1, ("a1.png", ODD, "a3.png")), (2, ("b1.png", "b2.png")), (3, ("c.png",)), (4, ("d.png",))):
        rows = []
        number += len(names) > 1
        for place, name in enumerate(names, 1):
            image = scene(seed, 300)
            image.paste(Image.new("RGB", (60, 60), (40 * place, 0, 0)), (220, 20))
            image.save(folder / name)
            choice = "keep" if place == 1 and seed < 4 else "reject" if place == 2 or seed == 4 else ""
            reasons = ("sharper", "less noise") if place == 1 else ("less sharp",)
            group = number if len(names) > 1 else None
            rows.append(Choice(str(folder / name), group, place, 90.0 - place, choice, reasons))
        groups.append(rows)
    return groups, [Choice(str(folder / "z<b>.jpg"), None, None, None, "", error="the file is <empty>")]


@pytest.fixture
def page(tmp_path):
    (tmp_path / "photos").mkdir()
    groups, failed = rows_in(tmp_path / "photos")
    path = tmp_path / "index.html"
    write_cull_page(path, groups, failed, PROVENANCE, 1e6)
    return path


def data_of(page):
    text = page.read_text()
    return json.loads(text[text.index('id="data">') + 10 :].partition("</script>")[0])


def test_the_page_is_harmless_and_holds_every_row(page):
    parsed = Page(page)
    scripts = parsed.every("script")
    assert [one.get("type") for one in scripts] == ["application/json", None]
    parsed.tags.remove(("script", scripts[0]))
    check_harmless(parsed, scripts=1)
    assert not [one for one in parsed.every("a") + parsed.every("form") if "href" in one or "action" in one]
    data = data_of(page)
    assert data["columns"] == list(COLUMNS) and len(data["rows"]) == 8
    assert data["rows"][7][0].endswith("z<b>.jpg") and data["rows"][7][6] == "the file is <empty>"
    # Three and two photos with their details, and the single reject; the single photo to keep is not shown.
    assert len(parsed.every("img")) == 2 * 5 + 1
    frames = [one["style"] for one in parsed.every("div") if one.get("class") == "frame"]
    left, top = (float(part.split(": ")[1][:-1]) for part in frames[0].split("; ")[:2])
    assert len(frames) == 5 and left > 55 and top < 15


def test_a_failed_write_leaves_no_part(page, tmp_path):
    before = page.read_bytes()
    groups, failed = rows_in(tmp_path / "photos")
    write_cull_page(page, groups, failed, PROVENANCE, 1e6)
    assert page.read_bytes() == before
    with pytest.raises(UserError, match="cannot be written"):
        write_cull_page(tmp_path / "none" / "index.html", groups, failed, PROVENANCE, 1e6)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["index.html", "photos"]


def test_a_photo_that_changed_has_its_reason_in_place_of_images(page, tmp_path):
    groups, failed = rows_in(tmp_path / "photos")
    (tmp_path / "photos" / "a1.png").unlink()
    (tmp_path / "photos" / "b2.png").write_bytes(b"")
    write_cull_page(page, groups, failed, PROVENANCE, 1e6)
    texts = Page(page).texts
    assert "cannot be read again: No such file or directory" in texts
    assert "cannot be read again: the file is empty (zero bytes)" in texts
    assert len(Page(page).every("img")) == 2 * 2 + 1 + 1


def test_images_get_smaller_as_they_get_more():
    assert cull_page._side(0) == cull_page._side(1300) == 480
    assert 160 <= cull_page._side(10_000) < 180 and cull_page._side(10**6) == 160


def test_few_shots_of_a_time_lapse_are_compared(tmp_path, monkeypatch):
    """Each compared shot needs a megabyte or more."""
    rows = [Choice(str(tmp_path / f"{number}.png"), 1, number + 1, 90.0, "") for number in range(60)]
    for row in rows:
        scene(1, 64).save(row.path)
    compared = []
    monkeypatch.setattr(cull_page, "differing_region", lambda shots, share: compared.append(len(shots)) or (0, 0, 1, 1))
    write_cull_page(tmp_path / "p.html", [rows], [], PROVENANCE, 1e6)
    assert compared == [40] and len(Page(tmp_path / "p.html").every("img")) == 2 * 60


def test_a_page_of_no_group_is_written(tmp_path):
    write_cull_page(tmp_path / "p.html", [], [], PROVENANCE, 1e6)
    assert data_of(tmp_path / "p.html")["rows"] == []


@pytest.fixture
def window(page, tmp_path):
    if MISSING:
        pytest.skip(MISSING)
    (tmp_path / "downloads").mkdir()
    with browser(tmp_path / "downloads") as window:
        window.open(page.as_uri())
        yield window
        assert window.complaints() == []


def press(window, *keys):
    script = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}))"
    for key in keys:
        window.run(script, key)


def choices(window):
    return window.run("return data.rows.map(row => row[CHOICE])")


def focused(window):
    return window.run("return document.activeElement.querySelector('h3')?.textContent")


def status(window):
    return window.run("return document.querySelector('output').textContent")


def test_choices_are_made_by_keyboard_and_exported(window, tmp_path):
    assert status(window) == "0 of 2 groups accepted · 3 keep · 3 reject · 2 open"
    press(window, "ArrowRight")
    assert focused(window) == "a1.png"
    press(window, "ArrowRight", "k")
    assert focused(window) == ODD and choices(window)[:3] == ["keep", "keep", ""]
    press(window, "ArrowRight", "x", "ArrowLeft", "k")
    assert choices(window)[:3] == ["keep", "", "reject"]
    press(window, "a")
    assert focused(window) == "b1.png" and status(window).startswith("1 of 2 groups accepted")
    press(window, "ArrowRight", "b", "ArrowUp")
    assert choices(window)[3:5] == ["reject", "keep"] and focused(window) == "a1.png"
    press(window, "ArrowDown", "Enter")
    assert status(window).startswith("2 of 2") and focused(window) == "d.png"
    window.click(".group[data-group='0'] [data-choice=reject]")
    assert choices(window)[6] == ""
    press(window, "e")
    saved = tmp_path / "downloads" / "choices.csv"
    within(20, saved.exists)
    with open(saved, newline="") as file:
        header, *rows = csv.reader(file)
    assert header == list(COLUMNS)
    assert [row[4] for row in rows] == ["keep", "", "reject", "reject", "keep", "keep", "", ""]
    assert rows[1][0].endswith(ODD) and rows[0][5] == "sharper; less noise" and rows[7][6] == "the file is <empty>"


def test_a_choice_survives_a_reload_and_zoom_shows_the_details(window, page):
    press(window, "ArrowRight", "x", "a")
    window.open(page.as_uri())
    assert choices(window)[0] == "reject" and status(window).startswith("1 of 2 groups accepted")
    shown = "return [...document.querySelectorAll(arguments[0])].filter(one => one.offsetParent).length"
    assert window.run(shown, ".whole") == 6
    press(window, "z")
    assert window.run(shown, ".whole") == 0 and window.run(shown, ".part") == 5
    press(window, "z", "?")
    assert window.run("return help.open")
    press(window, "x")
    assert choices(window)[0] == "reject"  # no key acts behind the dialog


def test_it_fits_a_narrow_window_and_every_control_has_a_name(window):
    window.devtools("Emulation.setDeviceMetricsOverride", width=340, height=700, deviceScaleFactor=1, mobile=False)
    time.sleep(0.2)
    assert window.run("return document.documentElement.scrollWidth") <= 340
    nodes = window.devtools("Accessibility.getFullAXTree")["nodes"]
    found = [n["name"]["value"] for n in nodes if not n["ignored"] and n["role"]["value"] in ("button", "image")]
    assert "Keep" in found and all(found)
