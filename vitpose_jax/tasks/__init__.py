"""Pose estimation and forecasting as training problems."""
