"""The measured process of `python -m benchmarks score`: time and peak memory of one effort.

python -m benchmarks.score_once MODEL RUNTIME EFFORT each|all|decode PHOTO...
"""

import json
import sys
import time

import driqa_jax
from benchmarks.peers import peak_mib
from driqa_jax.data.decode import decode


def main() -> None:
    """Print one line of JSON: `seconds` (per photo, or total) and `peak_mib`."""
    model, runtime, effort, how, *photos = sys.argv[1:]
    scorer = driqa_jax.load(model, runtime, effort=effort)
    scorer(photos[0])  # compile and warm up
    work = {"each": scorer, "decode": lambda photo: decode(photo, use=lambda image: image.size)}
    seconds = []
    if how == "all":
        began = time.perf_counter()
        failed = sum(result.error is not None for result in scorer.stream(photos))
        seconds.append(time.perf_counter() - began)
        assert not failed, f"{failed} of {len(photos)} photographs cannot be scored"
    else:
        for photo in photos:
            began = time.perf_counter()
            work[how](photo)
            seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
