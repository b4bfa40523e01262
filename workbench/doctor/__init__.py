"""Examination of the installation: package versions, known conflicts and what to do; explained errors.

Versions come from package metadata; only packages that may be broken are imported, each in a process of its
own.
"""

from workbench.doctor.examination import Examination, Explanation, examine, explain

__all__ = ["Examination", "Explanation", "examine", "explain"]
