"""The steps of a trial: propose, compress, measure, test; with a gate, it is exported, measured and admitted first.

Each is idempotent: done twice, it changes nothing.

A record is written by each step that was completed: a process that is killed loses the step it was at, and nothing
else. Each step is a module of its own, since each runs where the others' libraries need not be installed.
"""
