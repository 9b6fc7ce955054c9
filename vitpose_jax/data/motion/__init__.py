"""Motion: tracks, windows, 3DPW, synthetic motion."""
