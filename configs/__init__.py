"""Configurations, one file each; installed as `vitpose_jax.configs`."""
