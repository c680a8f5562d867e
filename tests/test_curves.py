"""The curves of a run."""

import json

from PIL import Image

from driqa_jax.train.telemetry import draw_curves, save_curves


def test_a_panel_for_every_quantity_and_incomplete_lines_are_skipped(tmp_path):
    rows = [{"step": step, "loss": 1 / step, "naming": None if step == 3 else 0.1, "images_per_second": 5.0}
            for step in range(1, 200)]  # fmt: skip
    rows.append({"step": 199, "val_srcc": 0.8})
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 20'
    (tmp_path / "metrics.jsonl").write_text(text)
    figure = draw_curves(tmp_path / "metrics.jsonl")
    assert [axes.get_title() for axes in figure.axes if axes.axison] == ["loss", "naming", "val srcc"]
    assert figure.axes[0].get_yscale() == "log" and len(figure.axes[1].lines[0].get_xdata()) == 198
    save_curves(tmp_path)
    first = (tmp_path / "curves.png").read_bytes()
    save_curves(tmp_path)
    assert first == (tmp_path / "curves.png").read_bytes() and Image.open(tmp_path / "curves.png").width > 800
