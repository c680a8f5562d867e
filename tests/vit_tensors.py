"""Parameters of a ViT as the two public formats lay them out, written from their documentation for the tests."""

import numpy as np


def as_augreg(tensors, heads):
    """timm's tensors under the names and shapes of the ViT authors' .npz."""
    width = tensors["cls_token"].shape[-1]
    split = (heads, width // heads)
    found = {
        "cls": tensors["cls_token"],
        "Transformer/posembed_input/pos_embedding": tensors["pos_embed"],
        "embedding/kernel": tensors["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": tensors["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": tensors["norm.weight"],
        "Transformer/encoder_norm/bias": tensors["norm.bias"],
        "head/kernel": tensors["head.weight"].T,
        "head/bias": tensors["head.bias"],
    }
    for number in range(sum(name.endswith("norm1.weight") for name in tensors)):
        theirs, mine = f"blocks.{number}.", f"Transformer/encoderblock_{number}/"
        attention = mine + "MultiHeadDotProductAttention_1/"
        weight, bias = tensors[theirs + "attn.qkv.weight"], tensors[theirs + "attn.qkv.bias"]
        for place, key in enumerate(("query", "key", "value")):
            rows = slice(place * width, (place + 1) * width)
            found[f"{attention}{key}/kernel"] = weight[rows].T.reshape(width, *split)
            found[f"{attention}{key}/bias"] = bias[rows].reshape(split)
        found[attention + "out/kernel"] = tensors[theirs + "attn.proj.weight"].T.reshape(*split, width)
        found[attention + "out/bias"] = tensors[theirs + "attn.proj.bias"]
        for norm, name in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            found[f"{mine}{name}/scale"] = tensors[f"{theirs}{norm}.weight"]
            found[f"{mine}{name}/bias"] = tensors[f"{theirs}{norm}.bias"]
        for layer in (0, 1):
            found[f"{mine}MlpBlock_3/Dense_{layer}/kernel"] = tensors[f"{theirs}mlp.fc{layer + 1}.weight"].T
            found[f"{mine}MlpBlock_3/Dense_{layer}/bias"] = tensors[f"{theirs}mlp.fc{layer + 1}.bias"]
    return {name: np.ascontiguousarray(value) for name, value in found.items()}
