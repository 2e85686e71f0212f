"""One file per hot path.

Each has functions that do the same with ours and with the official package, whose names are the same:
``measure_async(lms, host)`` and ``measure_sync(lms, host)``; and, where that makes sense, ``measure_plain(loop, host)``
for loops without any SDK. All give figures: ``{"name.cpu": seconds per thing, ...}``.
"""
