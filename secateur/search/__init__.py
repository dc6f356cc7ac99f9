"""Which candidate comes next: a grid, random or quasi-random points, or Bayesian optimisation with Ax.

Importing Ax takes seconds: only `ax_optimiser` does, and only `proposer.propose` imports that, when it is needed.
"""
