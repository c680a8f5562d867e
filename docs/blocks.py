"""Measured figures into pages, between their `<!-- name -->` and `<!-- /name -->` marks."""

import pathlib
import re


def write_blocks(page: pathlib.Path, blocks: dict[str, str]) -> None:
    """Replace what stands between the marks of each block that the page has."""
    text = page.read_text()
    for name, block in blocks.items():
        body = f"<!-- {name} -->\n{block}\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->(?:.*?<!-- /{name} -->)?", lambda _, body=body: body, text, flags=re.S)
    page.write_text(text)
