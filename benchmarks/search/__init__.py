"""The search for a skip scheme that is worth its cost.

``gated_grid``: the full grid, trained with a gate on every edge. ``drop``: which edges a budget
leaves. ``scheme_file``: the table that is left, as Python and as a picture. ``command``: all of it.
"""
