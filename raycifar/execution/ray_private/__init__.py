"""Every private name of Ray that the product uses, with the reason. Read in Ray 2.60.

A Ray that has one of them elsewhere makes tests/execution/test_ray_private.py say so.
"""
