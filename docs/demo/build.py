"""Build the page that scores photos in a browser: `python docs/demo/build.py model.onnx -o site`.

The folder that it writes needs only a file server. It holds this folder's page, onnxruntime-web from the npm registry
(one pinned version, checked by its sha512), the model, and `model.json` with what the page needs of its metadata. The
package is kept in the user's cache folder, so later builds need no network; `--fetch` only brings it.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import pathlib
import shutil
import sys
import tarfile
import urllib.error
import urllib.request

from driqa_jax.errors import UserError
from driqa_jax.inference.labels import STANDS_OUT, label
from driqa_jax.io import write_bytes

HERE = pathlib.Path(__file__).resolve().parent
PHOTOS = HERE.parents[1] / "examples" / "photos"
VERSION = "1.30.0"
URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
# `npm view onnxruntime-web@1.30.0 dist.integrity`
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
# The build without WebGPU. It is renamed because some file servers do not know that .mjs is JavaScript.
RUNTIME = {
    "package/dist/ort.wasm.bundle.min.mjs": "ort.js",
    "package/dist/ort-wasm-simd-threaded.wasm": "ort.wasm",
}
PAGE = ("index.html", "page.css", "page.js", "scoring.js", "icon.svg", "onnxruntime-web.LICENSE.txt")
EXAMPLES = ("dog.jpg", "city_jpeg8.jpg")
LARGE = ("ort.wasm", "model.onnx")  # fetched once by the page itself, which shows how far it is
INPUT, OUTPUTS = "image", ("score", "findings", "map")  # `uncertainty` only if the model has an interval
UNBUILT = 'const BUILT = { version: "", files: [] };'


def runtime_folder() -> pathlib.Path:
    """Where the files of onnxruntime-web are kept: below `$XDG_CACHE_HOME` or `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    root = pathlib.Path(base) if base and os.path.isabs(base) else pathlib.Path.home() / ".cache"
    return root / "driqa_jax" / f"onnxruntime-web-{VERSION}"


def fetch() -> pathlib.Path:
    """Bring onnxruntime-web into `runtime_folder()` unless it is there. Raises UserError without a network, or if the
    package is not the pinned one."""
    folder = runtime_folder()
    if all((folder / name).exists() for name in RUNTIME.values()):
        return folder
    try:
        with urllib.request.urlopen(URL, timeout=60) as answer:
            package = answer.read()
    except (OSError, urllib.error.URLError) as error:
        raise UserError(f"{URL}: cannot be fetched ({getattr(error, 'reason', error)}); try again") from None
    if base64.b64encode(hashlib.sha512(package).digest()).decode() != INTEGRITY:
        raise UserError(f"{URL}: not the expected package (its sha512 differs from INTEGRITY in {__file__})")
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for member, name in RUNTIME.items():
            write_bytes(folder / name, archive.extractfile(member).read())
    return folder


def describe(path: pathlib.Path) -> dict:
    """What the page needs of the model: `findings` (names and labels in the order of the output), `licence`, `variant`.

    Raises UserError if the file is not a model as `driqa export` writes it.
    """
    try:
        import onnx
    except ImportError:
        raise UserError("reading the model needs the package onnx: pip install 'driqa_jax[onnx]'") from None
    advice = "write it with: driqa export --model lite -o model.onnx"
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; {advice}") from None
    except Exception:  # protobuf's DecodeError, which has a module of its own in each implementation
        raise UserError(f"{path}: not an ONNX model, or truncated; {advice}") from None
    inputs, outputs = ({value.name for value in values} for values in (model.graph.input, model.graph.output))
    if INPUT not in inputs or not outputs.issuperset(OUTPUTS):
        expected = f"needs the input {INPUT} and the outputs {', '.join(OUTPUTS)}"
        found = f"has {', '.join(sorted(inputs))} and {', '.join(sorted(outputs))}"
        raise UserError(f"{path}: {expected}, {found}; {advice}")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    try:
        names = [str(name) for name in json.loads(metadata["degradations"])]
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: its metadata has no list `degradations`; {advice}") from None
    return {
        "variant": metadata.get("variant", ""),
        "licence": metadata.get("licence", ""),
        "findings": [{"name": name, "label": label(name)} for name in names],
        "stands_out": STANDS_OUT,
    }


def build(model: pathlib.Path, folder: pathlib.Path) -> None:
    """Write the page with `model` into `folder`. Files of the same name are replaced; others stay."""
    described = describe(model)
    runtime = fetch()
    folder.mkdir(parents=True, exist_ok=True)
    sources = {name: HERE / name for name in PAGE} | {name: PHOTOS / name for name in EXAMPLES}
    sources |= {name: runtime / name for name in RUNTIME.values()} | {"model.onnx": model}
    for name, source in sources.items():
        if source.resolve() != (folder / name).resolve():
            shutil.copyfile(source, folder / name)
    described["map"] = {"rows": "top to bottom", "columns": "left to right", "colors": color_stops()}
    described["files"] = {name: stamp(folder / name) for name in LARGE}
    described["runtime"] = f"onnxruntime-web {VERSION}"
    described["examples"] = list(EXAMPLES)
    write_bytes(folder / "model.json", (json.dumps(described, indent=1) + "\n").encode())
    kept = sorted({*sources, "model.json"} - {*LARGE, "index.html"})
    every = "".join(stamp(folder / name)["sha256"] for name in ["index.html", *kept])
    built = {"version": hashlib.sha256(every.encode()).hexdigest()[:16], "files": ["./", *kept]}
    worker = (HERE / "service_worker.js").read_text()
    assert worker.count(UNBUILT) == 1
    write_bytes(folder / "service_worker.js", worker.replace(UNBUILT, f"const BUILT = {json.dumps(built)};").encode())


def color_stops() -> list[str]:
    """CSS colors of the map from 0 to 100 points in equal steps: the color map of `driqa explain`."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    from driqa_jax.reports.colormap import COLOR_MAP

    return [to_hex(colormaps[COLOR_MAP](step / 20)) for step in range(21)]


def stamp(path: pathlib.Path) -> dict:
    """Length and sha256 of a file."""
    data = path.read_bytes()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0] + ".")
    parser.add_argument("model", nargs="?", type=pathlib.Path, help="the file that `driqa export -o model.onnx` wrote")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=pathlib.Path("site"), help="a folder (site)")
    parser.add_argument("--fetch", action="store_true", help="only bring onnxruntime-web into the cache folder")
    args = parser.parse_args(arguments)
    if args.fetch == bool(args.model):
        parser.error("give a model, or --fetch alone")
    try:
        if args.fetch:
            print(fetch())
        else:
            build(args.model, args.output)
            print(f"{args.output}: serve it with: python -m http.server -d {args.output}")
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
