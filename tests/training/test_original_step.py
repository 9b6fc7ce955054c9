"""One and two optimiser steps against the original's numbers (loss_grad, layer_decay_vitb)."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import VIT_SIZES
from vitpose_jax.tasks.losses import heatmap_accuracy, mean_squared_error
from vitpose_jax.training.optimizer import label_parameters, make_optimizer
from vitpose_jax.training.state import create_state, merge_model, split_model
from vitpose_jax.training.step import make_train_step
from vitpose_jax.weights import load_pose_model
from vitpose_jax.weights.mapping import backbone_rows, decoder_rows, to_torch

SAMPLED_ABOVE, EVERY = 2_000, 16  # larger arrays are stored as every 16th value


def as_original(arrays, config):
    """Our arrays by name -> the original's, as numpy."""
    rows = backbone_rows(config.backbone) + decoder_rows(config.decoder)
    rows = [row for row in rows if row.ours in arrays]
    tensors = to_torch({k: np.asarray(v) for k, v in arrays.items()}, rows, "original")
    return {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}


def close(name, ours, reference, rtol):
    """Largest error relative to the array's largest value; a key bias has no true gradient."""
    ours = np.asarray(ours, np.float64)
    if reference.size != ours.size:
        assert ours.size > SAMPLED_ABOVE
        ours = ours.reshape(-1)[::EVERY]
    reference = reference.reshape(ours.shape).astype(np.float64)
    if name.endswith("qkv.bias"):
        width = len(ours) // 3
        keep = np.r_[:width, 2 * width : 3 * width]
        ours, reference = ours[keep], reference[keep]
    error = np.abs(ours - reference).max() / np.abs(reference).max()
    assert error < rtol, f"{name}: {error:.2e}"


@pytest.fixture(scope="module")
def setup(golden):
    inputs = np.load(golden / "inputs.npz")["x"].transpose(0, 2, 3, 1)
    reference = np.load(golden / "loss_grad.npz")
    model = load_pose_model(golden / "vitpose_tiny_classic.pth", num_heads=3)
    return model, inputs, reference


def batch_of(inputs, reference, prefix=""):
    return {
        "x": jnp.asarray(inputs[reference[f"{prefix}x_index"]]),
        "target": jnp.asarray(reference[f"{prefix}target"].transpose(0, 2, 3, 1)),
        "weight": jnp.asarray(reference[f"{prefix}target_weight"][..., 0]),
    }


def loss_fn(model, batch, key):
    heatmaps = model(batch["x"], train=True, key=key)
    loss = mean_squared_error(heatmaps, batch["target"], batch["weight"])
    accuracy = heatmap_accuracy(heatmaps, batch["target"], batch["weight"])
    return loss, {"accuracy": accuracy}


def stepper(graph, labels, clip_norm):
    optimizer = make_optimizer(
        "adamw", labels, lambda step: 5e-4, weight_decay=0.1, clip_norm=clip_norm
    )
    return optimizer, jax.jit(make_train_step(graph, loss_fn, optimizer))


def test_loss_and_gradients(setup):
    model, inputs, reference = setup
    graph, parameters, other = split_model(model)

    def loss(parameters):
        return loss_fn(merge_model(graph, parameters, other), batch, jax.random.key(0))[0]

    batch = batch_of(inputs, reference)
    value, grads = jax.jit(jax.value_and_grad(loss))(parameters)
    assert float(value) == pytest.approx(float(reference["loss"]), rel=1e-5)
    names = as_original(grads, model.config)
    assert len(names) == sum(name.startswith("grad/") for name in reference.files)
    for name, ours in names.items():
        close(name, ours, reference[f"grad/{name}"], 1e-4)


def test_two_steps(setup):
    model, inputs, reference = setup
    graph, parameters, other = split_model(model)
    labels = label_parameters(parameters, layer_decay=0.75)
    optimizer, step = stepper(graph, labels, 1.0)
    state = create_state(parameters, other, labels, optimizer, ema=False)
    key = jax.random.key(0)

    state, metrics = step(state, batch_of(inputs, reference), key)
    assert float(metrics["loss"]) == pytest.approx(float(reference["loss"]), rel=1e-5)
    assert float(metrics["grad_norm"]) == pytest.approx(float(reference["grad_norm"]), rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx(float(reference["acc_pose"]), abs=1e-6)
    for name, ours in as_original(state.trainable, model.config).items():
        close(name, ours, reference[f"after/{name}"], 1e-4)
    for name, ours in as_original(state.other, model.config).items():
        close(name, ours, reference[f"bn/{name}"], 1e-4)

    _, clipped = stepper(graph, labels, float(reference["step2_max_norm"]))
    state, metrics = clipped(state, batch_of(inputs, reference, "step2_"), key)
    assert float(metrics["loss"]) == pytest.approx(float(reference["step2_loss"]), rel=1e-4)
    norm = float(reference["step2_grad_norm"])
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-4)
    for name, ours in as_original(state.trainable, model.config).items():
        if f"step2_after/{name}" in reference.files:
            close(name, ours, reference[f"step2_after/{name}"], 1e-4)
    for name, ours in as_original(state.other, model.config).items():
        close(name, ours, reference[f"step2_bn/{name}"], 1e-4)


def test_every_parameter_of_vitpose_b_is_labelled_alike(golden):
    reference = json.loads((golden / "layer_decay_vitb.json").read_text())
    config = PoseConfig(VIT_SIZES["base"], DecoderConfig())
    shapes = nnx.eval_shape(lambda: PoseModel(config, rngs=nnx.Rngs(0)))
    _, parameters, _ = split_model(shapes)
    labels = label_parameters(parameters, layer_decay=0.75)
    rows = backbone_rows(config.backbone) + decoder_rows(config.decoder)
    ours = {row.original[0]: labels[row.ours] for row in rows if row.ours in labels}
    assert set(ours) == set(reference["params"])
    for name, expected in reference["params"].items():
        assert ours[name].lr_scale == pytest.approx(expected["lr_scale"], rel=1e-9), name
        assert 0.1 * ours[name].decayed == expected["weight_decay"], name
