"""A pretrained decoder made wider without changing its heatmaps.

A wide decoder that is trained anew would have to learn first what the pretrained one knows. Here
the pretrained channels stay, and what reads the new ones starts at zero (as in Chen et al.,
"Net2Net", ICLR 2016), so that both start from the same heatmaps.
"""

import jax.numpy as jnp
import numpy as np

from vitpose_jax.models.pose import PoseModel


def widen_into(model: PoseModel, pretrained: PoseModel) -> None:
    """Give a model with random weights, in place, the decoder of one that is narrower."""
    wide, narrow = model.decoder, pretrained.decoder
    known = [norm.scale.shape[0] for norm in narrow.norms]
    inputs = None  # of the pretrained channels among the layer's inputs; None for all
    for i, outputs in enumerate(known):
        _extend(wide.deconvs[i].kernel, narrow.deconvs[i].kernel, inputs, outputs)
        for name in ("scale", "bias", "mean", "var"):
            new = getattr(wide.norms[i], name)
            new[...] = new[...].at[:outputs].set(getattr(narrow.norms[i], name)[...])
        inputs = outputs
    kernel = wide.final.kernel
    kernel[...] = jnp.zeros_like(kernel[...]).at[:inputs].set(narrow.final.kernel[...])
    wide.final.bias[...] = narrow.final.bias[...]


def _extend(kernel, pretrained, inputs: int | None, outputs: int) -> None:
    """Set a deconvolution's kernel (4, 4, in, out); new inputs do not reach the old outputs."""
    values = np.array(kernel[...])
    values[:, :, :, :outputs] = 0
    values[:, :, :inputs, :outputs] = pretrained[...]
    kernel[...] = jnp.asarray(values)
