"""Conformance cases for trainers on preferences: JSON files, their generator, a runner, adapters."""
