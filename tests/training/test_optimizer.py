"""Labels, schedules and AdamW against torch and closed forms."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.training.optimizer import (
    ParameterLabel,
    cosine_schedule,
    is_under,
    label_parameters,
    make_optimizer,
    parameter_table,
    step_schedule,
)

SHAPES = {
    "backbone.pos_embed": (1, 5, 4),
    "backbone.patch_embed.kernel": (12, 4),
    "backbone.blocks.0.norm1.scale": (4,),
    "backbone.blocks.0.attn.qkv.kernel": (4, 12),
    "backbone.blocks.1.mlp.experts.bias": (6, 4),
    "backbone.last_norm.bias": (4,),
    "neck.level.kernel": (4, 4),
    "decoder.final.kernel": (4, 17),
}
PARAMETERS = {name: jnp.ones(shape) for name, shape in SHAPES.items()}


def test_labels_by_depth_and_rank():
    labels = label_parameters(PARAMETERS, layer_decay=0.5)
    assert [label.lr_scale for label in labels.values()] == [
        *(0.125, 0.125, 0.25, 0.25, 0.5, 1.0, 1.0, 1.0)
    ]
    decayed = {name for name, label in labels.items() if label.decayed}
    assert decayed == {name for name in SHAPES if name.endswith("kernel")}
    assert all(label.trainable for label in labels.values())


def test_frozen_parts_by_name():
    labels = label_parameters(PARAMETERS, frozen=("backbone.blocks.1", "neck"))
    frozen = {name for name, label in labels.items() if not label.trainable}
    assert frozen == {"backbone.blocks.1.mlp.experts.bias", "neck.level.kernel"}
    assert not is_under("backbone.blocks.10.x", ["backbone.blocks.1"])
    with pytest.raises(UserError, match="no 'head'"):
        label_parameters(PARAMETERS, frozen=("head",))


def test_table_counts_what_is_trained():
    labels = label_parameters(PARAMETERS, frozen=("backbone",))
    table = parameter_table(PARAMETERS, labels)
    assert f"{sum(np.prod(s) for s in SHAPES.values()):,}" in table
    assert "84 trained" in table
    assert "frozen" in table


def test_step_schedule_is_mmcvs():
    lr, warmup, ratio = 5e-4, 10, 0.001
    schedule = step_schedule(lr, milestones=[20, 30], warmup=warmup, warmup_ratio=ratio)
    for step in (0, 3, 9):
        expected = lr * (1 - (1 - step / warmup) * (1 - ratio))
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-4)
    values = [float(schedule(step)) for step in (10, 19, 20, 29, 30, 99)]
    np.testing.assert_allclose(values, [lr, lr, lr / 10, lr / 10, lr / 100, lr / 100], rtol=1e-5)


def test_cosine_schedule():
    schedule = cosine_schedule(1.0, total=100, final_ratio=0.1, warmup=0, warmup_ratio=0.0)
    values = [float(schedule(step)) for step in (0, 50, 100)]
    np.testing.assert_allclose(values, [1.0, 0.55, 0.1], rtol=1e-5)


def test_adamw_is_torchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    start = rng.standard_normal((3, 4)).astype(np.float32)
    labels = {"w": ParameterLabel(True, 0.3, True), "b": ParameterLabel(True, 1.0, False)}
    optimizer = make_optimizer("adamw", labels, lambda step: 1e-2, weight_decay=0.1, clip_norm=1.0)
    ours = {"w": jnp.asarray(start), "b": jnp.asarray(start[0])}
    state = optimizer.init(ours)
    w, b = torch.nn.Parameter(torch.tensor(start)), torch.nn.Parameter(torch.tensor(start[0]))
    groups = [
        {"params": [w], "lr": 3e-3, "weight_decay": 0.1},
        {"params": [b], "lr": 1e-2, "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups)
    for _ in range(5):
        grads = {"w": rng.standard_normal((3, 4)), "b": 0.1 * rng.standard_normal(4)}
        grads = {name: value.astype(np.float32) for name, value in grads.items()}
        updates, state = optimizer.update(grads, state, ours)
        ours = optax.apply_updates(ours, updates)
        w.grad, b.grad = torch.tensor(grads["w"]), torch.tensor(grads["b"])
        torch.nn.utils.clip_grad_norm_([w, b], 1.0)
        theirs.step()
    np.testing.assert_allclose(ours["w"], w.detach().numpy(), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(ours["b"], b.detach().numpy(), rtol=2e-5, atol=1e-6)


def test_muon_turns_the_blocks_matrices_orthogonally_and_leaves_the_rest_to_adam():
    rng = np.random.default_rng(0)
    parameters = {
        name: jnp.asarray(rng.standard_normal(shape), jnp.float32)
        for name, shape in {
            "backbone.blocks.0.mlp.fc1.kernel": (16, 64),
            "backbone.blocks.0.mlp.fc1.bias": (64,),
            "decoder.final.kernel": (16, 17),
        }.items()
    }
    labels = label_parameters(parameters)
    options = {"weight_decay": 0.1, "clip_norm": None, "b2": 0.99}
    grads = {name: 3e-3 * value**3 for name, value in parameters.items()}
    found = {}
    for kind in ("adamw", "muon"):
        optimizer = make_optimizer(kind, labels, lambda step: 1e-2, **options)
        updates, _ = optimizer.update(grads, optimizer.init(parameters), parameters)
        found[kind] = updates
    matrix = "backbone.blocks.0.mlp.fc1.kernel"
    for name in parameters:
        if name != matrix:
            np.testing.assert_array_equal(found["muon"][name], found["adamw"][name])
    # Without the decay: all singular values near lr * 0.2 * sqrt(64), along the gradient.
    turned = -(found["muon"][matrix] / 1e-2 + 0.1 * parameters[matrix])
    values = np.linalg.svd(turned / (0.2 * 8), compute_uv=False)
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert np.sqrt(np.mean(turned**2)) == pytest.approx(0.2, rel=0.2)
    assert np.vdot(turned, grads[matrix]) > 0


def test_muon_turns_each_expert_by_itself():
    gradient = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    alone, experts = "backbone.blocks.0.mlp.fc2.kernel", "backbone.blocks.0.mlp.experts.kernel"
    of_experts = np.zeros((6, 64, 8), np.float32)
    of_experts[2] = gradient  # the only one whose data were in the batch
    grads = {alone: jnp.asarray(gradient), experts: jnp.asarray(of_experts)}
    labels = label_parameters(grads)
    optimizer = make_optimizer("muon", labels, lambda step: 1.0, weight_decay=0.0, clip_norm=None)
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads)
    np.testing.assert_allclose(updates[experts][2], updates[alone], rtol=1e-3, atol=1e-4)
    assert not np.delete(updates[experts], 2, axis=0).any()
