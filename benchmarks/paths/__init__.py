"""The hot paths, one in each file.

The functions ``measure_async(lms, host)`` and ``measure_sync(lms, host)`` of a path run with our package and with the
official one, because both have the same names. Some paths also have ``measure_plain(loop)``, for loops without any SDK.
All functions return figures: ``{"name.cpu": seconds per operation, ...}``.
"""
