"""Polishing: gradient steps on a memory's keys, values and biases, the model frozen."""
