"""BIQ2021 for tensorflow_datasets, from a folder that the user has: nothing is downloaded."""

import tensorflow_datasets as tfds

from driqa_jax.data.builders.biq2021.layout import LAYOUT
from driqa_jax.data.builders.rated_pictures import RatedPictures


class Builder(RatedPictures):
    """BIQ2021; its traps stand in the layout."""

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES = {
        "1.0.0": "First.",
        "1.1.0": "Groups find exposures and blurs of one scene, and no longer chain horizons.",
        "1.2.0": "The features that all sets have; pictures, scores and groups as before.",
    }
    LAYOUT = LAYOUT
