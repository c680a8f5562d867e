"""Write docs/demo/screenshot.jpg, docs/results/demo.json and the blocks of docs/demo/README.md from a built page.

python -m tools.write_demo site

It opens the page in headless Chromium, scores the two examples for the picture, and photos of two sizes for the times.
"""

import functools
import http.server
import json
import pathlib
import statistics
import sys
import tempfile
import threading
import time

from PIL import Image

from driqa_jax.io import write_json
from tools.pages import DOCS, RESULTS, ROOT, write_blocks

sys.path.insert(0, str(ROOT / "tests"))
from browser import Browser, browser  # noqa: E402

PHOTO = ROOT / "examples" / "photos" / "dog.jpg"
SIZES = ((512, 384), (4000, 3000))
REPEATS = 5


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def finished(window: Browser, count: int) -> list[dict]:
    """What the page keeps of each scored photo."""
    while window.run("return document.querySelectorAll('#list > :not(.waiting)').length") < count:
        time.sleep(0.2)
    return window.run("return [...document.querySelectorAll('#list > .scored')].map(card => ({...card.dataset}))")


def ready(window: Browser, address: str) -> None:
    """Open the page and wait until its model runs at full speed."""
    window.open(address)
    while window.run("return document.documentElement.dataset.state") != "warm":
        time.sleep(0.2)


def measured(window: Browser, address: str) -> dict[str, float]:
    """Median seconds per photo size."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            ready(window, address)
            file = pathlib.Path(folder) / f"{size[0]}x{size[1]}.jpg"
            Image.open(PHOTO).resize(size, Image.Resampling.BICUBIC).save(file, quality=90)
            for _ in range(REPEATS):
                window.type("#choose", str(file))
            cards = finished(window, REPEATS)
            seconds[file.stem] = statistics.median(sum(json.loads(card["seconds"]).values()) for card in cards)
    return seconds


def resize(window: Browser, height: int) -> None:
    """A view of 1040 pixels in width."""
    size = {"width": 1040, "height": height}
    window.devtools("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)


def processor() -> str:
    """The name of this machine's processor."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "an unknown processor")


def picture(window: Browser, address: str, path: pathlib.Path) -> None:
    """The page with the two examples scored, as a small JPEG."""
    with tempfile.TemporaryDirectory() as folder:
        shot = pathlib.Path(folder) / "shot.png"
        resize(window, 1000)
        ready(window, address)
        window.click("#examples")
        finished(window, 2)
        height = window.run("return document.documentElement.scrollHeight")
        resize(window, height)
        time.sleep(1)
        window.screenshot(shot)
        Image.open(shot).convert("RGB").save(path, quality=82, optimize=True, progressive=True)


def main(site: str) -> None:
    """Serve, measure, write."""
    handler = functools.partial(Quiet, directory=site)
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        tempfile.TemporaryDirectory() as downloads,
        browser(pathlib.Path(downloads)) as window,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://localhost:{server.server_port}/"
        picture(window, address, DOCS / "demo" / "screenshot.jpg")
        seconds = measured(window, address)
        chromium = window.run("return navigator.userAgentData.brands.find(one => one.brand === 'Chromium').version")
        server.shutdown()
    model = json.loads((pathlib.Path(site) / "model.json").read_text())["files"]["model.onnx"]["sha256"]
    found = {
        "seconds": seconds,
        "processor": processor(),
        "repeats": REPEATS,
        "chromium": chromium,
        "model_sha256": model,
    }
    write_json(RESULTS / "demo.json", found)
    times = ", ".join(f"{value:.1f} s for {name} pixels" for name, value in seconds.items())
    how = f"decoding and scoring, median of {REPEATS}, one thread of {processor()}, headless Chromium {chromium}"
    text = f"One photo takes {times}: {how}."
    shown = "![The page with two scored photos](screenshot.jpg)"
    write_blocks(DOCS / "demo" / "README.md", {"demo": text, "screenshot": shown})


if __name__ == "__main__":
    main(*sys.argv[1:])
