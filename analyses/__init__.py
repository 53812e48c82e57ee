"""Records in; numbers, figures, the report and the command line out."""

from fwbio.analyses.agreement import readout_agreement, relative_error, weight_agreement
from fwbio.analyses.compare import compare, summary
from fwbio.analyses.recall import chance_level, recall_accuracy, recall_by_lag, recall_cosine

__all__ = [
    "chance_level",
    "compare",
    "readout_agreement",
    "recall_accuracy",
    "recall_by_lag",
    "recall_cosine",
    "relative_error",
    "summary",
    "weight_agreement",
]
