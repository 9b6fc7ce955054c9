"""Scripts that convert weights and data sets; installed as `vitpose_jax.convert`."""
