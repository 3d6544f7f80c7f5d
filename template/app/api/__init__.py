"""Yours: a folder for each version of the API, and in it a folder for each resource."""
