"""The figures of a study, as data: one table, from which the page, the Markdown and the images are all made."""

from __future__ import annotations

from secateur.report.figures.table import NOT_ASKED, first_figure, study_figures

__all__ = ["NOT_ASKED", "first_figure", "study_figures"]
