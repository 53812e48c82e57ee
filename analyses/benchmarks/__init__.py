"""Benchmarks of kernels, synapses and training: beside their peers, gated by their errors."""
