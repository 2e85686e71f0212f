"""The commands of `lmsa`, one module each, which is imported when its command is used."""
