"""Decisions about many nodes: who lives, what runs where, which bytes go where.

Pure, like all of `policy`.
"""
