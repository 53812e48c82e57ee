"""The report: pages that open anywhere, with figures for day and night and an explorer."""
