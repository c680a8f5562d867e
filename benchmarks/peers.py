"""Time another package on a list of photographs; runs in that package's environment, which has no driqa_jax.

    PYTHON peers.py NAME PHOTO... < /dev/null

Prints one line of JSON: `seconds` (of each photo), `peak_mib` and `used`, the package. The deep models have random
weights, which take the same time as trained ones and need no download; the classical packages contain their models.
"""

import json
import sys
import time

DEEP = ("musiq", "topiq_nr", "hyperiqa")
CLASSICAL = ("brisque", "pypiqe")


def deep(name):
    """`pyiqa.create_metric(name)`, called with paths as in its documentation."""
    import torch

    # This torchvision is built for CUDA; define two unused operators that CPU torch lacks.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm

    create = timm.create_model
    timm.create_model = lambda *args, **options: create(*args, **{**options, "pretrained": False})
    import pyiqa

    metric = pyiqa.create_metric(name, device="cpu", pretrained=False)
    return (lambda path: float(metric(path))), f"pyiqa, torch {torch.__version__}, random weights", library


def classical(name):
    """The package's score of an array, with the file opened as in its README."""
    if name == "brisque":
        import numpy as np
        from brisque import BRISQUE
        from PIL import Image

        metric = BRISQUE(url=False)
        return (lambda path: float(metric.score(np.asarray(Image.open(path))))), "brisque", None
    import cv2
    from pypiqe import piqe

    return (lambda path: float(piqe(cv2.imread(path))[0])), "pypiqe", None


def peak_mib():
    """Peak resident memory of this process."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def main():
    name, photos = sys.argv[1], sys.argv[2:]
    score, used, _kept = (deep if name in DEEP else classical)(name)
    score(photos[0])
    seconds = []
    for photo in photos:
        began = time.perf_counter()
        score(photo)
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib(), "used": used}))


if __name__ == "__main__":
    main()
