"""Score photos with an ONNX file of `driqa export`, without driqa_jax and JAX.

    pip install numpy pillow onnxruntime
    python examples/score_onnx.py model.onnx photo.jpg ...

A line per photo: the score, its uncertainty, what a person sees in it, and the cell of its map that scores worst.
"""

import argparse
import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="file of `driqa export -o M.onnx`")
    parser.add_argument("photos", nargs="+", help="image files")
    parser.add_argument("--threads", type=int, default=1, help="threads of ONNX Runtime (default: 1)")
    args = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get("input") != "image":
        sys.exit(f"{args.model}: does not read images; export it without --input views")
    types = json.loads(metadata["degradations"])
    outputs = [output.name for output in session.get_outputs()]
    failed = 0
    for path in args.photos:
        try:
            # An embedded color profile is ignored here.
            photo = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
        except OSError as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = 1
            continue
        found = dict(zip(outputs, session.run(None, {"image": photo}), strict=True))
        parts = [f"{path}: {found['score'][0]:.2f}"]
        if "uncertainty" in found:
            parts[0] += f" ± {found['uncertainty'][0]:.2f}"
        seen = [types[i] for i in np.argsort(-found["findings"]) if found["findings"][i] > 0.5]
        parts.append("sees " + ", ".join(seen) if seen else "sees no degradation")
        row, column = np.unravel_index(found["map"].argmin(), found["map"].shape)
        parts.append(f"worst at row {row}, column {column} of {found['map'].shape}: {found['map'].min():.1f}")
        print("; ".join(parts))
    return failed


if __name__ == "__main__":
    sys.exit(main())
