"""tfds builders, a package each: `NAME/NAME_dataset_builder.py` with a class `Builder`."""
