"""Datasets from tables: drawn charts, tables, forms and listings, with queries whose answers are exact."""
