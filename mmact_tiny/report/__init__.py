"""Writes the report of a run, or of several side by side: `report.write_report`, `try_report`."""
