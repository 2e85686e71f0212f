"""The Hugging Face Hub: search, download plans and downloads."""
