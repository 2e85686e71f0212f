"""The checks of `lmsa doctor`. Each is bounded in time and changes nothing."""
