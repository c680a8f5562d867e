"""CSIQ for tensorflow_datasets, from a folder that the user has: nothing is downloaded."""

import tensorflow_datasets as tfds

from driqa_jax.data.builders.csiq.layout import LAYOUT
from driqa_jax.data.builders.rated_pictures import RatedPictures


class Builder(RatedPictures):
    """CSIQ; its traps stand in the layout."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    LAYOUT = LAYOUT
