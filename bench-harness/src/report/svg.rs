//! Plots as SVG, written by hand: bars of medians with whiskers, and latency percentiles.
