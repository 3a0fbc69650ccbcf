"""What is in a folder of recordings, what is wrong with it, and what to do before anyone trains."""

from audio_gen.data.doctor.diagnosis import Diagnosis, examine
from audio_gen.data.doctor.draft import check_target, draft_recipe, write_recipe
from audio_gen.data.doctor.findings import Advice
from audio_gen.data.doctor.measure import FileFacts

__all__ = ["Advice", "Diagnosis", "FileFacts", "check_target", "draft_recipe", "examine", "write_recipe"]
