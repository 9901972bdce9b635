"""A session's life: starting, keeping, attaching to and ending its processes.

Nothing is imported here: a keeper is a bare interpreter that imports its few modules one by one.
"""
