"""Training, offline: a recipe in, an artifact out. May import models, never the service."""


class Mistake(ValueError):
    """Something that the person at the keyboard can put right; the command line prints its sentence alone."""
