"""The models in the models folder, and what their files say about them."""
