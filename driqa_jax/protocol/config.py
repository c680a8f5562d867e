"""The configuration of a protocol of trainings: all keys with their defaults."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from driqa_jax.data.open import OPENED_BY
from driqa_jax.train.config import KEYS
from driqa_jax.train.config import default as default_training


def default(rows: Mapping[str, Mapping[str, Any]], across: Mapping[str, Mapping[str, Any]] | None = None) -> ConfigDict:
    """A protocol; a config file returns a changed copy.

    Args:
      rows: by name what each row of the table changes in `base`, such as {"loss.rs_weight": 0.0}; or {"weights": NAME},
        a bundled model, weights file or workdir that is tested without training; or {"baseline": "ridge"}, a kernel
        ridge on the features of the stage "heads". Differences are relative to the first row.
      across: by name the other data sets for tests, each with the keys of `OTHER_SET` that it changes.
    """
    config = ConfigDict(
        {
            "kind": "training",
            # The training's configuration, see driqa_jax/train/config.py. The split sets data.train, data.val and
            # data.split_file; the seeds set seed and data.fold.
            "base": default_training(),
            "rows": tuple((name, tuple(changes.items())) for name, changes in rows.items()),
            "splits": {
                # "official" (of the data set), "hash" (by stable hash), "subset" (hold out each in turn), "published"
                # (the folder of ARNIQA or LIQE), "files" (from `driqa data split`).
                "kind": "official",
                "numbers": (0,),  # of hash and published splits
                "test": 0.2,  # share of a hash split's groups
                "val": 0.1,  # share of the remaining groups
                # The part of the official split that hash and subset splits are drawn from; "" for all.
                "of": "",
                "subsets": (),  # to hold out; () for each
                "folder": "",
                "files": (),
            },
            "seeds": (0,),
            # The part of the training's own data set for tests; "" for none.
            "test": "test",
            "across": {name: {**OTHER_SET, "name": name, **keys} for name, keys in (across or {}).items()},
            # The parameters to test: the last, those best on validation, and "best_on_test", never as the first.
            # Figures and differences use the first.
            "checkpoints": ("last", "val_selected"),
            "bootstrap": 1000,
            "cpu_devices": 0,  # CPU devices that share a batch; 0: the number of cores or the next lower divisor
        }
    )
    return config.lock()


# One of the other data sets. Sets without a path are skipped, except the kind "fake".
OTHER_SET = {
    **{key: KEYS[f"data.{key}"].default for key in OPENED_BY},
    "name": "",
    "split": "all",
    "height": 0,  # rows to which each image is resized, as its viewers saw it; 0: no resizing
    "canvas": (512, 512),  # holds the whole image of any shape, as in scoring
}
