"""Warehouse: the views and what is shown of them."""
