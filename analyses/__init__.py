"""Records in; numbers, figures, the report and the command line out."""
