"""The JSON of the server: its schemas, which OpenAPI shows, and the entries of images."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from driqa_jax.reports.colormap import data_url, overlay

if TYPE_CHECKING:
    from driqa_jax.inference.explain import Explanation
    from driqa_jax.inference.scorer import Result
    from driqa_jax.reports.meaning import Meaning

ImageFormat = Literal["webp", "png"]
_WEBP_SIDE = 16383
# Visually lossless. Method 2 takes a third of the time of the default 4 and adds a few percent of bytes.
_SAVING = {"webp": {"quality": 92, "method": 2}, "png": {"compress_level": 3}}


class Model(BaseModel):
    """The model of the server."""

    name: str
    sha256: str


class Scored(BaseModel):
    """One image: its score, or the reason why it has none."""

    name: str = Field(description="the client's name of the image")
    score: float | None = Field(description="0 to 100, higher is better; null after an error")
    uncertainty: float | None = Field(None, description="half width of the 90 % interval around the score, in points")
    error: str | None = None
    percentile: float | None = Field(None, description="share of reference photos below, with `--percentile` only")
    band: str | None = Field(None, description="with `--bands` only")


class Scores(BaseModel):
    """The answer of /v1/score, in the order of the images."""

    model: Model
    results: list[Scored]


class Degradation(BaseModel):
    """One type of degradation. The severity has no meaning if the probability is small."""

    name: str
    label: str = Field(description="readable name")
    probability: float
    severity: float
    visibility: float | None = Field(None, description="probability that a person sees it, if the model estimates it")


class Found(BaseModel):
    """What stands out: a group of types of degradation in a photographer's words."""

    group: str = Field(description="code, such as blur")
    words: str = Field(description="such as camera shake")
    probability: float
    visible: Literal["faint", "clear", "strong"]
    where: str = Field(description="part of the photo, everywhere, or in places; empty if unknown")
    types: list[str] = Field(description="names of its degradations")


class Map(BaseModel):
    """The range of a quality map and of its colors."""

    lowest: float
    highest: float
    scale: tuple[float, float] = Field(description="scores at the ends of the color scale")
    even: bool = Field(description="whether all cells differ by less than `resolution`; the image is then of one color")
    resolution: float = Field(description="least difference that a map can show, in points")


class Images(BaseModel):
    """data: URLs."""

    picture: str = Field(description="the decoded image, reduced if large")
    restored: str | None = Field(description="the restored image, same size; null if the model has no restorer")
    quality_map: str = Field(description="the quality map in color over the image in gray, same size")


class Explained(Scored):
    """One image and the explanation of its score; all null after an error."""

    width: int | None = None
    height: int | None = None
    findings: list[Found] | None = Field(None, description="what stands out, at most three, most probable first")
    named: list[str] | None = Field(None, description="names of the prominent degradations")
    degradations: list[Degradation] | None = Field(None, description="all types, most probable first")
    quality_map: list[list[float]] | None = Field(None, description="0 to 100, rows of cells from the top")
    weights: list[list[float]] | None = Field(None, description="weight of each cell; the sum is 1")
    map: Map | None = None
    images: Images | None = None


class Explanations(BaseModel):
    """The answer of /v1/explain, in the order of the images."""

    model: Model
    results: list[Explained]


class Health(BaseModel):
    """The state and the limits of the server."""

    status: Literal["ok", "starting", "failed"]
    version: str
    model: Model
    limits: dict[str, float]


class Problem(BaseModel):
    """The reason why a request failed."""

    error: str


class JSON(Response):
    """JSON without the special characters of HTML, so that a file name cannot become a tag."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()


def failure(name: str, reason: str) -> dict[str, Any]:
    """The entry of an image without a score."""
    return {"name": name, "score": None, "uncertainty": None, "error": reason}


def score(name: str, result: Result, meaning: Meaning | None = None) -> dict[str, Any]:
    """The entry of a scored image, with percentile and band if `meaning` has them."""
    entry = {"name": name, "score": result.score, "uncertainty": result.uncertainty, "error": None}
    return {**entry, **(meaning.values(result.score) if meaning else {})}


def explanation(name: str, explained: Explanation, kind: ImageFormat, meaning: Meaning | None = None) -> dict[str, Any]:
    """The entry of an explained image. Slow: encodes three images, as PNG if a side is too long for WebP."""
    kind = "png" if max(explained.picture.shape[:2]) > _WEBP_SIDE else kind
    images = {"picture": explained.picture, "restored": explained.restored, "quality_map": overlay(explained)}
    saving = _SAVING[kind]
    urls = {key: None if image is None else data_url(image, kind, **saving) for key, image in images.items()}
    values = {**explained.to_dict(), "name": name, "error": None, "images": urls}
    meant = meaning.values(explained.score) if meaning else {}
    return {**{field: values[field] for field in Explained.model_fields if field in values}, **meant}
