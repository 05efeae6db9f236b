"""Run fincon under Prefect: a file for each flow, and what they share."""
