"""The provenance of a score."""

from typing import Any

from driqa_jax.inference.scorer import Scorer
from driqa_jax.provenance import versions


def describe(scorer: Scorer) -> dict[str, Any]:
    """Plain values for JSON: the model, its view rule, effort, calibration, device and software versions."""
    return {
        "model": scorer.name,
        "variant": scorer.metadata.get("variant"),
        "sha256": scorer.sha256,
        "runtime": scorer.executor.name,
        "effort": scorer.effort,
        "view": scorer.rule.to_dict(),
        "calibration": scorer.calibration.to_dict(),
        **({"own_scale": scorer.own_scale.to_dict()} if scorer.own_scale else {}),
        "degradations": list(scorer.degradations),
        "device": scorer.executor.described,
        "versions": versions(scorer.executor.packages),
    }
