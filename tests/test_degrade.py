"""`driqa degrade list`, `apply` and `sheet`: what is written, and what is refused before anything is compiled."""

import jax
import numpy as np
import pytest
from PIL import Image
from skimage import data

from driqa_jax.cli import main as cli
from driqa_jax.corpus.files import SEVERITIES, contact_sheet, severity_grid
from driqa_jax.data.pipeline import center_square
from driqa_jax.degradations import DEGRADATIONS, NAMES, apply


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(data.astronaut()[100:148, 200:264]).save(path)
    return path


def driqa(*words):
    try:
        return cli.main(["degrade", *map(str, words)])
    except SystemExit as leave:
        return leave.code


def read(path):
    return np.asarray(Image.open(path)).astype(np.float64)


def test_list_prints_the_properties_of_each_degradation(capsys):
    assert driqa("list") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == list(NAMES) and {len(row) for row in rows} == {5}
    for row, entry in zip(rows, DEGRADATIONS, strict=True):
        assert row[1] == ("ordered" if entry.ordered else "unordered") and row[2] == entry.group
    found = {row[0]: row[3:] for row in rows}
    assert found["jpeg"][0] == "10" and len(found["jpeg"][1].split(",")) == 5
    assert found["ringing"] == ["-", "-"]


def test_apply_keeps_the_size_and_applies_the_severity(photo, tmp_path):
    before = read(photo)
    assert driqa("apply", "--name", "brighten", "--severity", 0, photo, "-o", tmp_path / "same.webp") == 0
    np.testing.assert_array_equal(read(tmp_path / "same.webp"), before)
    assert driqa("apply", "--name", "brighten", "--severity", 1, photo, "-o", tmp_path / "new" / "b.png") == 0
    expected = apply("brighten", jax.random.key(0), np.float32(before / 255), 1.0)
    assert np.abs(read(tmp_path / "new" / "b.png") - 255 * np.asarray(expected)).max() <= 1
    assert np.abs(read(tmp_path / "new" / "b.png") - before).mean() > 10
    assert driqa("apply", "--name", "brighten", "--level", 5, photo, "-o", tmp_path / "l.png") == 0
    np.testing.assert_array_equal(read(tmp_path / "l.png"), read(tmp_path / "new" / "b.png"))


def test_apply_to_a_folder_is_seeded_by_name_and_skips_a_broken_file(photo, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(photo.read_bytes())
    (folder / "c.png").write_bytes(b"nothing")
    Image.fromarray(data.astronaut()[:20, :64]).save(folder / "d.png")
    noise = ("apply", "--name", "impulse_noise", "--severity", 0.5)
    assert driqa(*noise, folder, "-o", tmp_path / "out", "--format", "webp") == 1
    said = capsys.readouterr().err
    assert "c.png: " in said and "d.png: impulse_noise: image must be at least 32x32" in said
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.webp", "b.webp"]
    assert (read(tmp_path / "out" / "a.webp") != read(tmp_path / "out" / "b.webp")).any()
    assert driqa(*noise, folder / "b.png", "-o", tmp_path / "b.png") == 0
    np.testing.assert_array_equal(read(tmp_path / "b.png"), read(tmp_path / "out" / "b.webp"))
    assert driqa(*noise, folder / "b.png", "-o", tmp_path / "b.png", "--seed", 1) == 0
    assert (read(tmp_path / "b.png") != read(tmp_path / "out" / "b.webp")).any()


@pytest.mark.parametrize(
    "words, said",
    [
        (("--name", "jpg", "--severity", "0.5"), "did you mean 'jpeg'"),
        (("--name", "jpeg", "--severity", "1.5"), "number in [0, 1]"),
        (("--name", "jpeg", "--severity", "nan"), "number in [0, 1]"),
        (("--name", "jpeg", "--level", "6"), "give 1 to 5"),
        (("--name", "ringing", "--level", "3"), "no levels of KADID-10k"),
        (("--name", "jpeg", "--level", "3", "-o", "out.jpg"), "out.jpg: the extension"),
        (
            (
                "--name",
                "jpeg",
            ),
            "required",
        ),
    ],
)
def test_apply_refuses_before_it_compiles(words, said, photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jax.jit", None)
    out = () if "-o" in words else ("-o", "out.png")
    assert driqa("apply", photo, *words, *out) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_apply_never_overwrites_an_input_or_merges_two_names(photo, tmp_path, capsys):
    jpeg = ("apply", "--name", "jpeg", "--severity", 0.5)
    assert driqa(*jpeg, photo, "-o", photo) == 2
    assert "would replace it" in capsys.readouterr().err
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "photo.bmp").write_bytes(photo.read_bytes())
    assert driqa(*jpeg, photo, tmp_path / "sub" / "photo.bmp", "-o", tmp_path / "out") == 2
    assert "would both become" in capsys.readouterr().err


def test_the_sheet_shows_more_to_the_right(photo, tmp_path, capsys):
    names = ("white_noise", "lens_blur")
    square = center_square(np.asarray(Image.open(photo)), 40)
    grid = severity_grid(square, names)
    np.testing.assert_array_equal(grid[:, 0], np.broadcast_to(square[None], (2, *square.shape)))
    distance = ((grid.astype(float) - square[None, None]) ** 2).mean(axis=(2, 3, 4))
    assert (np.diff(distance, axis=1) > 0).all()
    sheet = np.asarray(contact_sheet(grid, names))
    height, width = 2 * (40 + 4), len(SEVERITIES) * (40 + 4)
    pasted = sheet[-height:, -width:].reshape(2, 44, len(SEVERITIES), 44, 3)[:, :40, :, :40]
    np.testing.assert_array_equal(pasted.transpose(0, 2, 1, 3, 4), grid)
    assert (sheet[-height:, :-width] < 128).any()  # labels
    assert driqa("sheet", photo, "--names", "white_noise, lens_blur", "--side", 40, "-o", tmp_path / "s.png") == 0
    np.testing.assert_array_equal(read(tmp_path / "s.png"), sheet)
    assert driqa("sheet", photo, "--names", "lens", "-o", tmp_path / "t.png") == 2
    assert "did you mean 'lens_blur'" in capsys.readouterr().err
    assert driqa("sheet", photo, "--side", 20, "-o", tmp_path / "t.png") == 2
    assert "image must be at least 32x32, got 20x20" in capsys.readouterr().err
