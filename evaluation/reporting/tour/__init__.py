"""What `make tour` adds to a report: a module for each of its stages, which is found by lying here.

A module of this folder with a `STAGE` (`evaluation.reporting.tour_stage.TourStage`) says which files of the
quickstart's folder it reads, which keys of report.json they give and what stands of them in report.md. Nothing else has
to be told of it. Files that aren't there give no keys; files that can't be used are named in one line of the log.
"""
