"""Tests run strict: eight fake devices, no silent rank promotion, one compile cache."""

import os
import pathlib

# Tests compile much and run little: a quarter of their time went into optimizing machine code. Processes that they
# start inherit it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported

import jax  # noqa: E402
import pytest  # noqa: E402

CACHE = pathlib.Path(os.environ.get("DRIQA_TEST_CACHE", pathlib.Path.home() / ".cache" / "driqa_jax" / "tests-xla"))

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)

# Files that take 20 s or more. They start first, so that no worker is left with one of them at the end.
SLOW = (
    *("train", "deduction", "golden", "protocol", "recipes", "quality_loss", "model", "rank", "durability"),
    *("signal_statistics", "heads", "steps", "explain", "examination", "serve_page", "scale", "wheel", "processes"),
    *("executors", "ablations", "restored", "stablehlo", "onnx"),
)


def pytest_collection_modifyitems(items):
    """Slow files first; within a file, and among the others, the order stays."""
    place = {f"test_{name}.py": number for number, name in enumerate(SLOW)}
    items.sort(key=lambda item: place.get(item.path.name, len(SLOW)))


@pytest.fixture
def root() -> pathlib.Path:
    """The repository's root."""
    return pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def tiny_variant():
    """The tiny model among the variants while a module runs: `pytestmark = pytest.mark.usefixtures("tiny_variant")`."""
    from tiny_model import tiny

    from driqa_jax.models import driqa

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(driqa.VARIANTS, "tiny", tiny)
        yield
