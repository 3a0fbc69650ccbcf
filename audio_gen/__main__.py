"""`python -m audio_gen` is `audio-gen`."""

from audio_gen.cli import main

if __name__ == "__main__":
    main()
