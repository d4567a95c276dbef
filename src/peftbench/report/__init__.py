"""Reports: tables for a terminal, in Markdown and as CSV, and a page of one HTML file.

Everything is computed from records, without torch; matplotlib, Jinja2 and rich are imported when they are needed.
"""

from __future__ import annotations

from peftbench.report._write import ReportFiles, terminal_tables, write_report

__all__ = ["ReportFiles", "terminal_tables", "write_report"]
