"""Tests of what the benchmarks compute and write; nothing is measured here."""
