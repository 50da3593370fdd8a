"""``python -m speech_engine_local`` is ``speech-engine``."""

from .cli import main

if __name__ == "__main__":
    main()
