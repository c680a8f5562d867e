"""The configuration of a protocol of trainings: every key there is, with its default."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from driqa_jax.train.config import default as default_training


def default(
    rows: Mapping[str, Mapping[str, Any]], across: Mapping[str, Mapping[str, Any]] | None = None
) -> ml_collections.ConfigDict:
    """A protocol; a config file returns a changed copy.

    Args:
      rows: by name what each row of the table changes in `base`, {"loss.rs_weight": 0.0}; or {"weights": NAME}, a
        bundled model, weights file or workdir that scores as it is and is not trained; or {"baseline": "ridge"}, a
        kernel ridge on what the stage "heads" keeps. Differences are taken against the first row.
      across: by name the other data sets that every row is tested on, each with the keys of `other_set` that differ.
    """
    config = ml_collections.ConfigDict(
        {
            "kind": "training",
            # A training's configuration, see driqa_jax/train/config.py. Its data.train, data.val and data.split_file
            # are set by the split, its seed and data.fold by the seeds.
            "base": default_training(),
            "rows": tuple((name, tuple(changes.items())) for name, changes in rows.items()),
            "splits": {
                # "official" (the set's own), "hash" (by stable hash), "subset" (each held out in turn), "published"
                # (ARNIQA's or LIQE's folder), "files" (that `driqa data split` wrote).
                "kind": "official",
                "numbers": (0,),  # of hash and published splits
                "test": 0.2,  # share of a hash split's groups
                "val": 0.1,  # share of the others
                # A part of the set's own split that hash and subset splits are drawn within; the rest is left out.
                "of": "",
                "subsets": (),  # which are held out; () each
                "folder": "",
                "files": (),
            },
            "seeds": (0,),
            # The part of the training's own data set that is tested on; "" for none.
            "test": "test",
            "across": {name: {**OTHER_SET, "name": name, **keys} for name, keys in (across or {}).items()},
            # Which parameters are tested: the last, those best on validation, and, only ever beside them,
            # "best_on_test". The first stand in figures and differences.
            "checkpoints": ("last", "val_selected"),
            "bootstrap": 1000,
            "cpu_devices": 0,  # parts of a batch side by side on a CPU; 0: cores, or the next below that divides it
        }
    )
    return config.lock()


# One of the other data sets; those without a path (fake ones apart) are left out.
OTHER_SET = {
    "kind": "tfds",
    "name": "",
    "path": "",
    "mos_range": (),
    "score_column": "",
    "split_column": "",
    "images": "",
    "fake_count": 64,
    "split": "all",
    "height": 0,  # where not 0, every picture is brought to this height first, as its viewers saw it
    "canvas": (512, 512),  # holds the whole picture of any shape, as scoring does
}
