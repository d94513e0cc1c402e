"""Grafana dashboards, described in Python: what is shown, from which views and metrics, held to which objectives.

They are plain typed values rather than those of Grafana's foundation SDK: the deployed program writes them, with the
objectives that it is held to, the SDK would have to be part of its image, and it has no type for queries of PostgreSQL.
"""
