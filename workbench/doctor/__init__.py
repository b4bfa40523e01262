"""What is installed here, which of it is known not to work together, and what to do about it?

Versions come from package metadata; only what may be broken is imported, and that in processes of its own.
"""

from workbench.doctor.errors import Explanation, explain
from workbench.doctor.examination import Examination, examine

__all__ = ["Examination", "Explanation", "examine", "explain"]
