"""Decisions without doing: state and event in, actions out. Nothing here does I/O or reads a clock."""
