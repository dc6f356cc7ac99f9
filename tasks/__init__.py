"""Prefect tasks: retries, logging, progress; what is done stands in `secateur`."""
